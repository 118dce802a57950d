"""Promises of int8 with calibration and of smaller weights."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgekit.api import CompileFailed, OpenRequest, PrecisionNotGiven
from edgekit_onnxruntime.embeddings import per_column
from edgekit_onnxruntime.session import open_session
from edgekit_runtime.values import Placement

from .conftest import Build
from .models import images, info, make, network, target, two_layers, vectors, weights


def graph(artifact: Path) -> onnx.ModelProto:
    return onnx.load(artifact / "model.onnx")


def error(artifact: Path, precision: str, model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> float:
    """Largest error as a share of the largest right answer."""
    (wanted,) = ReferenceEvaluator(model).run(None, feeds)
    got = open_session(OpenRequest(directory=artifact, precision=precision)).run(feeds)["y"]
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def placed(artifact: Path, precision: str, feeds: dict[str, np.ndarray]) -> Placement:
    session = open_session(OpenRequest(directory=artifact, precision=precision))
    session.run(feeds)
    return session.placement()


@pytest.mark.parametrize("ranges", ["mse", "minmax", "percentile", "entropy"])
def test_convolutions_become_int8_from_calibration_rows(compiled: Build, ranges: str) -> None:
    artifact, said = compiled(network(), "int8", rows=images(20), ranges=ranges)
    assert "3 of 3 convolutions and multiplications are int8" in said.notes[0]
    assert f"by {ranges} from 20 calibration rows" in said.notes[0]
    for feeds in images(3):
        assert error(artifact, "int8", network(), feeds) < 0.1
    rows = {row.precision: row.nodes for row in placed(artifact, "int8", images(1)[0]).rows}
    assert rows["int8"] >= 3


def test_int8_of_convolutions_asks_for_calibration_rows(compiled: Build) -> None:
    with pytest.raises(PrecisionNotGiven, match="calibration rows") as caught:
        compiled(network(), "int8")
    assert "--calibration" in caught.value.hint


def test_dynamic_int8_of_convolutions_is_refused_when_it_is_asked_for(compiled: Build) -> None:
    with pytest.raises(PrecisionNotGiven, match=r"4% of the weights; the rest belong to Conv"):
        compiled(network(), "int8", rows=images(2), method="dynamic")


def test_without_vnni_convolutions_take_weights_of_seven_bits(compiled: Build) -> None:
    largest = {}
    for isa in (("avx2",), ("avx2", "avx512_vnni")):
        artifact, _ = compiled(network(), "int8", rows=images(8), target=target("x86_64", *isa))
        stored = [
            item for item in graph(artifact).graph.initializer if item.name.endswith("second_quantized")
        ]
        largest[isa] = max(int(np.abs(numpy_helper.to_array(item).astype(int)).max()) for item in stored)
    assert largest["avx2",] <= 64 < largest["avx2", "avx512_vnni"]


@pytest.mark.parametrize("kept", ["first", "second", "head"])
def test_a_convolution_kept_high_is_not_quantized(compiled: Build, kept: str) -> None:
    artifact, said = compiled(network(), "int8", rows=images(8), keep_high=(kept,))
    assert "2 of 3" in said.notes[0]
    raised = {node.output[0] for node in graph(artifact).graph.node if node.op_type == "DequantizeLinear"}
    (node,) = [node for node in graph(artifact).graph.node if node.name == kept]
    assert node.input[1] not in raised


def test_multiplications_can_be_static_too(compiled: Build) -> None:
    artifact, said = compiled(two_layers(), "int8", rows=vectors(20), method="static")
    assert "2 of 2" in said.notes[0]
    assert error(artifact, "int8", two_layers(), vectors(1)[0]) < 0.05


def test_outliers_of_activations_cost_little_once_calibration_rows_show_them(compiled: Build) -> None:
    rows = vectors(20, outlier=60.0)
    model = two_layers()
    plain, _ = compiled(model, "int8", rows=rows, smooth=False)
    even, said = compiled(model, "int8", rows=rows)
    assert "outliers of 1 activations" in said.notes[-1]
    errors = [[error(path, "int8", model, feeds) for feeds in rows[:5]] for path in (plain, even)]
    assert np.mean(errors[1]) < 0.5 * np.mean(errors[0])


def test_a_table_with_one_large_column_keeps_its_small_ones() -> None:
    table = np.random.default_rng(1).normal(size=(200, 8)).astype(np.float32)
    table[:, 3] *= 100
    low, scale = per_column(table)
    assert np.abs(low * scale - table)[:, :3].max() < 0.02


@pytest.mark.parametrize(("precision", "limit"), [("int8-weights", 0.29), ("int4-weights", 0.17)])
def test_weights_alone_are_smaller_and_activations_stay_fp32(
    compiled: Build, precision: str, limit: float
) -> None:
    model = make(
        [
            helper.make_node("MatMul", ["x", "first"], ["hidden"], "one"),
            helper.make_node("Gemm", ["hidden", "second"], ["y"], "two", transB=1),
        ],
        [info("x", "batch", 512)],
        [info("y", "batch", 512)],
        [weights("first", 512, 512), weights("second", 512, 512)],
    )
    artifact, said = compiled(model, precision)
    assert "2 of 2 multiplications" in said.notes[0]
    assert (artifact / "model.onnx").stat().st_size < limit * 2 * 512 * 512 * 4
    feeds = {"x": np.random.default_rng(2).normal(size=(3, 512)).astype(np.float32)}
    assert error(artifact, precision, model, feeds) < (0.02 if precision == "int8-weights" else 0.2)
    nodes = Counter({row.precision: row.nodes for row in placed(artifact, precision, feeds).rows})
    assert nodes[precision] == 2
    levels = [
        attribute.i
        for node in graph(artifact).graph.node
        for attribute in node.attribute
        if attribute.name == "accuracy_level"
    ]
    assert levels == [1, 1]


@pytest.mark.parametrize("kept", ["layers/first", "layers/second"])
def test_weights_of_a_node_kept_high_stay_as_they_are(compiled: Build, kept: str) -> None:
    artifact, said = compiled(two_layers(), "int8-weights", keep_high=(kept,), block_size=16)
    assert "1 of 1 multiplications" in said.notes[0]
    assert error(artifact, "int8-weights", two_layers(), vectors(1)[0]) < 0.02


def test_smaller_weights_are_refused_for_convolutions(compiled: Build) -> None:
    with pytest.raises(PrecisionNotGiven, match="the rest belong to Conv"):
        compiled(network(), "int4-weights")


@pytest.mark.parametrize("earlier", ["int8", "int8-weights", "int4-weights"])
def test_a_model_quantized_before_is_passed_through_in_its_own_precision_alone(
    compiled: Build, earlier: str
) -> None:
    artifact, _ = compiled(two_layers(), earlier)
    again, built = compiled(artifact / "model.onnx", earlier)
    assert any("was quantized before it came here" in note for note in built.notes)
    assert error(again, earlier, two_layers(), vectors(1)[0]) < 0.2
    for other in {"fp32", "int8", "int8-weights", "int4-weights"} - {earlier}:
        with pytest.raises(PrecisionNotGiven, match=f"quantized already, to {earlier} "):
            compiled(artifact / "model.onnx", other)


def test_a_foreign_quantized_model_is_marked_with_its_precision(compiled: Build) -> None:
    foreign = graph(compiled(two_layers(), "int8")[0])
    del foreign.metadata_props[:]
    artifact, _ = compiled(foreign, "int8")
    assert [(entry.key, entry.value) for entry in graph(artifact).metadata_props] == [
        ("edgekit.precision", "int8")
    ]


def test_no_node_of_a_quantized_model_can_be_kept_high(compiled: Build) -> None:
    artifact, _ = compiled(two_layers(), "int8")
    kept = next(node.name for node in graph(artifact).graph.node if node.name)
    with pytest.raises(PrecisionNotGiven, match="no node can be kept high"):
        compiled(artifact / "model.onnx", "int8", keep_high=(kept,))


@pytest.mark.parametrize("ranges", ["minmax", "percentile"])
def test_the_row_that_alone_sets_ranges_is_named(compiled: Build, ranges: str) -> None:
    rows = vectors(20)
    rows[13]["x"] = 50 * rows[13]["x"]
    _, said = compiled(two_layers(), "int8", rows=rows, method="static", ranges=ranges)
    assert said.ranges is not None and said.ranges.count >= 2
    if ranges == "percentile":
        assert said.ranges.setters == (), "no single row sets a percentile"
        return
    [found] = said.ranges.setters
    assert found.run == 13 and found.ranges >= 1 and found.width > 10 * found.width_without
    _, plain = compiled(two_layers(), "int8", rows=vectors(20), method="static")
    assert plain.ranges is not None and plain.ranges.setters == ()
    _, dynamic = compiled(two_layers(), "int8", rows=rows, method="dynamic")
    assert dynamic.ranges is None, "those are found while it runs"


def test_calibration_rows_that_are_all_the_same_are_refused(compiled: Build) -> None:
    for model, row in ((network(), images(1)[0]), (two_layers(), vectors(1)[0])):
        with pytest.raises(CompileFailed, match="all 3 calibration rows are the same"):
            compiled(model, "int8", rows=[row] * 3)


def test_a_calibration_row_of_another_shape_is_named(compiled: Build) -> None:
    other = {"image": np.ones((1, 3, 9, 12), np.float32)}
    with pytest.raises(CompileFailed, match="calibration row 2 does not fit the model"):
        compiled(network(), "int8", rows=[images(1)[0], other])


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_activations_that_are_not_finite_are_blamed_on_their_node(
    compiled: Build, value: float, word: str
) -> None:
    broken = network()
    for tensor in broken.graph.initializer:
        if tensor.name == "head":
            array = numpy_helper.to_array(tensor).copy()
            array[0, 0] = value
            tensor.CopyFrom(numpy_helper.from_array(array, "head"))
    with pytest.raises(CompileFailed, match=f"node 'head' gives {word} on calibration row 1"):
        compiled(broken, "int8", rows=images(2))


_PEAK = """
import resource, sys
from pathlib import Path
from edgekit.api import CompileRequest, Signature, Target
from edgekit_onnxruntime.compiler import Compiler
model, rows, workdir, method = (Path(word) for word in sys.argv[1:5])
request = CompileRequest(
    model=model, signature=Signature(inputs=(), outputs=()), workdir=workdir, precision="int8",
    target=Target(name="here"), calibration=rows, options={"method": str(method), "ranges": "percentile"},
)
Compiler().compile(request, lambda done, total, what: None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_memory_does_not_grow_with_the_calibration_rows(tmp_path: Path, method: str) -> None:
    from edgekit_runtime.feeds import write_feeds

    model = make(
        [
            helper.make_node("MatMul", ["x", "wide"], ["hidden"], "one"),
            helper.make_node("Relu", ["hidden"], ["positive"], "relu"),
            helper.make_node("MatMul", ["positive", "narrow"], ["y"], "two"),
        ],
        [info("x", "batch", 8, kind=TensorProto.FLOAT)],
        [info("y", "batch", 8)],
        [weights("wide", 8, 1024), weights("narrow", 1024, 8)],
    )
    onnx.save_model(model, tmp_path / "model.onnx")
    peaks = []
    for count in (10, 1000):  # a row's activations are 0.5 MiB
        rng = np.random.default_rng(count)
        rows = tmp_path / f"rows{count}"
        write_feeds(rows, ({"x": rng.normal(size=(64, 8)).astype(np.float32)} for _ in range(count)))
        workdir = tmp_path / f"out{count}"
        workdir.mkdir()
        words = [str(tmp_path / "model.onnx"), str(rows), str(workdir), method]
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, *words], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 64, f"{peaks} MiB for 10 and 1,000 rows"
