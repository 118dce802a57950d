"""fp8: products of matrices in float8, built for the GPUs that have it. No engine is run here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.api import CompileFailed, PrecisionNotGiven
from edgekit_tensorrt.architectures import Choice, precisions_of
from edgekit_tensorrt.description import PLAN_FILE, read_description, read_header
from edgekit_tensorrt.prepare import typed_graph

from .conftest import Build, Prepare, Request
from .models import FLOAT, cnn, gemm, info, make, minilm_like, rows, vit_like, weights
from .typed import graph_of, kind_of, types_of

F8 = TensorProto.FLOAT8E4M3FN
MODELS = [minilm_like, cnn, vit_like]


@pytest.mark.parametrize("model", MODELS)
def test_fp8_stands_at_products_of_matrices_alone_and_convolutions_stay_in_16_bits(
    prepared: Prepare, model: Callable[[], onnx.ModelProto]
) -> None:
    original = model()
    typed = prepared(original, "fp8", rows(original))
    graph, types = graph_of(typed), types_of(typed)
    raised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    stored = {tensor.name for tensor in original.graph.initializer}
    products = [node for node in original.graph.node if node.op_type in ("MatMul", "Gemm")]
    weighted = {node.name for node in products if node.input[1] in stored}
    assert {node.name for node in graph.node if raised & set(node.input)} == weighted
    quantizers = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {types[node.input[2]] for node in quantizers} == {F8}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert {types[name] for node in convolutions for name in node.input} <= {TensorProto.FLOAT16}


def test_weights_in_fp8_are_those_of_onnxruntimes_own_quantizer(prepared: Prepare) -> None:
    drawn = np.random.default_rng(0)
    feeds = [{"x": drawn.normal(size=(2, 16)).astype(np.float32)} for _ in range(4)]
    typed = prepared(gemm(), "fp8", feeds)
    stored = {tensor.name: tensor for tensor in graph_of(typed).initializer}
    ours = next(tensor for tensor in stored.values() if tensor.data_type == F8 and len(tensor.dims) == 2)
    weight = numpy_helper.to_array(weights("w", 16, 8))
    scale = np.abs(weight).max(axis=0) / np.float32(448)
    asked = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["w", "scale", "zero"], ["q"], axis=1),
            helper.make_node("Cast", ["q"], ["raised"], to=FLOAT),
        ],
        "quantizer",
        [helper.make_tensor_value_info("w", FLOAT, [16, 8])],
        [helper.make_tensor_value_info("raised", FLOAT, [16, 8])],
        [
            numpy_helper.from_array(scale, "scale"),
            helper.make_tensor("zero", F8, [8], bytes(8), raw=True),
        ],
    )
    model = helper.make_model(asked, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    engine = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    theirs = engine.run(None, {"w": weight})[0]
    np.testing.assert_array_equal(numpy_helper.to_array(ours).astype(np.float32), theirs)


@pytest.mark.parametrize("model", MODELS)
def test_the_graph_itself_gives_numbers_near_those_of_fp32_and_not_the_same(
    prepared: Prepare, model: Callable[[], onnx.ModelProto]
) -> None:
    original = model()
    typed = prepared(original, "fp8", rows(original))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    exact, low = (
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for path in (typed.path.parent.parent / "model.onnx", typed.path)
    )
    pairs = [(exact.run(None, row)[0], low.run(None, row)[0]) for row in rows(original)]
    gap, size = (float(np.square(np.concatenate(part)).sum()) for part in _split(pairs))
    assert 1e-3 < (gap / size) ** 0.5 < 0.15


def _split(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [one - other for one, other in pairs], [one for one, _ in pairs]


def test_the_notes_say_how_many_nodes_of_which_kind_are_fp8(prepared: Prepare) -> None:
    assert "1 Gemm, 12 MatMul with stored weights are fp8, with ranges from 8 calibration rows" in (
        prepared(vit_like(), "fp8", rows(vit_like())).notes
    )


def test_fp8_without_rows_asks_for_them(prepared: Prepare) -> None:
    with pytest.raises(PrecisionNotGiven, match="fp8 learns the ranges") as told:
        prepared(gemm(), "fp8")
    assert "--calibration" in told.value.hint


def test_histograms_that_are_made_for_int8_are_refused_for_fp8(requested: Request, tmp_path: Path) -> None:
    model = gemm()
    asked = replace(requested(model, "fp8", rows(model)), options={"ranges": "entropy"})
    with pytest.raises(CompileFailed, match="ranges = entropy") as told:
        typed_graph(asked, tmp_path / "work", lambda done, total, what: None)
    assert "percentile" in told.value.hint


def test_percentiles_of_fp8_ranges_clip_one_rare_value(requested: Request, tmp_path: Path) -> None:
    drawn = np.random.default_rng(5)
    feeds = [{"x": drawn.uniform(-1, 1, size=(64, 16)).astype(np.float32)} for _ in range(8)]
    feeds[3]["x"][0, 0] = 40.0
    scales = []
    for method in ("minmax", "percentile"):
        asked = replace(requested(gemm(), "fp8", feeds), options={"ranges": method})
        graph = onnx.load(typed_graph(asked, tmp_path / "work", lambda done, total, what: None).path).graph
        stored = {tensor.name: tensor for tensor in graph.initializer}
        lower = next(node for node in graph.node if node.op_type == "QuantizeLinear")
        scales.append(float(numpy_helper.to_array(stored[lower.input[1]]).astype(np.float32).max()))
    assert scales[1] < 0.6 * scales[0]


def test_a_node_kept_high_is_not_in_fp8(prepared: Prepare) -> None:
    model = vit_like()
    typed = prepared(model, "fp8", rows(model), keep_high=("/layer.0.query.matmul",))
    node = next(node for node in graph_of(typed).node if node.name == "/layer.0.query.matmul")
    assert "fp8" not in "".join(node.input)
    assert kind_of(typed, "/layer.0.query.matmul") == FLOAT
    with pytest.raises(PrecisionNotGiven, match="the model has none"):
        prepared(gemm(), "fp8", [{"x": np.ones((1, 16), np.float32)}], keep_high=("layers/product",))


def test_a_model_that_cannot_be_brought_to_the_operator_set_of_float8_is_refused(
    prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: object) -> onnx.ModelProto:
        raise RuntimeError("no adapter")

    monkeypatch.setattr(onnx.version_converter, "convert_version", refuse)
    with pytest.raises(PrecisionNotGiven, match="fp8 needs ONNX operator set 19, and the model of set 18"):
        prepared(gemm(), "fp8", rows_of_gemm())


def rows_of_gemm() -> list[dict[str, np.ndarray]]:
    drawn = np.random.default_rng(1)
    return [{"x": drawn.normal(size=(2, 16)).astype(np.float32)} for _ in range(4)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("gpu_arch", ["sm_89", "sm_120"])
def test_the_library_builds_it_for_ada_and_blackwell(
    compiled: Build, model: Callable[[], onnx.ModelProto], gpu_arch: str
) -> None:
    original = model()
    artifact, said = compiled(original, "fp8", gpu_arch, calibration=rows(original))
    assert said.precision == read_description(artifact).precision == "fp8"
    header = read_header((artifact / PLAN_FILE).read_bytes())
    assert header is not None
    assert header.architectures == (gpu_arch,)
    assert said.ranges is not None


def test_a_weight_takes_one_byte_of_the_engine(compiled: Build) -> None:
    model = make(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        [info("x", "batch", 1024)],
        [info("y", "batch", 2048)],
        [weights("w", 1024, 2048)],
    )
    drawn = np.random.default_rng(2)
    feeds = [{"x": drawn.normal(size=(2, 1024)).astype(np.float32)} for _ in range(4)]
    sizes = {
        word: (compiled(model, word, calibration=feeds)[0] / PLAN_FILE).stat().st_size
        for word in ("fp16", "fp8")
    }
    assert sizes["fp16"] - sizes["fp8"] > 0.9 * 1024 * 2048


def test_two_builds_in_fp8_are_byte_identical(compiled: Build) -> None:
    model = vit_like()
    first, second = (compiled(model, "fp8", calibration=rows(model))[0] for _ in range(2))
    for name in ("engine.plan", "engine.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize("gpu_arch", ["sm_75", "sm_80", "sm_86", "sm_87"])
def test_older_gpus_are_refused_with_the_precisions_that_they_have(compiled: Build, gpu_arch: str) -> None:
    with pytest.raises(PrecisionNotGiven, match=f"no fp8 on {gpu_arch}; it has fp32, fp16, int8"):
        compiled(gemm(), "fp8", gpu_arch, calibration=rows_of_gemm())


def test_one_artifact_for_several_gpus_has_what_all_of_them_have(compiled: Build) -> None:
    with pytest.raises(PrecisionNotGiven, match=r"no fp8 on sm_86; .* on every one of sm_86, sm_89") as told:
        compiled(gemm(), "fp8", calibration=rows_of_gemm(), architectures="sm_86,sm_89")
    assert "or leave out sm_86" in told.value.hint
    together = Choice(library="tensorrt-rtx", architectures=("sm_89", "sm_120"))
    assert "fp8" in precisions_of(together)
    artifact, _ = compiled(gemm(), "fp8", calibration=rows_of_gemm(), architectures="sm_89,sm_120")
    assert read_description(artifact).architectures == ("sm_89", "sm_120")


def test_a_graph_that_is_in_fp8_already_is_built_as_it_is(prepared: Prepare, compiled: Build) -> None:
    typed = prepared(gemm(), "fp8", rows_of_gemm())
    model = onnx.load(typed.path)
    _, said = compiled(model, "fp8")
    assert any("passed through as it is" in note for note in said.notes)
    with pytest.raises(PrecisionNotGiven, match="quantized already, to fp8"):
        compiled(model, "int8", calibration=rows_of_gemm())
