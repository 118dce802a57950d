"""Graphs with quantized products or weights: where they are rounded, to what, and when that is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import quantize_data

from edgekit.api import CompileFailed, PrecisionNotGiven
from edgekit_tensorrt.prepare import typed_graph

from .conftest import Build, Feeds, Prepare, Request
from .models import FLOAT, cnn, gemm, info, make, minilm_like, rows, vit_like, weights
from .typed import graph_of, kind_of, types_of


@pytest.mark.parametrize("model", [minilm_like, cnn, vit_like])
def test_int8_stands_at_the_products_alone_and_is_symmetric(
    prepared: Prepare, model: Callable[[], onnx.ModelProto]
) -> None:
    original = model()
    typed = prepared(original, "int8", rows(original))
    graph, types = graph_of(typed), types_of(typed)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    raised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    readers = [node for node in graph.node if raised & set(node.input)]
    weighted = [node for node in original.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    names = {tensor.name for tensor in original.graph.initializer}
    assert {node.name for node in readers} == {node.name for node in weighted if node.input[1] in names}
    for node in graph.node:
        if node.op_type.endswith("quantizeLinear") or node.op_type == "QuantizeLinear":
            assert types[node.input[2]] == TensorProto.INT8
            assert not numpy_helper.to_array(stored[node.input[2]]).any()
    assert not any(tensor.data_type == TensorProto.INT32 for tensor in graph.initializer)


def test_weights_in_int8_are_those_of_onnxruntimes_quantizer(prepared: Prepare) -> None:
    typed = prepared(
        gemm(), "int8", [{"x": np.eye(16, dtype=np.float32)[:2]}, {"x": np.ones((2, 16), np.float32)}]
    )
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph_of(typed).initializer}
    ours = next(array for name, array in stored.items() if array.dtype == np.int8 and array.ndim == 2)
    weight = numpy_helper.to_array(weights("w", 16, 8))
    for channel in range(8):
        theirs = quantize_data(weight[:, channel], TensorProto.INT8, symmetric=True)[2]
        np.testing.assert_array_equal(ours[:, channel], theirs)


def test_a_channel_that_sticks_out_is_evened_and_the_answers_are_nearer(prepared: Prepare) -> None:
    drawn = np.random.default_rng(4)
    feeds = [{"x": drawn.normal(size=(4, 16)).astype(np.float32)} for _ in range(8)]
    for row in feeds:
        row["x"][:, 3] *= 40
    typed = prepared(gemm(), "int8", feeds)
    assert any("1 of 1 activations have channels evened out" in note for note in typed.notes)
    even = next(node for node in graph_of(typed).node if node.op_type == "Mul")
    assert even.output[0] in {
        node.input[0] for node in graph_of(typed).node if node.op_type == "QuantizeLinear"
    }


@pytest.mark.parametrize(
    ("precision", "kind"), [("int8-weights", TensorProto.INT8), ("int4-weights", TensorProto.INT4)]
)
def test_weights_alone_are_stored_small_and_computed_with_in_fp16(
    prepared: Prepare, precision: str, kind: int
) -> None:
    typed = prepared(vit_like(), precision)
    graph, types = graph_of(typed), types_of(typed)
    raised = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    assert len(raised) > 10
    assert {types[node.input[0]] for node in raised.values()} == {kind}
    assert {types[name] for name in raised} == {TensorProto.FLOAT16}
    assert not any(node.op_type == "QuantizeLinear" for node in graph.node)


def test_weights_of_4_bits_are_the_nearest_of_their_block(prepared: Prepare) -> None:
    weight = numpy_helper.to_array(weights("w", 128, 5))
    model = make(
        [helper.make_node("Gemm", ["x", "turned"], ["y"], "product", transB=1)],
        [info("x", "batch", 128)],
        [info("y", "batch", 5)],
        [numpy_helper.from_array(np.ascontiguousarray(weight.T), "turned")],
    )
    stored = {tensor.name: tensor for tensor in graph_of(prepared(model, "int4-weights")).initializer}
    small = next(numpy_helper.to_array(t) for t in stored.values() if t.data_type == TensorProto.INT4)
    scales = next(numpy_helper.to_array(t) for t in stored.values() if t.data_type == TensorProto.FLOAT16)
    assert (small.shape, scales.shape) == ((5, 128), (5, 2))
    raised = small.astype(np.float32) * np.repeat(scales.astype(np.float32), 64, axis=1)
    assert np.abs(raised - weight.T).max() <= scales.max() / 2 * 1.01


def test_int8_without_rows_asks_for_them(prepared: Prepare) -> None:
    with pytest.raises(PrecisionNotGiven, match="calibration rows") as told:
        prepared(cnn(), "int8")
    assert "--calibration" in told.value.hint


def test_a_node_kept_high_is_not_quantized(prepared: Prepare) -> None:
    typed = prepared(cnn(), "int8", rows(cnn()), keep_high=("/stem.conv",))
    node = next(node for node in graph_of(typed).node if node.name == "/stem.conv")
    assert node.input[0] == "image"
    assert kind_of(typed, "/stem.conv") == FLOAT
    with pytest.raises(PrecisionNotGiven, match="and the model has none"):
        prepared(gemm(), "int8", [{"x": np.ones((1, 16), np.float32)}], keep_high=("layers/product",))


def test_weights_of_one_tiny_scale_keep_fp32_scales(prepared: Prepare) -> None:
    model = gemm()
    small = numpy_helper.to_array(weights("w", 16, 8)) * np.float32(1e-5)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(small, "w"))
    feeds = [{"x": np.random.default_rng(n).normal(size=(2, 16)).astype(np.float32)} for n in range(4)]
    typed = prepared(model, "int8", feeds)
    assert kind_of(typed, "layers/product") == FLOAT


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ([{"x": np.ones((1, 16), np.float32)}] * 3, "all 3 calibration rows are the same"),
        ([{"x": np.ones((1, 5), np.float32)}], "calibration row 1 does not fit"),
        ([{"x": np.full((1, 16), np.nan, np.float32)}], "input 'x' gives no finite numbers"),
    ],
)
def test_rows_that_say_nothing_are_told(prepared: Prepare, feeds: Sequence[Feeds], words: str) -> None:
    with pytest.raises(CompileFailed, match=words):
        prepared(gemm(), "int8", feeds)


@pytest.mark.parametrize("gpu_arch", ["sm_75", "sm_89", "sm_120"])
def test_the_library_builds_small_weights(compiled: Build, gpu_arch: str) -> None:
    workdir, _ = compiled(vit_like(), "int8-weights", gpu_arch)
    eight = (workdir / "engine.plan").stat().st_size
    if gpu_arch == "sm_75":
        with pytest.raises(PrecisionNotGiven, match="no int4-weights on sm_75"):
            compiled(vit_like(), "int4-weights", gpu_arch)
        return
    workdir, _ = compiled(vit_like(), "int4-weights", gpu_arch)
    assert (workdir / "engine.plan").stat().st_size < eight


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_the_row_that_alone_sets_a_range_is_named(prepared: Prepare, precision: str) -> None:
    drawn = np.random.default_rng(4)
    feeds = [{"x": drawn.uniform(-1, 1, size=(2, 16)).astype(np.float32)} for _ in range(6)]
    feeds[3]["x"][0] *= 5.0
    found = prepared(gemm(), precision, feeds).ranges
    assert found is not None
    assert found.count == 1
    (setter,) = found.setters
    assert (setter.run, setter.tensor) == (3, "x")
    largest = [float(np.abs(row["x"]).max()) for row in feeds]
    assert setter.width == pytest.approx(2 * largest[3])
    assert setter.width_without == pytest.approx(2 * max(largest[:3] + largest[4:]))


def test_rows_of_one_kind_set_no_range_alone_and_a_histogram_tells_none(requested: Request) -> None:
    drawn = np.random.default_rng(4)
    feeds = [{"x": drawn.uniform(-1, 1, size=(2, 16)).astype(np.float32)} for _ in range(6)]
    work = requested(gemm(), "int8", feeds).model.parent / "work"
    alike = typed_graph(requested(gemm(), "int8", feeds), work, lambda *step: None).ranges
    feeds[3]["x"] *= 5.0
    request = replace(requested(gemm(), "int8", feeds), options={"ranges": "percentile"})
    told = typed_graph(request, work, lambda *step: None).ranges
    assert [found and (found.count, found.setters) for found in (alike, told)] == [(1, ()), (1, ())]


def quantized_before(model: onnx.ModelProto, home: Path) -> onnx.ModelProto:
    """By onnxruntime's own quantizer, with the settings that TensorRT's parser takes."""

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        left = iter(rows(model))

        def get_next(self) -> Feeds | None:
            return next(self.left, None)

    path = home / "before.onnx"
    onnx.save(model, home / "plain.onnx")
    extra = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    kinds = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8}
    quantize_static(home / "plain.onnx", path, Reader(), **kinds, extra_options=extra)
    return onnx.load(path)


def test_a_model_quantized_before_is_built_as_it_is_in_its_own_precision_alone(
    compiled: Build, tmp_path: Path
) -> None:
    model = quantized_before(cnn(), tmp_path)
    artifact, said = compiled(model, "int8")
    assert (artifact / "engine.plan").stat().st_size > 0
    assert any("quantized before it came here" in note for note in said.notes)
    for precision in ("fp32", "fp16", "int8-weights"):
        with pytest.raises(PrecisionNotGiven, match="quantized already, to int8"):
            compiled(model, precision)
    with pytest.raises(PrecisionNotGiven, match="no node can be kept high"):
        compiled(model, "int8", keep_high=("/stem.conv",))
