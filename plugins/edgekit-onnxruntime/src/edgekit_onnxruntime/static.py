"""int8 by static quantization: ranges of activations are learnt from calibration rows and stored (QDQ).

For convolutions: weights per output channel, rounded by `rounding`, and int8 from one operator to the next.
In a transformer only what a multiplication reads is quantized, not what it gives, which costs ten times as
many answers.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import HistogramCollector, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from edgekit.api import (
    CompileFailed,
    CompileRequest,
    LearntRanges,
    NothingLowered,
    PrecisionNotGiven,
    ProgressCallback,
    RangeWatch,
    all_nodes,
    check_keep_high,
)
from edgekit_onnxruntime.calibration import count_rows, observe
from edgekit_onnxruntime.embeddings import quantize_embeddings
from edgekit_onnxruntime.plan import Plan
from edgekit_onnxruntime.rewrite import fold_transposes, forget_shapes_of_weights, split_shared_weights
from edgekit_onnxruntime.rounding import Patches
from edgekit_onnxruntime.session import ENGINE_ERRORS, PROVIDER
from edgekit_onnxruntime.settings import LIBRARY_ERRORS, Settings, is_large, library, mark, written
from edgekit_runtime.session import Array

MIN_OPSET = 13
MULTIPLY = ("Conv", "MatMul", "Gemm")
#: Between convolutions: operators that onnxruntime computes in int8, or that only move values.
_BETWEEN = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Flatten",
    "GlobalAveragePool",
    "MaxPool",
    "Relu",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
_ATTENTION = ("Softmax", "LayerNormalization")
_SMALL = 1024
#: Of weights in 8 bits, and in 7.
LARGEST, REDUCED = 127, 64
_PERCENTILE = 99.99
_BINS = 2048
_ENTROPY_BINS = 128
#: Values of a row that go into a histogram for "mse", and shares of the whole range that are tried.
_SHOWN = 8192
_SHARES = tuple(float(share) for share in np.linspace(1.0, 0.3, 15))


class Ranges:
    """Smallest and largest value of each tensor; but for "minmax" a histogram of its values too.

    One row is taken in at a time and forgotten. Histograms are those of onnxruntime's own calibrators; for
    "mse" of some values of each row, which took a fifth of the time.
    """

    def __init__(self, method: str) -> None:
        self._method = method
        self._limits: dict[str, tuple[float, float]] = {}
        self._watch = RangeWatch()
        self._collector = None if method == "minmax" else _collector(method)

    def see(self, name: str, run: int, value: Array) -> None:
        """Take in one row's value of a tensor."""
        low, high = self._limits.get(name, (0.0, 0.0))
        least, most = float(value.min()), float(value.max())
        self._limits[name] = (min(low, least), max(high, most))
        self._watch.see(name, run, least, most)
        if self._collector is not None:
            shown = value if self._method != "mse" or value.size <= _SHOWN else _some(value)
            with library():
                self._collector.collect({name: shown})

    def rows(self, quantized: Collection[str]) -> LearntRanges:
        """Which rows set the ranges of these tensors. No single row sets those that histograms tell."""
        found = self._watch.found(quantized)
        return found if self._collector is None else replace(found, setters=())

    def found(self) -> TensorsData:
        """The ranges as the library takes them."""
        limits = self._limits
        if self._collector is not None and self._method == "mse":
            histograms = self._collector.get_histogram_dict()
            limits = {name: least_error(*limits[name], *found[:2]) for name, found in histograms.items()}
        elif self._collector is not None:
            with library():
                learnt = self._collector.compute_collection_result()
            limits = {name: (float(values[0]), float(values[1])) for name, values in learnt.items()}
        pairs = {
            name: (np.array(low, np.float32), np.array(high, np.float32))
            for name, (low, high) in limits.items()
        }
        return TensorsData(CalibrationMethod.MinMax, pairs)


def least_error(low: float, high: float, counts: Array, edges: Array) -> tuple[float, float]:
    """The range, of those that are `low` to `high` made smaller on both sides, in which 8 bits have the least
    squared error for values of this histogram. edges: one more than counts."""
    values = (edges[:-1] + edges[1:]) / 2
    best, found = np.inf, (low, high)
    for share in _SHARES:
        scale = share * (high - low) / 255
        if scale <= 0:
            break
        zero = np.rint(-share * low / scale)
        rounded = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
        error = float(counts @ (rounded - values) ** 2)
        if error < best:
            best, found = error, (share * low, share * high)
    return found


