"""An ONNX file is imported as it is, proven against itself, or refused by what is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.errors import SourceError, UsageError
from edgekit.exporting.importing import read_onnx
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.origin import inspect_source
from edgekit.files.manifests import read_manifest
from edgekit.stages.inspect import summary
from edgekit_runtime.goldens import read_goldens

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Change = Callable[[onnx.ModelProto], object]


def classifier(path: Path, opset: int = 17, change: Change | None = None) -> Path:
    """ids [batch, ?] -> mean of a table's rows [batch, 4]; the second axis has no name."""
    table = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    mean = helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"]), mean],
        "graph",
        [helper.make_tensor_value_info("ids", INT64, ["batch", None])],
        [helper.make_tensor_value_info("mean", FLOAT, ["batch", 4])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if change is not None:
        change(model)
    onnx.save(model, path)
    return path


def refused(path: Path, **options: object) -> SourceError | UsageError:
    with pytest.raises((SourceError, UsageError)) as caught:
        inspect_source(path, ExportOptions(**options))  # type: ignore[arg-type]
    assert caught.value.hint
    assert caught.value.exit_code == 2
    return caught.value


def test_a_file_is_imported_with_its_opset_raised_its_axes_named_and_goldens_from_itself(
    tmp_path: Path,
) -> None:
    source = classifier(tmp_path / "small.onnx")
    made = edgekit.export(source, tmp_path / "model")
    table = made.manifest.model
    assert table is not None
    assert (table.task, table.opset) == ("custom", 20)
    assert table.signature.inputs[0].shape == ("batch", "ids_1")
    assert {check.shape["batch"] for check in table.checks} >= {1, 2, 7}
    assert len({check.shape["ids_1"] for check in table.checks}) >= 3
    said = summary(made.path, read_manifest(made.path))
    assert "goldens from the file itself" in said
    assert "opset 17, raised to 20" in said
    original = onnx.reference.ReferenceEvaluator(onnx.load(source))
    for golden in read_goldens(made.path / "golden"):
        assert golden.feeds["ids"].max() < 9
        wanted = original.run(None, dict(golden.feeds))[0]
        np.testing.assert_allclose(golden.outputs["mean"], wanted, atol=1e-6)
    assert edgekit.export(source, tmp_path / "model").up_to_date


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_a_network_of_2017_gives_the_outputs_published_with_it(tmp_path: Path, name: str) -> None:
    source = LIGHT / f"light_{name}.onnx"
    made = edgekit.export(source, tmp_path / "model")
    model = onnx.load(made.path / "model.onnx")
    assert len(model.graph.input) == 1
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    count = int(np.prod(shape))
    feeds = {model.graph.input[0].name: (np.arange(count).reshape(shape) / count).astype(np.float32)}
    from edgekit.exporting.reference import reference_outputs

    table = made.manifest.model
    assert table is not None
    [got] = reference_outputs(made.path / "model.onnx", table.signature, [feeds])
    wanted = numpy_helper.to_array(onnx.load_tensor(LIGHT / f"light_{name}_output_0.pb"))
    np.testing.assert_allclose(next(iter(got.values())), wanted, rtol=1e-3, atol=1e-6)


def test_weights_beside_the_file_come_along(tmp_path: Path) -> None:
    source = classifier(tmp_path / "small.onnx")
    model = onnx.load(source)
    onnx.save(
        model,
        source,
        save_as_external_data=True,
        location="small.bin",
        size_threshold=0,
        convert_attribute=False,
    )
    assert (tmp_path / "small.bin").stat().st_size > 0
    for opset in (18, 20):
        made = edgekit.export(source, tmp_path / "model", options=ExportOptions(opset=opset))
        (tmp_path / "small.bin").rename(tmp_path / "away.bin")
        onnx.checker.check_model(onnx.load(made.path / "model.onnx"), full_check=True)
        (tmp_path / "away.bin").rename(tmp_path / "small.bin")
    before = inspect_source(source, ExportOptions()).digest()
    (tmp_path / "small.bin").write_bytes((tmp_path / "small.bin").read_bytes()[:-4] + b"abcd")
    assert inspect_source(source, ExportOptions()).digest() != before
    (tmp_path / "small.bin").write_bytes(b"short")
    assert "truncated" in refused(source).message
    (tmp_path / "small.bin").unlink()
    assert "small.bin" in refused(source).message
    assert "missing" in refused(source).message


def test_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    def outside(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../secret")

    assert "outside its folder" in refused(classifier(tmp_path / "small.onnx", change=outside)).message


def custom(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type, model.graph.node[0].domain = "FusedGather", "com.vendor"
    model.opset_import.append(helper.make_opsetid("com.vendor", 1))


def unknown(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Gathr"


def strings(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (custom, "com.vendor::FusedGather"),
        (lambda model: setattr(model, "ir_version", 99), "IR 99"),
        (lambda model: setattr(model.opset_import[0], "version", 40), "opset 40"),
        (lambda model: model.ClearField("opset_import"), "no opset"),
        (unknown, "Gathr"),
        (strings, "'ids'"),
        (lambda model: model.graph.ClearField("output"), "no graph"),
    ],
)
def test_what_cannot_be_imported_is_named(tmp_path: Path, change: Change, reason: str) -> None:
    assert reason in refused(classifier(tmp_path / "small.onnx", change=change)).message


@pytest.mark.parametrize("content", [b"", b"\x08", b"not a model at all", b"PK\x03\x04"])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    assert "no ONNX file" in refused(tmp_path / "bad.onnx").message


def test_a_truncated_file(tmp_path: Path) -> None:
    source = classifier(tmp_path / "small.onnx")
    whole = source.read_bytes()
    for length in (len(whole) // 3, len(whole) // 2, len(whole) - 3):
        source.write_bytes(whole[:length])
        refused(source)


def test_nan_weights_are_named(tmp_path: Path) -> None:
    def harm(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].CopyFrom(
            numpy_helper.from_array(np.full((9, 4), np.nan, dtype=np.float32), "table")
        )

    source = inspect_source(classifier(tmp_path / "small.onnx", change=harm), ExportOptions())
    with pytest.raises(SourceError, match="'table' holds 36"):
        read_onnx(source, ExportOptions(), tmp_path)  # type: ignore[arg-type]


def test_an_operator_that_cannot_be_raised_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object) -> object:
        raise RuntimeError("No Adapter From Version 17 for ReduceMean")

    monkeypatch.setattr("onnx.version_converter.convert_version", cannot)
    source = inspect_source(classifier(tmp_path / "small.onnx"), ExportOptions())
    with pytest.raises(SourceError, match="operator ReduceMean cannot be raised to opset 20"):
        read_onnx(source, ExportOptions(), tmp_path)  # type: ignore[arg-type]


def test_sizes_that_a_file_does_not_take_are_left_out_and_ranges_are_heeded(tmp_path: Path) -> None:
    """A convolution of width 7 takes no image smaller than that."""
    weight = numpy_helper.from_array(np.ones((2, 3, 7, 7), dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", 2, None, None])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, tmp_path / "conv.onnx")
    made = edgekit.export(tmp_path / "conv.onnx", tmp_path / "model")
    table = made.manifest.model
    assert table is not None
    assert min(check.shape["height"] for check in table.checks) == 7
    ranged = ExportOptions(axis_ranges={"height": (8, 9), "width": (8, 40)})
    table = edgekit.export(tmp_path / "conv.onnx", tmp_path / "model", options=ranged).manifest.model
    assert table is not None
    assert {check.shape["height"] for check in table.checks} <= {8, 9}
    with pytest.raises(SourceError, match="does not run at any size"):
        small = ExportOptions(axis_ranges={"height": (1, 3), "width": (1, 3)})
        edgekit.export(tmp_path / "conv.onnx", tmp_path / "none", options=small)
    assert not (tmp_path / "none").exists()


def test_a_task_needs_its_processor_beside_the_file(tmp_path: Path) -> None:
    error = refused(classifier(tmp_path / "small.onnx"), task="text-classification")
    assert "processor" in error.message


def test_a_processor_of_another_model_is_refused(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported / "processor", tmp_path / "processor")
    options = ExportOptions(task="text-classification")
    with pytest.raises(SourceError, match="attention_mask"):
        edgekit.export(classifier(tmp_path / "small.onnx"), tmp_path / "model", options=options)
    assert not (tmp_path / "model").exists()


def test_an_exported_model_can_be_imported_again_with_its_task_and_labels(
    exported: Path, tmp_path: Path
) -> None:
    again = edgekit.export(
        exported / "model.onnx", tmp_path / "again", options=ExportOptions(task="text-classification")
    )
    table, first = again.manifest.model, read_manifest(exported).model
    assert table is not None
    assert first is not None
    assert (table.task, table.labels) == (first.task, first.labels)
    assert json.loads((tmp_path / "again" / "processor" / "processor.json").read_text())["kind"] == "text"


def test_options_of_other_sources_are_refused(tmp_path: Path) -> None:
    source = classifier(tmp_path / "small.onnx")
    assert "dynamic_axes" in refused(source, dynamic_axes={"ids": {0: "n"}}).message
    assert "--base" in refused(source, base=tmp_path).message
    assert "--revision" in refused(source, revision="main").message
