"""int8-weights and int4-weights by NNCF: weights are stored in few bits and multiplied with floats."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import nncf
import numpy as np
from nncf import CompressWeightsMode
from nncf.quantization.advanced_parameters import AdvancedCompressionParameters, GroupSizeFallbackMode

from edgekit.api import CompileFailed, NothingLowered
from edgekit_openvino.calibration import CalibrationRows
from edgekit_openvino.engine import ops, ov
from edgekit_openvino.library import check_kept, library, origin, products, scope

_MODES = {
    ("int8-weights", "symmetric"): CompressWeightsMode.INT8_SYM,
    ("int8-weights", "asymmetric"): CompressWeightsMode.INT8_ASYM,
    ("int4-weights", "symmetric"): CompressWeightsMode.INT4_SYM,
    ("int4-weights", "asymmetric"): CompressWeightsMode.INT4_ASYM,
}
#: Which is nearer to fp32; the README has the figures.
_NEARER = {"int8-weights": "asymmetric", "int4-weights": "symmetric"}
#: Types of stored weights.
_STORED = {"i8": "int8", "u8": "int8", "i4": "int4", "u4": "int4"}
#: Groups are made smaller down to this where a channel is no multiple of the group size.
_SMALLEST_GROUP = 16
_MATRIX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSettings:
    """How to compress. scheme: "auto", "symmetric" or "asymmetric"; ignored: OpenVINO's names that stay."""

    precision: str
    scheme: str
    group_size: int
    ignored: tuple[str, ...]


def compress(
    model: ov.Model, settings: WeightSettings, rows: CalibrationRows | None
) -> tuple[ov.Model, tuple[str, ...]]:
    """The model with compressed weights, and what to note. Raises `CompileFailed` with NNCF's reason.

    int4: with calibration rows, scales are chosen for the least error of what a layer gives on them.
    """
    if settings.group_size < _SMALLEST_GROUP:
        raise CompileFailed(
            f"group_size is {settings.group_size}, and no group is smaller than {_SMALLEST_GROUP} weights",
            hint="group_size = 64; 128 makes the file smaller, 32 is nearer to fp32",
        )
    scheme = _NEARER[settings.precision] if settings.scheme == "auto" else settings.scheme
    mode, ignored = _MODES[settings.precision, scheme], scope(settings.ignored)
    with library("compress the weights", hint="another group_size, or int8-weights"):
        if settings.precision == "int8-weights":
            made = nncf.compress_weights(model, mode=mode, ignored_scope=ignored)
        else:
            if rows is not None:
                transpose_weights(model)
            made = nncf.compress_weights(
                model,
                mode=mode,
                group_size=settings.group_size,
                ignored_scope=ignored,
                dataset=nncf.Dataset(rows) if rows is not None else None,
                subset_size=len(rows) if rows is not None else 1,
                scale_estimation=rows is not None,
                advanced_parameters=AdvancedCompressionParameters(
                    group_size_fallback_mode=GroupSizeFallbackMode.ADJUST,
                    min_adjusted_group_size=_SMALLEST_GROUP,
                ),
            )
    return made, _notes(made, settings, scheme, rows)


def transpose_weights(model: ov.Model) -> None:
    """Store the weights of products as [out, in], the same numbers.

    NNCF 3.4 estimates scales wrongly, and without a word, for weights that are stored as [in, out].
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul" or node.get_attributes()["transpose_b"]:
            continue
        constant = node.input(1).get_source_output().get_node()
        if constant.get_type_name() != "Constant" or len(constant.get_output_shape(0)) != _MATRIX:
            continue
        stored = ops.constant(np.ascontiguousarray(constant.get_data().T))
        stored.set_friendly_name(constant.get_friendly_name())
        node.input(1).replace_source_output(stored.output(0))
        node.set_attribute("transpose_b", True)
    model.validate_nodes_and_infer_types()


def _notes(
    made: ov.Model, settings: WeightSettings, scheme: str, rows: CalibrationRows | None
) -> tuple[str, ...]:
    stored = Counter(map(_stored, products(made)))
    check_kept(made, settings.ignored, lambda node: _stored(node) in _STORED.values())
    layers = stored.total() - stored["values"]
    wanted = settings.precision.removesuffix("-weights")
    if not stored[wanted]:
        raise NothingLowered(
            f"NNCF compressed the weights of none of the model's {layers} layers to {wanted}",
            hint="compile for fp32, or keep fewer nodes high"
            + ("; int4 spares the last layer and look-ups" if wanted == "int4" else ""),
        )
    counts = ", ".join(f"{stored[word]} in {word}" for word in ("int4", "int8", "fp32") if stored[word])
    lines = [f"weights of {layers} layers, {scheme}: {counts}"]
    if settings.precision == "int4-weights":
        how = f"scales chosen on {len(rows)} rows" if rows is not None else "without calibration rows"
        lines.append(f"int4 in groups of {settings.group_size}, {how}")
    return tuple(lines)


def _stored(product: ov.Node) -> str:
    """In what a product's second operand is stored; "values" when it is computed from inputs."""
    node = origin(product.input(1))
    if node.get_type_name() != "Constant":
        return "values"
    return _STORED.get(node.get_output_element_type(0).to_string(), "fp32")
