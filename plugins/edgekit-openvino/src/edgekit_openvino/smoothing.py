"""Evening out activations whose few large channels would take the whole int8 range.

The activations of a multiplication are rounded with one scale. In transformers some channels of a
LayerNorm's or a GELU's output are ten times larger than the others, which are then rounded away. Such
channels are divided by a factor before the multiplication and their weights multiplied by it (SmoothQuant,
Xiao et al. 2022). That makes the weights harder to round. So how far to go is tried out for each tensor:
the multiplications that read it are computed with both operands rounded, on some calibration tokens, and
the factors of the least error are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit_openvino.calibration import CalibrationRows
from edgekit_openvino.engine import DEVICE, ops, ov
from edgekit_runtime.session import Array

#: Channels are brought down to this many times the middle one: what is tried.
CAPS = (1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
#: A division must take away this share of the error, as it is work of its own.
GAIN = 0.1
#: Rows, about, that are looked at, and tokens of them on which factors are tried.
ROWS, TOKENS = 300, 600


@dataclass(frozen=True, slots=True)
class _Group:
    """Multiplications with a weight [in, out] or [out, in] that read the same activation [..., in]."""

    source: ov.Output
    nodes: tuple[ov.Node, ...]

    def weights(self) -> list[Array]:
        """Of each node, as [in, out] in float32."""
        return [_stored(node).T if _is_transposed(node) else _stored(node) for node in self.nodes]


@dataclass(slots=True)
class _Seen:
    """Extremes of each channel over the rows [in]; some tokens [tokens, in]."""

    low: Array
    high: Array
    tokens: list[Array]


def smooth(model: ov.Model, rows: CalibrationRows, without: Sequence[str], *, symmetric: bool) -> None:
    """Divide the channels of activations where that makes int8 products nearer, in place.

    without: names of multiplications that stay high. symmetric: how activations will be rounded. It costs
    one inference for each row that is looked at.
    """
    groups = _groups(model, without)
    for group, seen in zip(groups, _watch(model, groups, rows) if groups else (), strict=True):
        factor = _best_factor(group.weights(), seen, symmetric=symmetric)
        if factor is not None:
            _divide(group, factor)
    model.validate_nodes_and_infer_types()


def _groups(model: ov.Model, without: Sequence[str]) -> list[_Group]:
    found: dict[tuple[str, int], list[ov.Node]] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and _is_linear(node) and node.get_friendly_name() not in without:
            source = node.input_value(0)
            found.setdefault((source.get_node().get_friendly_name(), source.get_index()), []).append(node)
    return [_Group(nodes[0].input_value(0), tuple(nodes)) for nodes in found.values()]


def _is_linear(node: ov.Node) -> bool:
    """Whether computed floats [..., in] meet a stored weight of two axes that nothing else reads."""
    source, weight = node.input_value(0), node.input_value(1)
    stored = _constant(node)
    return (
        stored is not None
        and _constant_behind(source) is None
        and len(stored.get_output_shape(0)) == 2
        and len(stored.output(0).get_target_inputs()) == 1
        and len(weight.get_target_inputs()) == 1
        and source.get_element_type() == weight.get_element_type() == ov.Type.f32
        and source.get_partial_shape().rank.is_static
        and source.get_partial_shape().rank.get_length() >= 2
        and not node.get_attributes()["transpose_a"]
    )


def _constant(node: ov.Node) -> ov.Node | None:
    """Where the weight of a multiplication is stored; None when it is computed."""
    return _constant_behind(node.input_value(1))


def _constant_behind(source: ov.Output) -> ov.Node | None:
    node = source.get_node()
    if node.get_type_name() == "Convert":  # weights of 16 bits are unpacked so
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None


def _stored(node: ov.Node) -> Array:
    constant = _constant(node)
    return np.asarray(constant.get_data(), np.float32) if constant is not None else np.zeros((0, 0))


def _is_transposed(node: ov.Node) -> bool:
    return bool(node.get_attributes()["transpose_b"])


def _watch(model: ov.Model, groups: Sequence[_Group], rows: CalibrationRows) -> list[_Seen]:
    """Run the rows; only extremes and the picked tokens leave the engine."""
    picked = ops.parameter([-1], np.int64, name="edgekit.picked")
    ends: list[ov.Node] = []
    for group in groups:
        channels = _stored(group.nodes[0]).shape[1 if _is_transposed(group.nodes[0]) else 0]
        flat = ops.reshape(group.source, np.array([-1, channels]), special_zero=False)
        count = ops.gather(ops.shape_of(flat), np.int64(0), np.int64(0))
        drawn = ops.gather(flat, ops.mod(picked, count), np.int64(0))
        ends += [ops.reduce_min(flat, np.int64(0)), ops.reduce_max(flat, np.int64(0)), drawn]
    looked_at = ov.Model(ends, [*model.get_parameters(), picked], "watched")
    compiled = ov.Core().compile_model(looked_at, DEVICE, {"INFERENCE_PRECISION_HINT": "f32"})
    rng = np.random.default_rng(0)
    each = -(-TOKENS // min(ROWS, len(rows)))
    found: list[_Seen] = []
    for _, feeds in rows.spread(ROWS):
        answers = compiled({**feeds, "edgekit.picked": rng.integers(0, 2**31, each)})
        values = [np.array(answers[place]) for place in range(len(ends))]
        for place in range(len(groups)):
            low, high, tokens = values[3 * place : 3 * place + 3]
            if place == len(found):
                found.append(_Seen(low, high, []))
            seen = found[place]
            seen.low, seen.high = np.minimum(seen.low, low), np.maximum(seen.high, high)
            seen.tokens.append(tokens)
    return found


def _best_factor(weights: Sequence[Array], seen: _Seen, *, symmetric: bool) -> Array | None:
    """What each channel is divided by; None where that gains too little."""
    peaks = np.maximum(np.abs(seen.low), np.abs(seen.high))
    middle = float(np.median(peaks))
    if middle <= 0:
        return None
    tokens = np.concatenate(seen.tokens)
    weight = np.concatenate(weights, axis=1)
    wanted = tokens @ weight

    def error(factor: Array) -> float:
        low, high = float((seen.low / factor).min()), float((seen.high / factor).max())
        rounded = _rounded(tokens / factor, low, high, symmetric=symmetric)
        return float(np.square(rounded @ _rounded_weight(weight * factor[:, None]) - wanted).mean())

    tried = [np.maximum(peaks / (cap * middle), 1.0).astype(np.float32) for cap in CAPS]
    errors = [error(factor) for factor in tried]
    best = int(np.argmin(errors))
    return tried[best] if errors[best] < (1 - GAIN) * error(np.ones_like(tried[0])) else None


def _rounded(value: Array, low: float, high: float, *, symmetric: bool) -> Array:
    """To 8 bits, with one scale."""
    bound = max(-low, high)
    low, high = (-bound if low < 0 else 0.0, bound) if symmetric else (min(low, 0.0), max(high, 0.0))
    step = (high - low) / 255 or 1.0
    nearest: Array = np.round((np.clip(value, low, high) - low) / step) * step + low
    return nearest.astype(np.float32)


def _rounded_weight(value: Array) -> Array:
    """To 8 bits, with a scale for each output."""
    step = np.abs(value).max(axis=0) / 127
    step[step == 0] = 1.0
    nearest: Array = np.round(value / step) * step
    return nearest.astype(np.float32)


def _divide(group: _Group, factor: Array) -> None:
    """Put a multiplication by the inverse before the group, the factor into its weights."""
    even = ops.multiply(group.source, ops.constant((1 / factor).astype(np.float32)))
    even.set_friendly_name(f"{group.source.get_node().get_friendly_name()}.even{group.source.get_index()}")
    for node in group.nodes:
        scaled = _stored(node) * (factor if _is_transposed(node) else factor[:, None])
        weight = ops.constant(scaled.astype(np.float32))
        stored = _constant(node)
        if stored is not None:
            weight.set_friendly_name(stored.get_friendly_name())
        node.input(0).replace_source_output(even.output(0))
        node.input(1).replace_source_output(weight.output(0))