def _some(value: Array) -> Array:
    """Some values, and the ends."""
    flat = value.reshape(-1)
    step = -(-flat.size // _SHOWN)
    return np.append(flat[::step], (flat.min(), flat.max())).astype(np.float32)


def build(
    request: CompileRequest, planned: Plan, settings: Settings, progress: ProgressCallback
) -> tuple[tuple[str, ...], tuple[str, ...], LearntRanges]:
    """Write the quantized model; return its files, what is to be noted, and which rows set the ranges."""
    if request.calibration is None:
        raise PrecisionNotGiven(
            "static int8 learns the ranges of activations from calibration rows, and there are none",
            hint="--calibration FILE, with some hundred rows like those the model will see",
        )
    model = _prepared(request.model, settings.keep_high)
    attention = any(node.op_type in _ATTENTION for node in model.graph.node)
    types = MULTIPLY if attention else (*MULTIPLY, *_BETWEEN)
    convolved = any(node.op_type == "Conv" for node in model.graph.node) and not attention
    method = settings.ranges if settings.ranges != "auto" else "mse" if convolved else "minmax"
    ranges, patches = Ranges(method), Patches(model.graph, count_rows(request))

    def see(name: str, run: int, value: Array) -> None:
        ranges.see(name, run, value)
        patches.see(name, run, value)

    rows = observe(request, model, list(_activations(model, types)), see, progress)
    if settings.embeddings:
        quantize_embeddings(model, settings.keep_high)
    mark(model, "int8")
    made = _quantized(model, types, ranges, settings, inputs_only=attention)
    nodes = made.model.graph.node
    patches.round_again(made.model.graph, LARGEST if settings.signed else REDUCED)
    _answer_in_floats(made.model.graph)
    quantized = {node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    made.save_model_to_file(str(settings.output), is_large(model))
    built, total = _verify(settings)
    notes = (
        f"{built} of {total} convolutions and multiplications are int8, with ranges by {method} "
        f"from {rows} calibration rows",
    )
    return written(settings.output), notes, ranges.rows(quantized)


def _prepared(path: Path, keep_high: Sequence[str]) -> onnx.ModelProto:
    """The model with normalizations folded into convolutions, and every tensor's type."""
    model = onnx.load(path)
    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=1)
    if opset < MIN_OPSET:
        raise CompileFailed(
            f"{path} is of opset {opset}: scales per channel begin with opset {MIN_OPSET}",
            hint=f"export the model with opset {MIN_OPSET} or later",
        )
    if any(node.op_type == "BatchNormalization" for node in model.graph.node):
        model = _folded(path)
        check_keep_high(model.graph, keep_high)
    forget_shapes_of_weights(model.graph)
    fold_transposes(model)
    split_shared_weights(model.graph)
    try:
        inferred = onnx.shape_inference.infer_shapes(_without_weights(model)).graph
    except LIBRARY_ERRORS as error:
        raise CompileFailed(
            f"the types of the tensors in {path} cannot be inferred: {error}",
            hint="method = dynamic does not need them",
        ) from error
    weights = {tensor.name for tensor in model.graph.initializer}
    del model.graph.value_info[:]
    model.graph.value_info.extend(info for info in inferred.value_info if info.name not in weights)
    return model


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with large constants as inputs: shape inference copies a model several times."""
    large = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) > _SMALL]
    inputs = [onnx.helper.make_tensor_value_info(item.name, item.data_type, item.dims) for item in large]
    named = {item.name for item in large}
    graph = onnx.GraphProto(name=model.graph.name, node=model.graph.node, output=model.graph.output)
    graph.input.extend([*(port for port in model.graph.input if port.name not in named), *inputs])
    graph.initializer.extend(item for item in model.graph.initializer if item.name not in named)
    return onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, graph=graph)


def _folded(path: Path) -> onnx.ModelProto:
    """What onnxruntime's basic optimizations make of the model: plain ONNX still."""
    with tempfile.TemporaryDirectory(prefix="edgekit-folded-") as scratch:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(scratch) / "folded.onnx")
        try:
            ort.InferenceSession(str(path), options, providers=[PROVIDER])
        except ENGINE_ERRORS as error:
            raise CompileFailed(f"onnxruntime cannot read {path}: {error}") from error
        return onnx.load(options.optimized_model_filepath)


