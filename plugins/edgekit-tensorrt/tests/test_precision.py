"""The typed graphs that TensorRT is given: what they compute in, and that their numbers were checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.api import CompileFailed, PrecisionNotGiven, UnknownName
from edgekit_tensorrt.calibration import rows_of
from edgekit_tensorrt.graph import key, open_source
from edgekit_tensorrt.narrowing import HALVES
from edgekit_tensorrt.numerics import check_numerics
from edgekit_tensorrt.prepare import typed_graph
from edgekit_tensorrt.writing import write_typed

from .conftest import Build, Feeds, Prepare, Request
from .models import FLOAT, HIDDEN, cnn, gemm, info, make, minilm_like, rows, vit_like, weights
from .typed import graph_of, kind_of, types_of


def chain(*operators: str, constants: Sequence[onnx.TensorProto] = (), **binary: str) -> onnx.ModelProto:
    """Operators one after another on a vector `x`; `binary` gives the second input of some."""
    names = ["x", *(f"t{number}" for number in range(1, len(operators))), "y"]
    nodes = [
        helper.make_node(
            kind, [name, binary[kind]] if kind in binary else [name], [after], f"{kind.lower()}{place}"
        )
        for place, (kind, name, after) in enumerate(zip(operators, names, names[1:], strict=False))
    ]
    return make(nodes, [info("x", "batch", 4)], [info("y", "batch", 4)], constants)


def vectors(*values: float) -> list[Feeds]:
    return [{"x": np.full((1, 4), value, np.float32)} for value in values]


def scalar(name: str, value: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, np.float32), name)


@pytest.mark.parametrize("model", [minilm_like, cnn, vit_like])
def test_fp16_computes_in_16_bits_and_keeps_the_dtypes_of_inputs_and_outputs(
    prepared: Prepare, model: Callable[[], onnx.ModelProto]
) -> None:
    original = model()
    typed = prepared(original, "fp16", rows(original))
    graph, types = graph_of(typed), types_of(typed)
    assert [port.type.tensor_type.elem_type for port in graph.input] == [
        port.type.tensor_type.elem_type for port in original.graph.input
    ]
    assert types["logits"] == FLOAT
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm", "Conv")]
    assert {types[name] for node in products for name in (*node.input, *node.output)} == {TensorProto.FLOAT16}


def test_fp32_is_the_model_itself(prepared: Prepare, tmp_path: Path) -> None:
    assert prepared(gemm(), "fp32").path == tmp_path / "model.onnx"


def test_notes_say_how_far_the_outputs_are_off_and_on_what(prepared: Prepare) -> None:
    assert "on 8 calibration rows" in prepared(cnn(), "fp16", rows(cnn())).notes[-1]
    assert "on made-up inputs" in prepared(cnn(), "bf16").notes[-1]


def test_a_product_that_would_leave_the_range_stays_in_fp32_and_is_named(prepared: Prepare) -> None:
    model = chain("Mul", "Sqrt", Mul="x")
    typed = prepared(model, "fp16", vectors(1.0, 300.0))
    assert (kind_of(typed, "mul0"), kind_of(typed, "sqrt1")) == (FLOAT, FLOAT)
    assert any("mul0 (Mul: reaches 9e+04 of 6.55e+04)" in note for note in typed.notes)
    assert kind_of(prepared(model, "bf16", vectors(1.0, 300.0)), "mul0") == TensorProto.BFLOAT16


def test_a_small_number_that_fp16_rounds_away_stays_in_fp32(prepared: Prepare) -> None:
    model = chain("Add", "Log", Add="tiny", constants=[scalar("tiny", 1e-12)])
    typed = prepared(model, "fp16", vectors(0.0))
    assert (kind_of(typed, "add0"), kind_of(typed, "log1")) == (FLOAT, FLOAT)


def test_what_gives_a_node_numbers_it_cannot_have_rounded_stays_in_fp32_too(prepared: Prepare) -> None:
    operators = ("Relu", "Mul", "Identity", "Sin", "Tanh")
    model = chain(*operators, Mul="step", constants=[scalar("step", 1.001)])
    typed = prepared(model, "fp16", vectors(3.0, 5001.0))
    assert {kind_of(typed, name) for name in ("relu0", "mul1", "identity2", "sin3")} == {FLOAT}
    assert kind_of(typed, "tanh4") == TensorProto.FLOAT16


def test_what_is_kept_is_found_quickly_where_paths_are_many(prepared: Prepare) -> None:
    model = chain(*(["Add"] * 60), "Sin")
    for place, node in enumerate(model.graph.node[:-1]):
        node.input.append(node.input[0])
        node.name = f"twice{place}"
    typed = prepared(model, "fp16", vectors(300.1))
    assert {kind_of(typed, name) for name in ("twice0", "twice30", "sin60")} == {FLOAT}


@pytest.mark.parametrize("never", [-3.4028235e38, -1e9, -np.inf])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_constants_of_masks_are_brought_into_the_range(
    prepared: Prepare, never: float, precision: str
) -> None:
    nodes = [
        helper.make_node("Where", ["seen", "nothing", "never"], ["mask"], "mask"),
        helper.make_node("Add", ["x", "mask"], ["scores"], "scores"),
        helper.make_node("Softmax", ["scores"], ["y"], "softmax"),
    ]
    seen = info("seen", "batch", 4, kind=TensorProto.BOOL)
    constants = [scalar("nothing", 0.0), scalar("never", never)]
    model = make(nodes, [info("x", "batch", 4), seen], [info("y", "batch", 4)], constants)
    feeds = {
        "x": np.array([[1, -2, 3, 4], [1, 2, 3, 4]], np.float32),
        "seen": np.array([[True, True, False, False], [False] * 4]),
    }
    typed = prepared(model, precision, [feeds])
    assert not any("harm" in note for note in typed.notes)
    assert all(kind_of(typed, name) == HALVES[precision].code for name in ("mask", "scores", "softmax"))
    stored = HALVES[precision].read(HALVES[precision].stored(np.array([never, 1.0], np.float32)))
    assert np.isfinite(stored).all() == np.isfinite(never), "half the range, or infinity as it was"


def test_an_overflow_that_onnxruntime_does_not_see_by_itself_is_refused_with_the_node(
    requested: Request, tmp_path: Path
) -> None:
    request = requested(chain("Mul", "Sqrt", Mul="x"), "fp16", vectors(300.0))
    source = open_source(request.model, tmp_path / "work")
    written = write_typed(source, HALVES["fp16"], (), tmp_path / "work" / "typed.onnx")
    plain = ort.InferenceSession(str(written.path), providers=["CPUExecutionProvider"])
    assert np.isfinite(plain.run(None, vectors(300.0)[0])[0]).all(), "it computes in fp32 throughout"
    with pytest.raises(PrecisionNotGiven, match=r"not finite on row 1 of .*'mul0'") as refused:
        check_numerics(source, written, rows_of(request), "fp16", lambda done, total, what: None)
    assert "mul0" in refused.value.hint


def test_keep_high_keeps_a_node_in_fp32(prepared: Prepare) -> None:
    first, second = (node.name for node in vit_like().graph.node if node.op_type == "Softmax")
    typed = prepared(vit_like(), "fp16", rows(vit_like()), keep_high=(first,))
    assert (kind_of(typed, first), kind_of(typed, second)) == (FLOAT, TensorProto.FLOAT16)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_unknown_name_in_keep_high_is_told_with_the_nearest(prepared: Prepare, precision: str) -> None:
    with pytest.raises(UnknownName, match="layers/prodct") as told:
        prepared(gemm(), precision, [{"x": np.ones((1, 16), np.float32)}], keep_high=("layers/prodct",))
    assert "layers/product" in told.value.hint


def test_graphs_inside_nodes_read_their_tensors_in_fp32(prepared: Prepare) -> None:
    def branch(name: str, kind: str) -> onnx.GraphProto:
        node = helper.make_node(kind, ["doubled"], [f"{name}.out"], f"{name}.node")
        return helper.make_graph([node], name, [], [info(f"{name}.out", "batch", 4)])

    nodes = [
        helper.make_node("Add", ["x", "x"], ["doubled"], "double"),
        helper.make_node(
            "If",
            ["take"],
            ["y"],
            "choice",
            then_branch=branch("yes", "Relu"),
            else_branch=branch("no", "Neg"),
        ),
    ]
    take = info("take", kind=TensorProto.BOOL)
    model = make(nodes, [info("x", "batch", 4), take], [info("y", "batch", 4)])
    feeds = [{"x": np.ones((1, 4), np.float32), "take": np.array(True)}]
    typed = prepared(model, "fp16", feeds)
    assert (kind_of(typed, "double"), types_of(typed)["doubled"]) == (TensorProto.FLOAT16, FLOAT)


def test_bfloat16_rounds_as_onnxruntime_does(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    values[:3] = (1 + 2.0**-8, 1 + 3 * 2.0**-8, 0.0)
    nodes = [
        helper.make_node("Cast", ["x"], ["slim"], to=TensorProto.BFLOAT16),
        helper.make_node("Cast", ["slim"], ["y"], to=FLOAT),
    ]
    model = make(nodes, [info("x", "n")], [info("y", "n")])
    engine = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    half = HALVES["bf16"]
    np.testing.assert_array_equal(half.read(half.stored(values)), engine.run(None, {"x": values})[0])


def test_weights_beside_the_model_are_read_and_missing_ones_told(
    prepared: Prepare, requested: Request, tmp_path: Path
) -> None:
    typed = prepared(vit_like(), "int8", rows(vit_like()), outside=True)
    assert typed.path.stat().st_size < 100_000, "large weights are in a file of their own"
    assert len(list((tmp_path / "work").iterdir())) == 2
    request = requested(vit_like(), "fp16", outside=True)
    (tmp_path / "model.data").unlink()
    with pytest.raises(CompileFailed, match=r"model\.data, which is missing"):
        typed_graph(request, tmp_path / "work", lambda done, total, what: None)


def test_a_model_of_16_bits_is_refused(prepared: Prepare) -> None:
    model = gemm()
    half = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float16)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(half, "w"))
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(PrecisionNotGiven, match="16-bit weights"):
        prepared(model, "fp16")


def test_the_same_request_gives_the_same_bytes(prepared: Prepare) -> None:
    once, again = (prepared(vit_like(), "int8", rows(vit_like())).path for _ in range(2))
    assert once == again
    first = once.read_bytes() + once.with_suffix(".data").read_bytes()
    second = prepared(vit_like(), "int8", rows(vit_like())).path
    assert first == second.read_bytes() + second.with_suffix(".data").read_bytes()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("gpu_arch", ["sm_75", "sm_89"])
def test_the_library_builds_nodes_kept_in_fp32_between_others(
    compiled: Build, precision: str, gpu_arch: str
) -> None:
    scale = scalar("scale", 400.0)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], "first"),
        helper.make_node("Mul", ["a", "scale"], ["b"], "large"),
        helper.make_node("Tanh", ["b"], ["c"], "tanh"),
        helper.make_node("MatMul", ["c", "second"], ["y"], "second"),
    ]
    constants = [weights("first", HIDDEN, HIDDEN), weights("second", HIDDEN, 8), scale]
    model = make(nodes, [info("x", "batch", HIDDEN)], [info("y", "batch", 8)], constants)
    drawn = np.random.default_rng(8)
    feeds = [{"x": drawn.normal(size=(4, HIDDEN)).astype(np.float32) * 40} for _ in range(4)]
    workdir, built = compiled(model, precision, gpu_arch, calibration=feeds)
    assert (workdir / "engine.plan").stat().st_size > 0
    assert any("large (Mul: reaches" in note for note in built.notes)


def test_keys_tell_nodes_apart_that_have_one_name(requested: Request, tmp_path: Path) -> None:
    model = chain("Relu", "Mul", Mul="t1")
    for node in model.graph.node:
        node.name = ""
    source = open_source(requested(model).model, tmp_path / "work")
    assert [node.name for node in source.model.graph.node] == ["Relu_0", "Mul_1"]
    assert len({key(node) for node in source.model.graph.node}) == 2
