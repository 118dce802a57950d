"""int8 by NNCF's post-training quantization: weights and activations, ranges learnt from calibration rows."""

from __future__ import annotations

from dataclasses import dataclass

import nncf
from nncf.quantization.range_estimator import RangeEstimatorParametersSet

from edgekit_openvino.calibration import CalibrationRows
from edgekit_openvino.convolutions import advanced, fold, has_convolutions, left_high
from edgekit_openvino.engine import ov
from edgekit_openvino.library import library, origin, products, scope
from edgekit_openvino.rounding import round_again, watch
from edgekit_openvino.smoothing import smooth

_RANGES = {
    "minmax": RangeEstimatorParametersSet.MINMAX,
    "mean_minmax": RangeEstimatorParametersSet.MEAN_MINMAX,
}
_PRESETS = {"performance": nncf.QuantizationPreset.PERFORMANCE, "mixed": nncf.QuantizationPreset.MIXED}
#: A look-up table below this share of the weights stays in floats. Its few rows are added to every token, so
#: that their rounding is no noise but a shift of all answers.
_SMALL_TABLE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to quantize. ignored: names in OpenVINO's graph that stay high; saturates: the target's CPU adds
    products of 8 bits in 16."""

    model_type: str
    preset: str
    range: str
    ignored: tuple[str, ...]
    saturates: bool = True


def quantize(model: ov.Model, rows: CalibrationRows, settings: Settings) -> ov.Model:
    """The quantized model. Raises `CompileFailed` with NNCF's reason."""
    transformer = is_transformer(model, settings)
    convolved = is_convolved(model, settings)
    preset = _PRESETS.get(settings.preset, nncf.QuantizationPreset.PERFORMANCE)
    with library("quantize the model", hint="the calibration rows may not fit the model's inputs"):
        if transformer:
            symmetric = preset is nncf.QuantizationPreset.PERFORMANCE
            smooth(model, rows, settings.ignored, symmetric=symmetric)
        if convolved:
            fold(model)
        watched = watch(model, rows) if convolved else {}
        high = [*settings.ignored, *_small_tables(model), *_fixed_attention(model)]
        made = nncf.quantize(
            model,
            nncf.Dataset(rows),
            subset_size=len(rows),
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            # The fast one makes answers of convolutions worse than none.
            fast_bias_correction=not convolved,
            preset=preset,
            ignored_scope=scope(high + (left_high(model) if convolved else [])),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                **(advanced(whole=not settings.saturates, corrected=bool(watched)) if convolved else {}),
                activations_range_estimator_params=_RANGES[settings.range],
                # NNCF's own smoothing; `smooth` did it.
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1, convolution=-1),
            ),
        )
        round_again(made, watched)
    return made


def is_transformer(model: ov.Model, settings: Settings) -> bool:
    """Whether the model is quantized as transformers are."""
    return settings.model_type == "transformer" or (settings.model_type == "auto" and has_attention(model))


def is_convolved(model: ov.Model, settings: Settings) -> bool:
    """Whether it is quantized as networks of convolutions are."""
    return not is_transformer(model, settings) and has_convolutions(model)


def _small_tables(model: ov.Model) -> list[str]:
    """Look-ups in tables that are too small to be worth their rounding."""
    stored = [node for node in model.get_ops() if _is_floats(node)]
    whole = sum(node.get_data().size for node in stored)
    return [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() == "Gather"
        and _is_floats(table := origin(node.input(0)))
        and table.get_data().size < _SMALL_TABLE * whole
    ]


def _is_floats(node: ov.Node) -> bool:
    return node.get_type_name() == "Constant" and bool(node.get_output_element_type(0).is_real())


def _fixed_attention(model: ov.Model) -> list[str]:
    """Products of two computed values of fixed shape. OpenVINO 2026.4 fuses attention of fixed shapes into
    one kernel, which gives wrong answers from int8."""
    return [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() == "MatMul"
        and node.get_output_partial_shape(0).is_static
        and not any(_is_floats(origin(source)) for source in node.inputs())
    ]


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