def _activations(model: onnx.ModelProto, types: Sequence[str]) -> Iterator[str]:
    """Float tensors that a node of these types reads or gives, in the graph's order."""
    infos = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    floats = {info.name for info in infos if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    floats -= {tensor.name for tensor in model.graph.initializer}
    named = (
        name for node in model.graph.node if node.op_type in types for name in (*node.input, *node.output)
    )
    yield from dict.fromkeys(name for name in named if name in floats)


def _quantized(
    model: onnx.ModelProto, types: Sequence[str], ranges: Ranges, settings: Settings, *, inputs_only: bool
) -> QDQQuantizer:
    options: dict[str, object] = {"MatMulConstBOnly": True}
    if inputs_only:
        options |= {"OpTypesToExcludeOutputQuantization": list(types), "QuantizeBias": False}
    try:
        with library():
            quantizer = QDQQuantizer(
                model,
                settings.per_channel,
                not settings.signed,
                QuantType.QInt8,
                QuantType.QUInt8,
                ranges.found(),
                [],
                list(settings.keep_high),
                list(types),
                options,
            )
            quantizer.quantize_model()
    except LIBRARY_ERRORS as error:
        raise CompileFailed(
            f"onnxruntime could not quantize the model: {type(error).__name__}: {error}",
            hint="name the troubled nodes in keep_high, or compile for fp32",
        ) from error
    return quantizer.model


def _answer_in_floats(graph: onnx.GraphProto) -> None:
    """Leave the outputs of the model that a multiplication gives in floats, as onnxruntime computes them:
    rounded to 8 bits, the two best of many classes are often equal."""
    makers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in all_nodes(graph) for name in node.input)
    for port in graph.output:
        raised = makers.get(port.name)
        lowered = raised and raised.op_type == "DequantizeLinear" and makers.get(raised.input[0])
        maker = lowered and lowered.op_type == "QuantizeLinear" and makers.get(lowered.input[0])
        if not (raised and lowered and maker and maker.op_type in ("MatMul", "Gemm")):
            continue
        if readers[maker.output[0]] == readers[lowered.output[0]] == 1:
            graph.node.remove(raised)
            graph.node.remove(lowered)
            maker.output[0] = port.name
            _forget(graph, (*raised.input[1:], *lowered.input[1:]))


def _forget(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """Take out those of these stored tensors that nothing reads any more."""
    read = {name for node in graph.node for name in node.input}
    for tensor in [each for each in graph.initializer if each.name in names and each.name not in read]:
        graph.initializer.remove(tensor)


def _collector(method: str) -> HistogramCollector:
    entropy = method == "entropy"
    return HistogramCollector(
        method="entropy" if entropy else "percentile",
        symmetric=False,
        num_bins=_ENTROPY_BINS if entropy else _BINS,
        num_quantized_bins=_ENTROPY_BINS,
        percentile=_PERCENTILE,
        scenario="same",
    )


def _verify(settings: Settings) -> tuple[int, int]:
    """Multiplications that read raised int8 on both sides, and all with constant weights."""
    model = onnx.load(settings.output, load_external_data=False)
    raised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    weights = {tensor.name for tensor in model.graph.initializer} | raised
    nodes = [node for node in model.graph.node if node.op_type in MULTIPLY and node.input[1] in weights]
    built = [node for node in nodes if set(node.input[:2]) <= raised]
    lost = [node.name for node in built if node.name in settings.keep_high]
    if lost:
        raise PrecisionNotGiven(
            f"{lost[0]!r} was to be kept high and was quantized", hint="report this to edgekit-onnxruntime"
        )
    if not built:
        raise NothingLowered("nothing was quantized", hint="compile for fp32, or keep fewer nodes high")
    return len(built), len(nodes)
