"""export: a model directory that is proven right, or an error and nothing at all."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from torch import nn

import edgekit.stages.export as stage
from edgekit.errors import ExportFailed, ExportWrong, OutputError, SourceError, UnsafeSource, UsageError
from edgekit.exporting import onnx as writing
from edgekit.files.manifests import read_manifest, verify
from edgekit.stages.export import ExportedModel, ExportOptions, export
from edgekit.values import Tolerance
from edgekit_runtime.goldens import read_goldens
from edgekit_runtime.processors import load_processor
from tests.models import tiny_classifier

pytestmark = pytest.mark.slow

Editor = Callable[[dict[str, torch.Tensor]], object]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("tiny") / "classifier")


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may harm."""
    return Path(shutil.copytree(tiny, tmp_path / "classifier"))


@pytest.fixture(scope="module")
def steps() -> list[tuple[int, int, str]]:
    """Progress of the export that `made` is."""
    return []


def no_connection(*args: object) -> None:
    raise AssertionError(f"a connection was tried: {args}")


@pytest.fixture(scope="module")
def made(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, str]]
) -> ExportedModel:
    """An export made where the network cannot be reached: it never may be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_connection)
        patch.setattr(socket, "getaddrinfo", no_connection)
        place = tmp_path_factory.mktemp("made") / "model"
        return export(tiny, place, on_progress=lambda *step: steps.append(step))


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    """Where a test exports to; nothing half-made may be left beside it."""
    place = tmp_path / "out" / "model"
    yield place
    assert not beside(place)


def beside(place: Path) -> list[str]:
    """What lies beside an output."""
    return [path.name for path in place.parent.glob("*") if path != place]


def take_evidence(place: Path) -> None:
    """A wrong graph leaves one directory beside the output."""
    assert beside(place) == ["model.failed"]
    shutil.rmtree(place.with_name("model.failed"))


def edit_weights(folder: Path, edit: Editor) -> Path:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def refused(source: object, output: Path, error: type[Exception], **options: Any) -> str:
    with pytest.raises(error) as caught:
        export(source, output, options=ExportOptions(**options))  # type: ignore[arg-type]
    assert not output.exists()
    return str(caught.value)


# --- what is made ---------------------------------------------------------------------------------------


def test_the_directory_holds_all_that_later_stages_need(made: ExportedModel) -> None:
    files = {entry.path for entry in made.manifest.files}
    assert files == {
        "model.onnx",
        "processor/processor.json",
        "processor/tokenizer.json",
        "processor/parity.json",
        "golden/golden.safetensors",
        "golden/cases.json",
        "reproduce.sh",
    }
    verify(made.path, read_manifest(made.path, "model"))


def test_the_manifest_tells_what_was_proven(made: ExportedModel) -> None:
    table = read_manifest(made.path, "model").model
    assert table is not None
    assert table.task == "text-classification"
    assert table.labels == ("negative", "positive")
    assert table.source["architecture"] == "BertForSequenceClassification"
    assert {"torch", "transformers", "onnxscript"} <= set(table.tool_versions)
    assert len(table.checks) > 20
    assert all(check.passed and check.agreement == 1.0 for check in table.checks)
    assert {check.shape["batch"] for check in table.checks} >= {1, 2, 5, 7}
    assert 0 < max(check.max_abs_error for check in table.checks) < table.tolerance.atol


def test_goldens_are_the_outputs_of_the_original(made: ExportedModel, tiny: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tiny)
    for golden in read_goldens(made.path / "golden"):
        with torch.no_grad():
            logits = model(**{name: torch.from_numpy(array) for name, array in golden.feeds.items()}).logits
        np.testing.assert_allclose(golden.outputs["logits"], logits.numpy(), atol=1e-6)


def test_the_processor_makes_the_feeds_of_the_goldens(made: ExportedModel) -> None:
    processor = load_processor(made.path / "processor")
    assert processor.check_parity() > 0
    for golden in read_goldens(made.path / "golden"):
        feeds = processor.feeds(golden.rows)
        assert all(np.array_equal(feeds[name], golden.feeds[name]) for name in feeds)


def test_nothing_in_the_directory_names_a_path_of_this_machine(made: ExportedModel, tiny: Path) -> None:
    for entry in made.manifest.files:
        assert str(tiny.parent).encode() not in (made.path / entry.path).read_bytes()


def test_progress_goes_from_nothing_to_all(made: ExportedModel, steps: list[tuple[int, int, str]]) -> None:
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1]
    assert [step[0] for step in steps] == sorted(step[0] for step in steps)
    assert set(made.cpu_seconds) == {what for _, _, what in steps}


def test_a_module_is_exported_through_the_api(output: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)).eval()
    options = ExportOptions(example_inputs={"input": torch.randn(1, 4)}, dynamic_axes={"input": {0: "batch"}})
    result = export(module, output, options=options)
    table = result.manifest.model
    assert table is not None
    assert table.task == "custom"
    assert table.signature.inputs[0].shape == ("batch", 4)
    assert {check.shape["batch"] for check in table.checks} == {1, 2, 7, 13}
    for golden in read_goldens(output / "golden"):
        with torch.no_grad():
            expected = module(torch.from_numpy(golden.feeds["input"]))
        np.testing.assert_array_equal(golden.outputs["output"], expected.numpy())
    assert not export(module, output, options=options).up_to_date


def test_pickled_weights_are_read_with_consent(folder: Path, output: Path, made: ExportedModel) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    export(folder, output, options=ExportOptions(allow_pickle=True))
    same, new = (read_goldens(path / "golden")[0].outputs["logits"] for path in (made.path, output))
    np.testing.assert_array_equal(same, new)


# --- up to date -----------------------------------------------------------------------------------------


def test_the_same_again_does_nothing_and_imports_no_torch(made: ExportedModel, tiny: Path) -> None:
    code = (
        "import sys; from edgekit.stages.export import export;"
        f"result = export({str(tiny)!r}, {str(made.path)!r});"
        "assert result.up_to_date and result.cpu_seconds == {};"
        "assert not {'torch', 'transformers', 'onnx', 'onnx_ir'} & set(sys.modules)"
    )
    before = (made.path / "manifest.json").stat().st_mtime_ns
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (made.path / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "options",
    [
        {"force": True},
        {"opset": 18},
        {"max_length": 32},
        {"tolerance": Tolerance(atol=1e-3, rtol=0.0)},
        {"seed": 3},
        {"name": "other"},
    ],
)
def test_other_options_export_again(
    made: ExportedModel, tiny: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object) -> None:
        raise ExportFailed("exported again")

    monkeypatch.setattr(stage, "_trace", stop)
    with pytest.raises(ExportFailed, match="exported again"):
        export(tiny, made.path, options=ExportOptions(**options))
    assert export(tiny, made.path).up_to_date


def test_changed_weights_or_a_lost_file_export_again(
    made: ExportedModel, folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made.path, output)
    assert export(folder, output).up_to_date

    def stop(*args: object) -> None:
        raise ExportFailed("exported again")

    monkeypatch.setattr(stage, "_trace", stop)
    (output / "model.onnx").rename(output.parent.parent / "elsewhere")
    with pytest.raises(ExportFailed, match="exported again"):
        export(folder, output)
    (output.parent.parent / "elsewhere").rename(output / "model.onnx")
    edit_weights(folder, lambda tensors: tensors["classifier.bias"].add_(1))
    with pytest.raises(ExportFailed, match="exported again"):
        export(folder, output)


# --- a wrong graph never passes ---------------------------------------------------------------------------


def nudge_weight(graph: Any) -> None:
    tensor = next(tensor for tensor in graph.initializer if tensor.name == "classifier.weight")
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] += 0.01
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def swap_labels(graph: Any) -> None:
    for name in ("classifier.weight", "classifier.bias"):
        tensor = next(tensor for tensor in graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[::-1].copy(), name))


def ignore_mask(graph: Any) -> None:
    node = next(node for node in graph.node if node.op_type == "Where")
    node.input[2] = node.input[1]


def approximate_activation(graph: Any) -> None:
    next(node for node in graph.node if node.op_type == "Gelu").attribute[0].s = b"tanh"


@pytest.fixture
def wrong_graph(made: ExportedModel, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the exporter write a graph that was changed; it starts from the right one."""

    def arrange(change: Callable[[Any], None]) -> None:
        save = writing.save

        def save_wrong(model: Any, directory: Path, notes: Mapping[str, str]) -> Path:
            path = save(model, directory, notes)
            altered = onnx.load(path)
            change(altered.graph)
            onnx.save(altered, path)
            return path

        monkeypatch.setattr(writing, "trace", lambda subject, opset: onnx_ir.load(made.path / "model.onnx"))
        monkeypatch.setattr(writing, "save", save_wrong)

    return arrange


