"""What `edgekit backend check` shows: the parser's own report, on good graphs and bad ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.api import Support, Target, all_nodes, operator_counts
from edgekit.values import Hardware
from edgekit_tensorrt.compiler import Compiler

from .conftest import target
from .models import INT64, cnn, gemm, info, make, minilm_like, vit_like, weights


def check(model: onnx.ModelProto, directory: Path, where: Target | None = None) -> Support:
    path = directory / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return Compiler().check(path, where or target())


def refused(support: Support) -> dict[str, str]:
    assert not support.supported
    return {row.op_type: row.reason for row in support.operators if not row.supported}


@pytest.mark.parametrize("make_it", [minilm_like, cnn, vit_like, gemm])
def test_a_good_model_is_taken_and_every_operator_counted(make_it: object, tmp_path: Path) -> None:
    model = make_it()  # type: ignore[operator]
    support = check(model, tmp_path)
    assert support.supported
    assert support.notes == ()
    assert {row.op_type: row.count for row in support.operators} == operator_counts(model.graph)


def between(kind: str, domain: str = "", **attributes: object) -> onnx.ModelProto:
    """A node of this kind with one that is fine on either side."""
    return make(
        [
            helper.make_node("Relu", ["x"], ["a"], "first"),
            helper.make_node(kind, ["a"], ["b"], "second", domain=domain, **attributes),
            helper.make_node("Relu", ["b"], ["y"], "third"),
        ],
        [info("x", "batch", 4)],
        [info("y", "batch", 4)],
        domains={domain: 1} if domain else None,
    )


def test_an_operator_of_another_domain_is_refused_by_its_node_and_nothing_else_is(tmp_path: Path) -> None:
    support = check(between("Frobnicate", "com.acme"), tmp_path)
    assert list(refused(support)) == ["com.acme.Frobnicate"]
    assert "no plugin of this name" in refused(support)["com.acme.Frobnicate"]
    assert "'second'" in refused(support)["com.acme.Frobnicate"]
    assert [(row.op_type, row.count) for row in support.operators if row.supported] == [("Relu", 2)]
    assert "2 of 3 nodes would run, in 2 sub-graphs" in support.notes


def test_an_operator_that_onnx_itself_does_not_know_is_refused_by_its_name(tmp_path: Path) -> None:
    assert "does not know it" in refused(check(between("Frobnicate"), tmp_path))["Frobnicate"]


def test_several_refused_operators_are_all_named(tmp_path: Path) -> None:
    model = make(
        [
            helper.make_node("SequenceConstruct", ["x", "x"], ["s"], "made"),
            helper.make_node("ConcatFromSequence", ["s"], ["y"], "joined", axis=0),
        ],
        [info("x", "batch", 4)],
        [info("y", "both", 4)],
    )
    found = refused(check(model, tmp_path))
    assert list(found) == ["SequenceConstruct", "ConcatFromSequence"]
    assert all("not supported" in reason for reason in found.values())


def test_an_operator_in_a_branch_is_found(tmp_path: Path) -> None:
    def branch(node: onnx.NodeProto, output: str) -> onnx.GraphProto:
        return helper.make_graph([node], output, [], [info(output, "batch", 4)])

    there = branch(helper.make_node("Relu", ["x"], ["one"], "fine"), "one")
    other = branch(helper.make_node("Odd", ["x"], ["two"], "inside", domain="com.acme"), "two")
    model = make(
        [helper.make_node("If", ["flag"], ["y"], "if", then_branch=there, else_branch=other)],
        [info("x", "batch", 4), info("flag", kind=TensorProto.BOOL)],
        [info("y", "batch", 4)],
        domains={"com.acme": 1},
    )
    assert "'inside'" in refused(check(model, tmp_path))["com.acme.Odd"]
    assert len(list(all_nodes(model.graph))) == 3


def quantized(zero: np.generic, value: np.ndarray | None = None) -> onnx.ModelProto:
    """x quantized and back; or a constant that is only brought back."""
    constants = [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(zero, "zero")]
    if value is None:
        first = [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "down"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], "up"),
        ]
    else:
        constants.append(numpy_helper.from_array(value, "bias"))
        first = [helper.make_node("DequantizeLinear", ["bias", "scale", "zero"], ["d"], "up")]
    return make(
        [*first, helper.make_node("Add", ["x", "d"], ["y"], "add")],
        [info("x", "batch", 4)],
        [info("y", "batch", 4)],
        constants,
    )


def test_a_quantized_bias_is_refused_with_the_mend(tmp_path: Path) -> None:
    found = refused(check(quantized(np.int32(0), np.ones(4, np.int32)), tmp_path))
    assert "QuantizeBias=False" in found["DequantizeLinear"]
    assert "Int32" in found["DequantizeLinear"]


def test_a_zero_point_is_refused_with_the_mend(tmp_path: Path) -> None:
    found = refused(check(quantized(np.uint8(3)), tmp_path))
    assert "quantize symmetrically" in found["QuantizeLinear"]


def test_symmetric_quantization_is_taken(tmp_path: Path) -> None:
    assert check(quantized(np.int8(0)), tmp_path).supported


def test_whole_numbers_that_are_multiplied_are_refused_with_the_mend(tmp_path: Path) -> None:
    model = make(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        [info("x", "batch", 4, kind=INT64)],
        [info("y", "batch", 4, kind=INT64)],
        [numpy_helper.from_array(np.ones((4, 4), np.int64), "w")],
    )
    reason = refused(check(model, tmp_path))["MatMul"]
    assert "INT64" in reason
    assert "cast its input" in reason


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (TensorProto.DOUBLE, "'x' is float64, which TensorRT does not have"),
        (TensorProto.INT16, "TensorRT takes float32, float16"),
    ],
)
def test_a_dtype_that_tensorrt_lacks_is_a_refusal_in_words(tmp_path: Path, kind: int, words: str) -> None:
    model = make(
        [helper.make_node("Cast", ["x"], ["y"], "cast", to=TensorProto.FLOAT)],
        [info("x", "batch", 4, kind=kind)],
        [info("y", "batch", 4)],
    )
    support = check(model, tmp_path)
    assert not support.supported
    assert words in " ".join(support.notes)


@pytest.mark.parametrize("kind", [TensorProto.BOOL, TensorProto.INT64, TensorProto.UINT8])
def test_dtypes_that_tensorrt_has_are_taken(tmp_path: Path, kind: int) -> None:
    model = make(
        [helper.make_node("Cast", ["x"], ["y"], "cast", to=TensorProto.FLOAT)],
        [info("x", "batch", 4, kind=kind)],
        [info("y", "batch", 4)],
    )
    assert check(model, tmp_path).supported


def test_an_old_opset_is_a_note(tmp_path: Path) -> None:
    model = make([helper.make_node("Relu", ["x"], ["y"])], [info("x", "batch", 4)], [info("y", "batch", 4)])
    model.opset_import[0].version = 6
    support = check(model, tmp_path)
    assert support.supported
    assert any("at least opset 7" in note for note in support.notes)


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    large = make(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        [info("x", "batch", 64)],
        [info("y", "batch", 64)],
        [weights("w", 64, 64)],
    )
    onnx.save_model(large, path, save_as_external_data=True, location="weights.bin", size_threshold=256)
    assert Compiler().check(path, target()).supported
    (tmp_path / "weights.bin").write_bytes(b"short")
    support = Compiler().check(path, target())
    assert not support.supported
    assert "weights.bin" in " ".join(support.notes)


@pytest.mark.parametrize("drop", ["input", "output"])
def test_a_node_that_would_crash_the_parser_never_reaches_it(tmp_path: Path, drop: str) -> None:
    model = gemm()
    names = getattr(model.graph.node[0], drop)
    del names[(1 if drop == "input" else 0) :]
    support = check(model, tmp_path)
    assert not support.supported
    assert "no valid ONNX" in support.notes[0]
    assert "layers/product" in support.notes[0]


def test_of_a_target_with_standard_tensorrt_the_answer_is_said_to_be_another_librarys(tmp_path: Path) -> None:
    jetson = Target(name="board", hardware=Hardware(gpu_arch="sm_87"))
    support = check(between("Frobnicate", "com.acme"), tmp_path, jetson)
    # It refuses nothing: the library that will build was not asked.
    assert support.supported
    assert "answers on the target's own machine only" in support.notes[0]
    (doubtful,) = [row for row in support.operators if row.reason]
    assert doubtful.reason.startswith("in doubt: ")


def test_checking_writes_nothing(tmp_path: Path) -> None:
    check(gemm(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
