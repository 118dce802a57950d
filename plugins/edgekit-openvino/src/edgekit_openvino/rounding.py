"""Weights and biases of convolutions that NNCF quantized, rounded by `edgekit.api.ConvolutionInputs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from edgekit.api import Convolution, ConvolutionInputs
from edgekit_openvino.calibration import CalibrationRows
from edgekit_openvino.engine import DEVICE, ops, ov
from edgekit_runtime.session import Array

_GROUPED = "GroupConvolution"
_KINDS = ("Convolution", _GROUPED)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A weight as NNCF leaves it: whole numbers [outputs, ...], a scale for each output."""

    convert: ov.Node
    whole: Array
    scale: Array


def watch(model: ov.Model, rows: CalibrationRows) -> dict[str, ConvolutionInputs]:
    """What each convolution with a constant weight reads, by its name, in float32. It costs one inference for
    each row that is looked at.

    Empty where one of them is not of two spatial axes, or is padded by a rule: they are treated all alike.
    """
    read = {node: _read(node) for node in model.get_ops() if _weight(node) is not None}
    watched = {node: ConvolutionInputs(found) for node, found in read.items() if found is not None}
    if not watched or len(watched) < len(read):
        return {}
    looked_at = ov.Model([node.input_value(0) for node in watched], model.get_parameters(), "watched")
    compiled = ov.Core().compile_model(looked_at, DEVICE, {"INFERENCE_PRECISION_HINT": "f32"})
    for row, feeds in rows.spread(ConvolutionInputs.ROWS):
        answers = compiled(dict(feeds))
        for place, inputs in enumerate(watched.values()):
            inputs.take(answers[place], row)
    return {node.get_friendly_name(): inputs for node, inputs in watched.items()}


def round_again(made: ov.Model, watched: dict[str, ConvolutionInputs]) -> None:
    """Change the int8 weights and the biases of the convolutions of the quantized model `made`."""
    for node in made.get_ordered_ops():
        inputs = watched.get(node.get_friendly_name())
        stored = _stored(node) if inputs is not None and node.get_type_name() in _KINDS else None
        if inputs is None or stored is None:
            continue
        shape = inputs.convolution.weight.shape
        # A bit that NNCF left unused stays unused.
        largest = int(np.abs(stored.whole.astype(np.int32)).max(initial=1))
        found = inputs.round_again(stored.whole.reshape(shape), stored.scale, largest)
        constant = ops.constant(found.reshape(stored.whole.shape))
        stored.convert.input(0).replace_source_output(constant.output(0))
        _add_to_bias(node, inputs.lost(found, stored.scale))
    made.validate_nodes_and_infer_types()


def _weight(node: ov.Node) -> ov.Node | None:
    """Where the weight of a convolution is stored; None where it is computed, and for other nodes."""
    if node.get_type_name() not in _KINDS:
        return None
    weight = node.input_value(1).get_node()
    if weight.get_type_name() == "Convert":  # weights of 16 bits are unpacked so
        weight = weight.input_value(0).get_node()
    return weight if weight.get_type_name() == "Constant" else None


def _read(node: ov.Node) -> Convolution | None:
    """A convolution of two spatial axes with a constant weight and pads in numbers; None for others."""
    weight, given = _weight(node), node.get_attributes()
    if weight is None or given["auto_pad"] not in ("explicit", "valid"):
        return None
    grouped = node.get_type_name() == _GROUPED
    values = np.asarray(weight.get_data(), np.float32)
    if values.ndim != 4 + grouped:
        return None
    down, across = given["strides"]
    tall, wide = given["dilations"]
    top, left = given["pads_begin"]
    bottom, right = given["pads_end"]
    return Convolution(
        weight=values.reshape(-1, *values.shape[-3:]),
        groups=len(values) if grouped else 1,
        strides=(down, across),
        dilations=(tall, wide),
        pads=(top, left, bottom, right),
    )


def _stored(node: ov.Node) -> _Stored | None:
    """The weight that this convolution alone reads; None where it is in floats, or has zero points."""
    scaled = node.input_value(1)
    if scaled.get_node().get_type_name() != "Multiply" or len(scaled.get_target_inputs()) != 1:
        return None
    raised, scale = scaled.get_node().input_values()
    kinds = (raised.get_node().get_type_name(), scale.get_node().get_type_name())
    if kinds != ("Convert", "Constant") or len(raised.get_target_inputs()) != 1:
        return None
    whole = raised.get_node().input_value(0).get_node()
    if whole.get_type_name() != "Constant" or whole.get_output_element_type(0) != ov.Type.i8:
        return None
    values, scales = whole.get_data(), scale.get_node().get_data()
    outputs = values.shape[0] * (values.shape[1] if node.get_type_name() == _GROUPED else 1)
    if scales.size not in (1, outputs):
        return None
    spread = np.broadcast_to(scales.reshape(-1).astype(np.float32), outputs)
    return _Stored(raised.get_node(), values, spread)


def _add_to_bias(node: ov.Node, lost: Array) -> None:
    """Add [outputs] to the constant that is added to the convolution, or add a constant."""
    given, readers = lost.reshape(1, -1, 1, 1), list(node.output(0).get_target_inputs())
    adds = [each.get_node() for each in readers if each.get_node().get_type_name() == "Add"]
    if len(readers) == len(adds) == 1:
        for source in adds[0].inputs():
            bias = source.get_source_output().get_node()
            if bias.get_type_name() == "Constant" and _is_bias(bias.get_output_shape(0), lost.size):
                value = np.asarray(bias.get_data(), np.float32).reshape(1, -1, 1, 1) + given
                source.replace_source_output(ops.constant(value).output(0))
                return
    added = ops.add(node.output(0), ops.constant(given))
    added.set_friendly_name(f"{node.get_friendly_name()}.bias")
    added.output(0).set_names(node.output(0).get_names())
    node.output(0).set_names(set())
    for reader in readers:
        reader.replace_source_output(added.output(0))


def _is_bias(shape: Sequence[int], outputs: int) -> bool:
    """Whether a constant of this shape is one number, or one for each output."""
    return prod(shape) == 1 or (prod(shape) == outputs and len(shape) > 2 and shape[-3] == outputs)