def test_a_graph_that_was_not_changed_passes_this_way_too(tiny: Path, output: Path, wrong_graph: Any) -> None:
    wrong_graph(lambda graph: None)
    export(tiny, output)


@pytest.mark.parametrize("change", [nudge_weight, swap_labels, ignore_mask, approximate_activation])
def test_a_wrong_graph_fails_and_leaves_nothing_but_its_evidence(
    tiny: Path, output: Path, wrong_graph: Any, change: Callable[[Any], None]
) -> None:
    wrong_graph(change)
    with pytest.raises(ExportWrong) as caught:
        export(tiny, output)
    assert caught.value.exit_code == 3
    assert "not the same model" in caught.value.message
    assert "batch" in caught.value.message
    assert "sequence" in caught.value.message
    assert not output.exists()
    take_evidence(output)


def test_a_wrong_graph_leaves_the_earlier_export_as_it_was(
    made: ExportedModel, tiny: Path, output: Path, wrong_graph: Any
) -> None:
    shutil.copytree(made.path, output)
    wrong_graph(nudge_weight)
    with pytest.raises(ExportWrong):
        export(tiny, output, options=ExportOptions(force=True))
    verify(output, read_manifest(output, "model"))
    take_evidence(output)


# --- what is refused ------------------------------------------------------------------------------------


