"""Large weights lie beside the graph; the original's memory is given back before the graph is checked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgekit
from edgekit.errors import EdgekitError
from edgekit.exporting import onnx as writing
from edgekit.files.digests import file_digest
from edgekit_onnxruntime.session import open_session
from edgekit_runtime.goldens import read_goldens
from edgekit_runtime.values import OpenRequest

DATA = "model.onnx.data"


@pytest.fixture(scope="module")
def model(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny classifier, exported as a large model is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "EXTERNAL_OVER_BYTES", 1000)
        return edgekit.export(tiny, tmp_path_factory.mktemp("external") / "model").path


@pytest.fixture(scope="module")
def artifact(model: Path) -> Path:
    options = edgekit.CompileOptions(backend="onnxruntime", precision="fp32")
    return edgekit.compile(model, model.parent / "artifact", options).path


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    """A copy to be harmed."""
    return Path(shutil.copytree(model, tmp_path / "model"))


def test_the_graph_and_its_weights_are_two_files_with_digests_and_nothing_else(model: Path) -> None:
    from edgekit.files.manifests import read_manifest

    manifest = read_manifest(model, "model")
    assert {path.name for path in model.glob("model.onnx*")} == {"model.onnx", DATA}
    assert not [path for path in model.rglob(".*") if path.is_file()]
    assert manifest.model is not None
    assert all(check.passed for check in manifest.model.checks)
    digests = {entry.path: entry.sha256 for entry in manifest.files}
    assert file_digest(model / DATA).endswith(digests[DATA])


def test_every_weight_is_stored_once(model: Path, tiny: Path) -> None:
    stored = onnx.load(model / "model.onnx", load_external_data=False).graph.initializer
    beside = [tensor for tensor in stored if tensor.data_location == onnx.TensorProto.EXTERNAL]
    length = sum(int(entry.value) for each in beside for entry in each.external_data if entry.key == "length")
    assert length == (model / DATA).stat().st_size
    assert (model / DATA).stat().st_size <= (tiny / "model.safetensors").stat().st_size


def test_the_compiled_model_answers_as_the_original_did(model: Path, artifact: Path) -> None:
    session = open_session(OpenRequest(directory=artifact, precision="fp32"))
    for golden in read_goldens(model / "golden"):
        got = session.run(golden.feeds)
        assert all(np.allclose(got[name], array, atol=1e-5) for name, array in golden.outputs.items())
    session.close()


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-8]),
        lambda path: path.write_bytes(bytes(8) + path.read_bytes()[8:]),
    ],
    ids=["missing", "cut off", "changed"],
)
def test_weights_that_are_not_what_was_exported_are_refused_by_name(
    copy: Path, harm: Callable[[Path], object]
) -> None:
    harm(copy / DATA)
    with pytest.raises(EdgekitError, match=DATA):
        edgekit.compile(copy, copy.parent / "artifact", edgekit.CompileOptions(backend="onnxruntime"))
    assert not (copy.parent / "artifact").exists()


def test_a_second_export_of_the_same_model_has_the_same_weights(
    model: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "EXTERNAL_OVER_BYTES", 1000)
    again = edgekit.export(tiny, tmp_path / "model").path
    assert file_digest(again / DATA) == file_digest(model / DATA)


def test_the_memory_of_the_original_is_given_back_before_the_graph_is_checked(
    folder: Path, tmp_path: Path
) -> None:
    """transformers maps the file of weights; it stays mapped as long as anyone holds one of them."""
    mapped: dict[str, bool] = {}

    def look(_step: int, _of: int, what: str) -> None:
        maps = Path("/proc/self/maps").read_text()
        mapped.setdefault(what, str(folder / "model.safetensors") in maps)

    edgekit.export(folder, tmp_path / "model", on_progress=look)
    assert mapped["exporting"]
    assert not mapped["checking"]


def test_a_module_that_the_caller_holds_keeps_its_weights(tmp_path: Path) -> None:
    import torch

    module = torch.nn.Linear(4, 3).eval()
    before = module.weight.detach().clone()
    options = edgekit.ExportOptions(example_inputs={"x": torch.randn(2, 4)}, dynamic_axes={"x": {0: "batch"}})
    edgekit.export(module, tmp_path / "model", options=options)
    assert torch.equal(module.weight, before)
