"""Rounding the weights of convolutions so that their errors cancel on what the convolutions read.

Rounded to nearest, each weight is right by itself, but a convolution's inputs are alike (neighbouring pixels
most of all), so errors of one sign add up. Weights are rounded once more, one input at a time, each to what
makes up best for the errors of the others (coordinate descent on the squared error of the output over
calibration rows, as in QuantEase, Behdin et al. 2023). What the errors still add to the output on average
is taken off the bias (bias correction, Nagel et al. 2019). Neither costs time when the model runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.api import all_nodes
from edgekit_runtime.session import Array

#: Rows, about, and places of a convolution's output in each, that are looked at.
_ROWS = 100
_PLACES = 128
#: Beyond this many inputs of one output, or with fewer places than this many times them, the sums would take
#: too much memory or tell too little: only the bias is corrected.
_MOST_INPUTS = 1536
_PLACES_PER_INPUT = 4
#: Added to the squares on the diagonal, as a share of their mean: rows to come differ from those seen.
_DAMPING = 1.0
_PASSES = 3
_NOTHING = 1e-12


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What one convolution read. sums: [groups, inputs]; products: sums of products of two inputs,
    [groups, inputs, inputs], None where there are too many inputs."""

    node: onnx.NodeProto
    weight: Array
    sums: Array
    products: Array | None
    places: int = 0

    def take(self, patches: Array) -> None:
        """Take in values [groups, inputs, places]."""
        self.sums += patches.sum(axis=2)
        if self.products is not None:
            self.products += patches @ patches.transpose(0, 2, 1)
        self.places += patches.shape[2]

    def mean(self) -> Array:
        """Of each input, [groups, inputs]."""
        return self.sums / max(self.places, 1)

    def covariance(self) -> Array | None:
        """Of the inputs, damped; None where too little is known."""
        inputs = self.sums.shape[1]
        if self.products is None or self.places < _PLACES_PER_INPUT * inputs:
            return None
        mean = self.mean()
        found = self.products / self.places - mean[:, :, None] * mean[:, None, :]
        diagonal = np.einsum("gii->gi", found)
        diagonal += _DAMPING * diagonal.mean(axis=1, keepdims=True) + _NOTHING
        return np.asarray(found, np.float32)


