"""Models of real size, exported by edgekit and built for every kind of GPU. No engine is run here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.api import Compiled, CompileRequest, PrecisionNotGiven
from edgekit.exporting.quiet import kept_environment
from edgekit.files.manifests import read_manifest
from edgekit.stages.export import export
from edgekit.stages.parents import table_of
from edgekit.values import ModelTable, Workload
from edgekit_runtime.feeds import write_feeds
from edgekit_tensorrt.compiler import Compiler
from edgekit_tensorrt.description import PLAN_FILE, read_description, read_header
from tests.conftest import exported, sentiment  # noqa: F401 - fixtures

from .conftest import target

pytestmark = pytest.mark.slow

AMPERE_ON = "sm_80,sm_86,sm_89,sm_120"
ROWS = 6


@kept_environment()
def picture_model(folder: Path, head: str, config: Any) -> Path:
    """A classifier of pictures with random weights, as transformers saves one."""
    import torch
    import transformers

    torch.manual_seed(0)
    config.id2label = {number: f"class {number}" for number in range(10)}
    config.label2id = {word: number for number, word in config.id2label.items()}
    getattr(transformers, head)(config).eval().save_pretrained(folder)
    transformers.ViTImageProcessor().save_pretrained(folder)
    return folder


def _made(name: str, folder: Path) -> Path:
    import transformers

    if name == "resnet-18":
        sizes = {"embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]}
        config = transformers.ResNetConfig(**sizes, layer_type="basic")
        return picture_model(folder, "ResNetForImageClassification", config)
    sizes = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}
    return picture_model(folder, "ViTForImageClassification", transformers.ViTConfig(**sizes))


@pytest.fixture(scope="module", params=["demo-classifier", "resnet-18", "vit-s"])
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, ModelTable]]:
    """The demo's classifier, which is a MiniLM of 6 layers; and two classifiers of pictures."""
    if request.param == "demo-classifier":
        found = request.getfixturevalue("exported")
    else:
        home = tmp_path_factory.mktemp(request.param)
        export(_made(request.param, home / "source"), home / "model")
        found = home / "model"
    yield found / "model.onnx", table_of(read_manifest(found, "model").model)


def feeds(table: ModelTable) -> list[dict[str, np.ndarray]]:
    drawn = np.random.default_rng(0)
    found = []
    for number in range(ROWS):
        sizes = {"batch": 1, "sequence": 8 + 4 * number, "height": 224, "width": 224}
        row = {}
        for spec in table.signature.inputs:
            shape = [size if isinstance(size, int) else sizes[size] for size in spec.shape]
            if spec.dtype == "float32":
                row[spec.name] = drawn.normal(size=shape).astype(np.float32)
            else:
                high = 1000 if spec.name == "input_ids" else 1
                row[spec.name] = drawn.integers(0, high, size=shape, dtype=np.int64) + (high == 1)
        found.append(row)
    return found


def build(model: tuple[Path, ModelTable], home: Path, precision: str, architectures: str) -> Compiled:
    path, table = model
    write_feeds(home / "rows", feeds(table))
    (home / "artifact").mkdir()
    request = CompileRequest(
        model=path,
        signature=table.signature,
        workdir=home / "artifact",
        precision=precision,
        target=target(workload=Workload()),
        options={"architectures": architectures},
        calibration=home / "rows",
        axes=table.axes,
    )
    return Compiler().compile(request, lambda done, total, what: None)


@pytest.mark.parametrize(
    ("precision", "architectures"),
    [
        ("fp32", AMPERE_ON),
        ("fp16", f"sm_75,{AMPERE_ON}"),
        ("int8", f"sm_75,{AMPERE_ON}"),
        ("fp8", "sm_89,sm_120"),
    ],
)
def test_real_models_are_built_for_every_gpu_that_has_the_precision(
    model: tuple[Path, ModelTable], tmp_path: Path, precision: str, architectures: str
) -> None:
    said = build(model, tmp_path, precision, architectures)
    assert said.precision == precision
    described = read_description(tmp_path / "artifact")
    assert described.architectures == tuple(architectures.split(","))
    header = read_header((tmp_path / "artifact" / PLAN_FILE).read_bytes())
    assert header is not None
    assert header.architectures == described.architectures


def test_fp32_on_turing_is_refused_for_its_products(model: tuple[Path, ModelTable], tmp_path: Path) -> None:
    with pytest.raises(PrecisionNotGiven, match="FP32 GEMM is not supported"):
        build(model, tmp_path, "fp32", "sm_75")
