"""Promises of the compile half beyond the kit's: what is quantized, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit.api import (
    CompileFailed,
    OpenRequest,
    PrecisionNotGiven,
    Signature,
    Target,
    TensorSpec,
    UnknownName,
)
from edgekit_openvino import quantize
from edgekit_openvino.compiler import Compiler
from edgekit_openvino.engine import ov
from edgekit_openvino.names import kept_nodes
from edgekit_openvino.session import open_session

from .conftest import Build
from .models import info, make, rows, signature, two_layers, weights


def quantized(artifact: Path) -> tuple[int, int]:
    return quantize.count_quantized(ov.Core().read_model(artifact / "model.xml"))


def test_int8_without_calibration_rows_says_how_to_give_them(compiled: Build) -> None:
    with pytest.raises(CompileFailed, match="calibration rows") as caught:
        compiled(two_layers(), "int8")
    assert "--calibration" in caught.value.hint
    with pytest.raises(CompileFailed, match="no calibration rows"):
        compiled(two_layers(), "int8", calibration=[])


def test_int8_quantizes_every_layer_and_stays_near(compiled: Build) -> None:
    model, calibration = two_layers(), rows()
    artifact, said = compiled(model, "int8", calibration=calibration)
    assert quantized(artifact) == (2, 2)
    assert said.notes[0] == "2 of 2 multiplications and convolutions are int8, from 16 rows"
    from onnx.reference import ReferenceEvaluator

    (wanted,) = ReferenceEvaluator(model).run(None, calibration[2])
    got = open_session(OpenRequest(directory=artifact, precision="int8")).run(calibration[2])["y"]
    assert 0 < np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize("kept", ["layers/first", "layers/second"])
def test_a_node_kept_high_is_not_quantized(compiled: Build, kept: str) -> None:
    artifact, _ = compiled(two_layers(), "int8", calibration=rows(), keep_high=(kept,))
    assert quantized(artifact) == (1, 2)


def test_an_unknown_name_in_keep_high_is_refused_with_the_nearest(compiled: Build) -> None:
    with pytest.raises(UnknownName, match="layers/frist") as caught:
        compiled(two_layers(), "int8", calibration=rows(), keep_high=("layers/frist",))
    assert "layers/first" in caught.value.hint


def test_int8_is_refused_where_nothing_is_left_to_quantize(compiled: Build) -> None:
    with pytest.raises(PrecisionNotGiven, match="none of the model's 2"):
        compiled(two_layers(), "int8", calibration=rows(), keep_high=("layers/first", "layers/second"))


def test_a_name_that_begins_like_another_is_not_mistaken_for_it(tmp_path: Path) -> None:
    model = make(
        [
            helper.make_node("MatMul", ["x", "a"], ["h"], "/block"),
            helper.make_node("MatMul", ["h", "b"], ["y"], "/block/inner"),
        ],
        [info("x", "batch", 8)],
        [info("y", "batch", 8)],
        [weights("a", 8, 8), weights("b", 8, 8)],
    )
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path)
    assert kept_nodes(ov.Core().read_model(path), model, ("/block",)) == ("/block",)


def test_all_rows_are_read_anew_in_every_pass(compiled: Build) -> None:
    told: list[tuple[int, int, str]] = []
    _, said = compiled(
        two_layers(),
        "int8",
        calibration=rows(12),
        progress=lambda *step: told.append(step),
        model_type="transformer",
    )
    calibrating = [step for step in told if step[2].startswith("calibrating")]
    assert {total for _, total, _ in calibrating} == {12}
    assert len({what for _, _, what in calibrating}) > 1
    assert "from 12 rows" in said.notes[0]


@pytest.mark.parametrize("kind", ["transformer", "none"])
def test_the_row_that_alone_sets_ranges_is_named(compiled: Build, kind: str) -> None:
    calibration = rows()
    _, plain = compiled(two_layers(), "int8", calibration=calibration, model_type=kind)
    assert plain.ranges is not None and plain.ranges.count >= 2 and plain.ranges.setters == ()
    calibration[9] = {"x": 50 * calibration[9]["x"]}
    _, said = compiled(two_layers(), "int8", calibration=calibration, model_type=kind)
    assert said.ranges is not None and said.ranges.count == plain.ranges.count
    [found] = said.ranges.setters
    assert found.run == 9 and found.width > 2 * found.width_without
    _, mean = compiled(two_layers(), "int8", calibration=calibration, model_type=kind, range="mean_minmax")
    assert mean.ranges is not None and mean.ranges.setters == (), "no single row sets a mean"
    _, stored = compiled(two_layers(), "int8-weights")
    assert stored.ranges is None


def test_rows_that_do_not_fit_the_model_are_refused(compiled: Build) -> None:
    with pytest.raises(CompileFailed, match=r"calibration row 2 does not fit.*shape \[1, 7\]"):
        compiled(two_layers(), "int8", calibration=[*rows(1), {"x": np.ones((1, 7), np.float32)}])


def test_compiling_prints_nothing(compiled: Build, capfd: pytest.CaptureFixture[str]) -> None:
    compiled(two_layers(), "int8", calibration=rows())
    assert capfd.readouterr().out == ""


def test_the_same_rows_give_the_same_weights(compiled: Build) -> None:
    first, second = (compiled(two_layers(), "int8", calibration=rows())[0] / "model.bin" for _ in range(2))
    assert first.read_bytes() == second.read_bytes()


def test_fp32_keeps_the_weights_in_32_bits(compiled: Build) -> None:
    artifact, said = compiled(two_layers())
    assert said.files == ("model.xml", "model.bin")
    stored = (artifact / "model.bin").read_bytes()
    model = two_layers()
    first = numpy_helper.to_array(model.graph.initializer[0])
    assert np.ascontiguousarray(first).tobytes() in stored


def test_a_precision_that_this_cpu_lacks_is_refused(compiled: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit_openvino.engine._CAPABILITIES", {"bf16": "BF1000"})
    with pytest.raises(PrecisionNotGiven, match="does not execute bf16 on this CPU"):
        compiled(two_layers(), "bf16")


def test_no_node_can_be_kept_high_in_16_bits(compiled: Build) -> None:
    with pytest.raises(PrecisionNotGiven, match="a whole graph in bf16"):
        compiled(two_layers(), "bf16", keep_high=("layers/first",))


def quantized_before() -> onnx.ModelProto:
    """A product of both operands in int8, in the manner of QDQ."""
    return make(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "q"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], "d"),
            helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["wd"], "wd"),
            helper.make_node("MatMul", ["d", "wd"], ["y"], "layer"),
        ],
        [info("x", "batch", 64)],
        [info("y", "batch", 64)],
        [
            numpy_helper.from_array(np.arange(4096, dtype=np.int64).reshape(64, 64).astype(np.int8), "w"),
            numpy_helper.from_array(np.float32(0.1), "scale"),
            numpy_helper.from_array(np.int8(0), "zero"),
        ],
    )


def test_a_model_quantized_before_is_passed_through(compiled: Build) -> None:
    artifact, built = compiled(quantized_before(), "int8")
    assert any("node 'q' is a QuantizeLinear" in note for note in built.notes)
    assert quantized(artifact) == (1, 1)


def test_a_quantized_model_is_not_called_fp32(compiled: Build) -> None:
    with pytest.raises(PrecisionNotGiven, match=r"quantized already, to int8 .node 'q' is a QuantizeLinear"):
        compiled(quantized_before())


def test_a_signature_that_is_not_the_models_is_refused(compiled: Build) -> None:
    right = signature(two_layers())
    renamed = Signature(
        inputs=(TensorSpec(name="z", dtype="float32", shape=("n", 64)),), outputs=right.outputs
    )
    narrow = Signature(inputs=(TensorSpec(name="x", dtype="int64", shape=("n", 64)),), outputs=right.outputs)
    with pytest.raises(CompileFailed, match="no tensor 'z'"):
        compiled(two_layers(), said=renamed)
    with pytest.raises(CompileFailed, match="tensor 'x' is float32"):
        compiled(two_layers(), said=narrow)


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "exported.onnx"
    onnx.save_model(
        two_layers(), path, save_as_external_data=True, location="weights.bin", size_threshold=256
    )
    (tmp_path / "weights.bin").unlink()
    support = Compiler().check(path, Target(name="t"))
    assert not support.supported
    assert "weights.bin" in support.notes[0]


def test_check_blames_the_operator_that_is_unknown_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = make(
        [
            helper.make_node("Relu", ["x"], ["a"], "first"),
            helper.make_node("Frobnicate", ["a"], ["b"], "second", domain="com.acme"),
            helper.make_node("Conv", ["b", "k"], ["y"], "third"),
        ],
        [info("x", "batch", 3, 8, 8)],
        [info("y", "batch", 2, 6, 6)],
        [weights("k", 2, 3, 3, 3)],
        domains={"com.acme": 1},
    )
    onnx.save_model(model, path)
    support = Compiler().check(path, Target(name="t"))
    assert not support.supported
    said = {row.op_type: (row.count, row.supported) for row in support.operators}
    assert said == {"Relu": (1, True), "com.acme.Frobnicate": (1, False), "Conv": (1, True)}
    (refused,) = [row for row in support.operators if not row.supported]
    assert refused.reason


def test_calibration_rows_that_are_all_the_same_are_refused(compiled: Build) -> None:
    with pytest.raises(CompileFailed, match="all 5 calibration rows are the same"):
        compiled(two_layers(), "int8", calibration=[rows()[1]] * 5)


def test_a_row_with_nan_is_named(compiled: Build) -> None:
    spoilt = rows(4)
    spoilt[2]["x"][0, 3] = np.nan
    with pytest.raises(CompileFailed, match=r"calibration row 3 holds NaN or infinity in input 'x'"):
        compiled(two_layers(), "int8", calibration=spoilt)


def test_a_node_that_gives_no_number_is_named(compiled: Build) -> None:
    model = make(
        [
            helper.make_node("MatMul", ["x", "a"], ["h"], "first"),
            helper.make_node("Log", ["h"], ["l"], "logarithm"),
            helper.make_node("MatMul", ["l", "b"], ["y"], "second"),
        ],
        [info("x", "batch", 64)],
        [info("y", "batch", 64)],
        [weights("a", 64, 64), weights("b", 64, 64)],
    )
    with pytest.raises(CompileFailed, match=r"calibration row 1 gives NaN or infinity, first in node 'logar"):
        compiled(model, "int8", calibration=rows())
