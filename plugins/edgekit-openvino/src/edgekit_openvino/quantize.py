"""int8 by NNCF's post-training quantization: weights and activations, ranges learnt from calibration rows."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import nncf
from nncf.quantization.range_estimator import RangeEstimatorParametersSet

from edgekit.api import CompileFailed, InputError, PrecisionNotGiven
from edgekit_openvino.calibration import CalibrationRows
from edgekit_openvino.engine import ov
from edgekit_openvino.names import MULTIPLIES

#: Between a quantized value and the node that uses it there may stand these.
_PASS_ON = ("Convert", "Subtract", "Multiply", "Reshape", "Transpose")
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
    nncf.set_log_level(logging.ERROR)
    transformer = settings.model_type == "transformer" or (
        settings.model_type == "auto" and has_attention(model)
    )
    scope = nncf.IgnoredScope(names=list(settings.ignored)) if settings.ignored else None
    try:
        # NNCF draws progress bars on stdout; progress is told through the callback instead.
        with contextlib.redirect_stdout(io.StringIO()):
            return nncf.quantize(
                model,
                nncf.Dataset(rows),
                subset_size=len(rows),
                model_type=nncf.ModelType.TRANSFORMER if transformer else None,
                preset=_PRESETS.get(settings.preset, nncf.QuantizationPreset.PERFORMANCE),
                ignored_scope=scope,
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    activations_range_estimator_params=_RANGES[settings.range]
                ),
            )
    except InputError:
        raise
    except (nncf.ValidationError, nncf.InternalError, nncf.ParameterNotSupportedError) as error:
        raise CompileFailed(f"NNCF could not quantize the model: {error}") from error
    except (RuntimeError, ValueError, KeyError) as error:
        raise CompileFailed(
            f"NNCF could not quantize the model: {type(error).__name__}: {error}",
            hint="the calibration rows may not fit the model's inputs",
        ) from error


def has_attention(model: ov.Model) -> bool:
    """Whether a softmax feeds a matrix multiplication of two computed values, as attention does."""
    return any(
        node.get_type_name() == "ScaledDotProductAttention"
        or (node.get_type_name() == "Softmax" and _feeds_product(node, depth=4))
        for node in model.get_ops()
    )


def count_quantized(model: ov.Model) -> tuple[int, int]:
    """Multiplications and convolutions whose two operands are quantized; and all that there are."""
    multiplies = [node for node in model.get_ops() if node.get_type_name() in MULTIPLIES]
    return sum(is_quantized(node) for node in multiplies), len(multiplies)


def is_quantized(node: ov.Node) -> bool:
    """Whether both operands of a multiplication come quantized."""
    return all(_is_low(source.get_source_output().get_node(), depth=6) for source in node.inputs()[:2])


def check_kept(model: ov.Model, ignored: Sequence[str]) -> None:
    """Raise `PrecisionNotGiven` when a node that was to stay high is quantized all the same."""
    for node in model.get_ops():
        name = node.get_friendly_name()
        if node.get_type_name() in MULTIPLIES and name in ignored and is_quantized(node):
            raise PrecisionNotGiven(f"{name!r} was to be kept high and was quantized")


def _feeds_product(node: ov.Node, depth: int) -> bool:
    for output in node.outputs():
        for target in output.get_target_inputs():
            reader = target.get_node()
            if reader.get_type_name() == "MatMul":
                return True
            if depth and _feeds_product(reader, depth - 1):
                return True
    return False


def _is_low(node: ov.Node, depth: int) -> bool:
    kind = node.get_type_name()
    if kind == "FakeQuantize":
        return True
    if kind == "Constant":
        return node.get_output_element_type(0) in (ov.Type.i8, ov.Type.u8)
    if kind not in _PASS_ON or not depth:
        return False
    return _is_low(node.input(0).get_source_output().get_node(), depth - 1)
