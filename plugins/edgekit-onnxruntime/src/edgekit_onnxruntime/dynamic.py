"""int8 by dynamic quantization: weights ahead of time, activations while running.

MatMul and Gemm gain from it. onnxruntime's dynamic int8 convolution is several times slower than its
fp32 one, so Conv stays high. Calibration rows are not needed; given some, outliers are evened out first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgekit.api import (
    CompileFailed,
    CompileRequest,
    NothingLowered,
    PrecisionNotGiven,
    ProgressCallback,
    all_nodes,
)
from edgekit_onnxruntime import smoothing
from edgekit_onnxruntime.calibration import observe
from edgekit_onnxruntime.embeddings import quantize_embeddings
from edgekit_onnxruntime.graph import load_graph
from edgekit_onnxruntime.plan import Plan
from edgekit_onnxruntime.rewrite import fold_transposes, forget_shapes_of_weights, split_shared_weights
from edgekit_onnxruntime.settings import LIBRARY_ERRORS, Settings, is_large, library, mark, written
from edgekit_runtime.session import Array


def build(
    request: CompileRequest,
    planned: Plan,
    settings: Settings,
    progress: ProgressCallback,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write the quantized model; return its files and what is to be noted."""
    peaks, rows = _peaks(request, settings, progress)
    model = onnx.load(request.model)
    forget_shapes_of_weights(model.graph)
    fold_transposes(model)
    split_shared_weights(model.graph)
    smoothed = smoothing.smooth(model.graph, smoothing.readers(model.graph, settings.keep_high), peaks)
    if settings.embeddings:
        quantize_embeddings(model, settings.keep_high)
    mark(model, "int8")
    large = is_large(model)
    with tempfile.TemporaryDirectory(prefix="edgekit-prepared-") as scratch:
        # Through a file: given a model the library copies it, weights and all, and this one is held too.
        path = Path(scratch) / "model.onnx"
        onnx.save_model(model, path, save_as_external_data=True, location="model.data")
        del model
        _call_library(path, settings, large=large)
    built = _verify(planned, settings)
    note = f"{built} of {len(planned.multiplied)} multiplications with constant weights are int8, dynamically"
    return written(settings.output), (note, _evened(rows, smoothed, given=request.calibration is not None))


def _call_library(path: Path, settings: Settings, *, large: bool) -> None:
    excluded = [name for kept in settings.keep_high for name in (kept, f"{kept}_MatMul")]
    try:
        with library():
            quantize_dynamic(
                path,
                settings.output,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=settings.per_channel,
                weight_type=QuantType.QInt8 if settings.signed else QuantType.QUInt8,
                nodes_to_exclude=excluded,
                use_external_data_format=large,
            )
    except LIBRARY_ERRORS as error:
        raise CompileFailed(
            f"onnxruntime could not quantize the model: {type(error).__name__}: {error}",
            hint="name the troubled nodes in keep_high, or compile for fp32",
        ) from error


def _peaks(
    request: CompileRequest, settings: Settings, progress: ProgressCallback
) -> tuple[Mapping[str, Array], int]:
    """The largest magnitude of each channel that a multiplication reads, and the rows that told it."""
    if request.calibration is None or not settings.smooth:
        return {}, 0
    graph = load_graph(request.model)
    peaks = smoothing.Peaks()
    wanted = list(smoothing.readers(graph.graph, settings.keep_high))
    rows = observe(request, graph, wanted, peaks.see, progress) if wanted else 0
    return peaks.values, rows


def _evened(rows: int, smoothed: int, *, given: bool) -> str:
    if rows:
        return f"outliers of {smoothed} activations are evened out, from {rows} calibration rows"
    if given:
        return "no outliers were evened out: this model has no place for their factors, or smooth is off"
    return "no outliers were evened out: calibration rows would make the answers more exact"


def _verify(planned: Plan, settings: Settings) -> int:
    """Count the int8 multiplications that were really built; raise `NothingLowered` for none."""
    model = onnx.load(settings.output, load_external_data=False)
    built: int = sum(node.op_type == "MatMulInteger" for node in all_nodes(model.graph))
    if not built:
        raise NothingLowered(
            f"onnxruntime quantized none of {len(planned.multiplied)} multiplications",
            hint="compile for fp32",
        )
    names = {node.name for node in all_nodes(model.graph)}
    lost = [
        name for name in settings.keep_high if f"{name}_quant" in names or f"{name}_MatMul_quant" in names
    ]
    if lost:
        raise PrecisionNotGiven(
            f"{lost[0]!r} was to be kept high and was quantized", hint="report this to edgekit-onnxruntime"
        )
    return built