def test_weights_without_a_trained_head_are_refused(folder: Path, output: Path) -> None:
    edit_weights(folder, lambda tensors: (tensors.pop("classifier.weight"), tensors.pop("classifier.bias")))
    text = refused(folder, output, SourceError)
    assert "'classifier.bias' and 1 more" in text
    assert "fine-tuned" in text


def test_weights_of_another_size_are_refused(folder: Path, output: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update({"classifier.weight": torch.zeros(5, 32)}))
    assert "different models" in refused(folder, output, SourceError)


def test_nan_in_the_weights_is_refused_by_name(folder: Path, output: Path) -> None:
    edit_weights(folder, lambda tensors: tensors["bert.pooler.dense.weight"].view(-1)[:3].fill_(float("nan")))
    text = refused(folder, output, SourceError)
    assert "'bert.pooler.dense.weight' holds 3 values" in text


def test_truncated_weights_are_refused(folder: Path, output: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size - 100)
    assert "truncated" in refused(folder, output, SourceError)


def test_an_unknown_model_type_is_refused(folder: Path, output: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "bret"}))
    assert "model_type is unknown" in refused(folder, output, SourceError)


def test_a_damaged_tokenizer_is_refused(folder: Path, output: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    assert "tokenizer" in refused(folder, output, SourceError)


class Payload:
    """What a hostile pickle does when it is read."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return (os.system, ("touch pwned",))


def test_a_pickle_with_code_is_refused_even_with_consent(
    folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "model.safetensors").unlink()
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        save({"classifier.bias": Payload()}, folder / "pytorch_model.bin")
        refused(folder, output, UnsafeSource)
        refused(folder, output, UnsafeSource, allow_pickle=True)
        assert not (folder / "pwned").exists()


def test_a_truncated_pickle_is_refused(folder: Path, output: Path) -> None:
    path = folder / "pytorch_model.bin"
    torch.save(load_file(folder / "model.safetensors"), path)
    (folder / "model.safetensors").unlink()
    os.truncate(path, path.stat().st_size // 2)
    refused(folder, output, SourceError, allow_pickle=True)


def test_code_in_the_folder_does_not_run_without_consent(
    folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "mine.py").write_text("open('pwned', 'w')\n")
    path = folder / "config.json"
    code = {"auto_map": {"AutoModelForSequenceClassification": "mine.Mine"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | code))
    refused(folder, output, UnsafeSource)
    assert not (folder / "pwned").exists()


def test_more_tokens_than_positions_are_refused(tiny: Path, output: Path) -> None:
    assert "64 positions" in refused(tiny, output, SourceError, max_length=65)


@pytest.mark.parametrize(
    "options",
    [
        {"opset": 9},
        {"max_length": 2},
        {"tolerance": Tolerance(atol=-1.0, rtol=0.0)},
        {"tolerance": Tolerance(atol=float("nan"), rtol=0.0)},
        {"dynamic_axes": {"x": {0: "batch"}}},
    ],
)
def test_options_that_make_no_sense_are_refused(tiny: Path, output: Path, options: dict[str, Any]) -> None:
    refused(tiny, output, UsageError, **options)


def test_what_is_neither_folder_nor_module_is_refused(output: Path) -> None:
    refused(3, output, UsageError)


# --- the output -------------------------------------------------------------------------------------------


def test_a_foreign_directory_is_never_touched(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="holds files"):
        export(tiny, tmp_path / "mine", options=ExportOptions(force=True))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


@pytest.mark.skipif(os.name != "posix", reason="signals and permissions of POSIX")
@pytest.mark.parametrize("step", ["exporting", "checking"])
def test_an_interrupted_export_leaves_nothing(tiny: Path, output: Path, step: str) -> None:
    code = (
        "import sys; from edgekit.stages.export import export;"
        f"export({str(tiny)!r}, {str(output)!r},"
        " on_progress=lambda done, total, what: print(what, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == step:
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert "KeyboardInterrupt" in errors
    assert not output.exists()
    assert beside(output) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("DistilBert", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
        ("Roberta", {"pad_token_id": 0}),
        ("Electra", {"embedding_size": 16}),
        ("Albert", {"embedding_size": 16}),
        ("MPNet", {}),
        ("DebertaV2", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8}),
        ("ModernBert", {"pad_token_id": 0, "local_attention": 16, "global_attn_every_n_layers": 2}),
        ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 66, "pad_token_id": 0}),
    ],
)
def test_other_families_of_classifiers_export_too(
    family: str, changes: dict[str, Any], tmp_path: Path, output: Path
) -> None:
    import transformers

    from tests.models import random_classifier

    folder = random_classifier(tmp_path / "source", getattr(transformers, f"{family}Config"), changes)
    table = export(folder, output).manifest.model
    assert table is not None
    assert max(check.max_abs_error for check in table.checks) < 1e-5


@pytest.mark.slow
def test_a_length_that_the_model_fixes_is_an_error(tmp_path: Path, output: Path) -> None:
    import transformers

    from tests.models import random_classifier

    changes = {"d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "block_sizes": [1, 1]}
    folder = random_classifier(tmp_path / "source", transformers.FunnelConfig, changes)
    assert "'sequence'" in refused(folder, output, ExportFailed)
