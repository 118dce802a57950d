"""Weights and biases of convolutions in ONNX's Q/DQ form, rounded by `edgekit.api.ConvolutionInputs`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.api import Convolution, ConvolutionInputs, all_nodes
from edgekit_runtime.session import Array


@dataclass(frozen=True, slots=True)
class _Watched:
    node: onnx.NodeProto
    inputs: ConvolutionInputs


class Patches:
    """Looks at what convolutions of two spatial axes read, a few places of each row."""

    def __init__(self, graph: onnx.GraphProto, rows: int) -> None:
        """Give each convolution that is looked at a bias, of zeros where it has none. rows: how many come."""
        self._step = max(1, rows // ConvolutionInputs.ROWS)
        self._by_input: dict[str, list[_Watched]] = {}
        for node, convolution in _looked_at(graph):
            self._by_input.setdefault(node.input[0], []).append(
                _Watched(node, ConvolutionInputs(convolution))
            )

    def see(self, name: str, run: int, value: Array) -> None:
        """Take in one row's value of a tensor."""
        if run % self._step:
            return
        for watched in self._by_input.get(name, ()):
            watched.inputs.take(value, run)

    def round_again(self, graph: onnx.GraphProto, largest: int) -> None:
        """Change the int8 weights, of at most `largest`, and the biases of these convolutions in the
        quantized `graph`."""
        stored = {tensor.name: tensor for tensor in graph.initializer}
        raised = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
        nodes = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
        nodes |= {node.name: node for node in nodes.values()}
        for watched in (each for group in self._by_input.values() for each in group):
            node = nodes.get(watched.node.name) or nodes.get(watched.node.output[0])
            if node is None or node.input[1] not in raised:
                continue
            low, scales = (stored[name] for name in raised[node.input[1]].input[:2])
            weight = numpy_helper.to_array(low)
            scale = np.broadcast_to(numpy_helper.to_array(scales), weight.shape[0])
            found = watched.inputs.round_again(weight, scale, largest)
            low.CopyFrom(numpy_helper.from_array(found, low.name))
            _add_to_bias(node, watched.inputs.lost(found, scale), stored, raised)


def _looked_at(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, Convolution]]:
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
        down, across = _whole(node, "strides", (1, 1))
        tall, wide = _whole(node, "dilations", (1, 1))
        top, left, bottom, right = _whole(node, "pads", (0, 0, 0, 0))
        yield (
            node,
            Convolution(
                weight=weight,
                groups=_whole(node, "group", (1,))[0],
                strides=(down, across),
                dilations=(tall, wide),
                pads=(top, left, bottom, right),
            ),
        )


def _give_bias(graph: onnx.GraphProto, node: onnx.NodeProto, outputs: int) -> None:
    name = f"{node.input[1]}.zeros"
    graph.initializer.append(numpy_helper.from_array(np.zeros(outputs, np.float32), name))
    del node.input[2:]
    node.input.append(name)


def _whole(node: onnx.NodeProto, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """An attribute of whole numbers."""
    return next((tuple(item.ints) or (item.i,) for item in node.attribute if item.name == name), default)


def _padded_by_name(node: onnx.NodeProto) -> bool:
    return any(item.name == "auto_pad" and item.s != b"NOTSET" for item in node.attribute)


def _add_to_bias(
    node: onnx.NodeProto, lost: Array, stored: dict[str, onnx.TensorProto], raised: dict[str, onnx.NodeProto]
) -> None:
    if node.input[2] in stored:  # left in floats
        bias = stored[node.input[2]]
        value = numpy_helper.to_array(bias) + lost
    else:
        bias, scales = (stored[name] for name in raised[node.input[2]].input[:2])
        steps = np.rint(lost / numpy_helper.to_array(scales).astype(np.float64))
        ends = np.iinfo(np.int32)
        value = np.clip(numpy_helper.to_array(bias) + steps, ends.min, ends.max).astype(np.int32)
    bias.CopyFrom(numpy_helper.from_array(value, bias.name))