class Patches:
    """Looks at what convolutions of two spatial axes read, a few places of each row."""

    def __init__(self, graph: onnx.GraphProto, rows: int) -> None:
        """Give each convolution that is looked at a bias, of zeros where it has none. rows: how many come."""
        self._step = max(1, rows // _ROWS)
        self._by_input: dict[str, list[_Seen]] = {}
        for seen in _looked_at(graph):
            self._by_input.setdefault(seen.node.input[0], []).append(seen)

    def see(self, name: str, run: int, value: Array) -> None:
        """Take in one row's value of a tensor."""
        if run % self._step:
            return
        for seen in self._by_input.get(name, ()):
            seen.take(_patches(value, seen, np.random.default_rng(run)))

    def round_again(self, graph: onnx.GraphProto, largest: int) -> None:
        """Change the int8 weights, of at most `largest`, and the biases of these convolutions in the
        quantized `graph`."""
        stored = {tensor.name: tensor for tensor in graph.initializer}
        raised = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
        nodes = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
        nodes |= {node.name: node for node in nodes.values()}
        for seen in (each for group in self._by_input.values() for each in group):
            node = nodes.get(seen.node.name) or nodes.get(seen.node.output[0])
            if node is not None and node.input[1] in raised and seen.places:
                _round_again(node, seen, largest, stored, raised)


def rounded(weight: Array, scale: Array, covariance: Array, largest: int) -> Array:
    """int8 values, as floats, that make the output's squared error small.

    weight: [groups, outputs, inputs]; scale: [groups, outputs]; covariance: [groups, inputs, inputs].
    """
    found = np.clip(np.rint(weight / scale[:, :, None]), -largest, largest)
    left = weight - found * scale[:, :, None]
    squares = np.einsum("gii->gi", covariance)
    for _ in range(_PASSES):
        slope = left @ covariance
        before = found.copy()
        for index in range(weight.shape[2]):
            others = slope[:, :, index] / squares[:, None, index] - left[:, :, index]
            best = np.rint((weight[:, :, index] + others) / scale)
            found[:, :, index] = np.clip(best, -largest, largest)
            now = weight[:, :, index] - found[:, :, index] * scale
            slope += (now - left[:, :, index])[:, :, None] * covariance[:, None, index]
            left[:, :, index] = now
        if np.array_equal(found, before):
            break
    return found


def _looked_at(graph: onnx.GraphProto) -> Iterator[_Seen]:
    """Convolutions with a constant weight, and bias, that nothing else reads."""
    readers = Counter(name for node in all_nodes(graph) for name in node.input)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Conv" or len(constants.get(node.input[1], onnx.TensorProto()).dims) != 4:
            continue
        bias = node.input[2] if len(node.input) > 2 else ""
        owned = all(name in constants and readers[name] == 1 for name in (node.input[1], bias) if name)
        if not owned or _padded_by_name(node):
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        if not bias:
            _give_bias(graph, node, weight.shape[0])
        groups, inputs = _whole(node, "group", (1,))[0], prod(weight.shape[1:])
        products = np.zeros((groups, inputs, inputs), np.float32) if inputs <= _MOST_INPUTS else None
        yield _Seen(node=node, weight=weight, sums=np.zeros((groups, inputs), np.float32), products=products)


def _give_bias(graph: onnx.GraphProto, node: onnx.NodeProto, outputs: int) -> None:
    name = f"{node.input[1]}.zeros"
    graph.initializer.append(numpy_helper.from_array(np.zeros(outputs, np.float32), name))
    del node.input[2:]
    node.input.append(name)


def _patches(value: Array, seen: _Seen, draw: np.random.Generator) -> Array:
    """What some places of the output read of `value`, [batch, channels, height, width], as
    [groups, inputs, places]."""
    node, (height, width) = seen.node, seen.weight.shape[2:]
    top, left, bottom, right = _whole(node, "pads", (0, 0, 0, 0))
    (down, across), (tall, wide) = (_whole(node, name, (1, 1)) for name in ("strides", "dilations"))
    padded = np.pad(value, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows = (padded.shape[2] - tall * (height - 1) - 1) // down + 1
    columns = (padded.shape[3] - wide * (width - 1) - 1) // across + 1
    total = len(value) * rows * columns
    places = np.arange(total) if total <= _PLACES else draw.choice(total, _PLACES, replace=False)
    image, place = np.divmod(places, rows * columns)
    y = (place // columns * down)[:, None, None] + tall * np.arange(height)[:, None]
    x = (place % columns * across)[:, None, None] + wide * np.arange(width)
    found = padded.transpose(0, 2, 3, 1)[image[:, None, None], y, x]  # places, height, width, channels
    groups = seen.sums.shape[0]
    return np.ascontiguousarray(found.transpose(3, 1, 2, 0).reshape(groups, -1, len(places)), np.float32)


def _whole(node: onnx.NodeProto, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """An attribute of whole numbers."""
    return next((tuple(item.ints) or (item.i,) for item in node.attribute if item.name == name), default)


def _padded_by_name(node: onnx.NodeProto) -> bool:
    return any(item.name == "auto_pad" and item.s != b"NOTSET" for item in node.attribute)


def _round_again(
    node: onnx.NodeProto,
    seen: _Seen,
    largest: int,
    stored: dict[str, onnx.TensorProto],
    raised: dict[str, onnx.NodeProto],
) -> None:
    low, scales = (stored[name] for name in raised[node.input[1]].input[:2])
    shape = seen.weight.shape
    groups, outputs = seen.sums.shape[0], shape[0] // seen.sums.shape[0]
    scale = np.broadcast_to(numpy_helper.to_array(scales), shape[0]).reshape(groups, outputs)
    weight = seen.weight.reshape(groups, outputs, -1)
    covariance = seen.covariance()
    if covariance is None:
        found = numpy_helper.to_array(low).reshape(weight.shape).astype(np.float32)
    else:
        found = rounded(weight, scale, covariance, largest)
        data = found.astype(np.int8).reshape(shape)
        low.CopyFrom(numpy_helper.from_array(data, low.name))
    lost = ((weight - found * scale[:, :, None]) @ seen.mean()[:, :, None]).reshape(shape[0])
    _add_to_bias(node, lost, stored, raised)


def _add_to_bias(
    node: onnx.NodeProto, lost: Array, stored: dict[str, onnx.TensorProto], raised: dict[str, onnx.NodeProto]
) -> None:
    if node.input[2] in stored:  # left in floats
        bias = stored[node.input[2]]
        value = numpy_helper.to_array(bias) + lost.astype(np.float32)
    else:
        bias, scales = (stored[name] for name in raised[node.input[2]].input[:2])
        steps = np.rint(lost / numpy_helper.to_array(scales).astype(np.float64))
        ends = np.iinfo(np.int32)
        value = np.clip(numpy_helper.to_array(bias) + steps, ends.min, ends.max).astype(np.int32)
    bias.CopyFrom(numpy_helper.from_array(value, bias.name))
