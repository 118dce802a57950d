"""int8 by NNCF's post-training quantization: weights and activations, ranges learnt from calibration rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nncf
import numpy as np
from nncf.quantization.range_estimator import RangeEstimatorParametersSet

from edgekit_openvino.calibration import CalibrationRows
from edgekit_openvino.engine import ov
from edgekit_openvino.library import library, origin, products, scope
from edgekit_runtime.session import Array

if TYPE_CHECKING:
    from nncf.common.graph import NNCFGraph, NNCFNode

_RANGES = {
    "minmax": RangeEstimatorParametersSet.MINMAX,
    "mean_minmax": RangeEstimatorParametersSet.MEAN_MINMAX,
}
_PRESETS = {"performance": nncf.QuantizationPreset.PERFORMANCE, "mixed": nncf.QuantizationPreset.MIXED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to quantize. ignored: names in OpenVINO's graph that stay high."""

    model_type: str
    preset: str
    range: str
    ignored: tuple[str, ...]


def quantize(model: ov.Model, rows: CalibrationRows, settings: Settings) -> ov.Model:
    """The quantized model. Raises `CompileFailed` with NNCF's reason."""
    transformer = settings.model_type == "transformer" or (
        settings.model_type == "auto" and has_attention(model)
    )
    with (
        library("quantize the model", hint="the calibration rows may not fit the model's inputs"),
        _smoothed_in_32_bits(),
    ):
        return nncf.quantize(
            model,
            nncf.Dataset(rows),
            subset_size=len(rows),
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            preset=_PRESETS.get(settings.preset, nncf.QuantizationPreset.PERFORMANCE),
            ignored_scope=scope(settings.ignored),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=_RANGES[settings.range]
            ),
        )


@contextlib.contextmanager
def _smoothed_in_32_bits() -> Iterator[None]:
    """NNCF 3.4 smooths weights in 64 bits and holds all of them so before it stores the first in 32: one and
    a half times the model. Rounded when they are made they are the same numbers."""
    try:
        from nncf.quantization.algorithms.smooth_quant.openvino_backend import OVSmoothQuantAlgoBackend
    except ImportError:  # another version keeps it elsewhere; this is about memory only
        yield
        return
    given = OVSmoothQuantAlgoBackend.weight_update_command

    def narrowed(node: NNCFNode, graph: NNCFGraph, weights: Array) -> object:
        wide = weights.dtype == np.float64
        return given(node, graph, weights.astype(np.float32) if wide else weights)

    OVSmoothQuantAlgoBackend.weight_update_command = staticmethod(narrowed)
    try:
        yield
    finally:
        OVSmoothQuantAlgoBackend.weight_update_command = staticmethod(given)


def has_attention(model: ov.Model) -> bool:
    """Whether a softmax feeds a matrix multiplication of two computed values, as attention does."""
    return any(
        node.get_type_name() == "ScaledDotProductAttention"
        or (node.get_type_name() == "Softmax" and _feeds_product(node, depth=4))
        for node in model.get_ops()
    )


def count_quantized(model: ov.Model) -> tuple[int, int]:
    """Multiplications and convolutions whose two operands are quantized; and all that there are."""
    found = products(model)
    return sum(is_quantized(node) for node in found), len(found)


def is_quantized(node: ov.Node) -> bool:
    """Whether both operands of a multiplication come quantized."""
    return all(_is_low(origin(source)) for source in node.inputs()[:2])


def _feeds_product(node: ov.Node, depth: int) -> bool:
    for output in node.outputs():
        for target in output.get_target_inputs():
            reader = target.get_node()
            if reader.get_type_name() == "MatMul":
                return True
            if depth and _feeds_product(reader, depth - 1):
                return True
    return False


def _is_low(node: ov.Node) -> bool:
    kind = node.get_type_name()
    stored = kind == "Constant" and node.get_output_element_type(0) in (ov.Type.i8, ov.Type.u8)
    return stored or kind == "FakeQuantize"
