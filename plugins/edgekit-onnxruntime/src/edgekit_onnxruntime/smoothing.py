"""Evening out activations whose few large channels would take the whole int8 range.

onnxruntime rounds the activations of a multiplication with one scale. In transformers some channels of
a LayerNorm's or a GELU's output are ten times larger than the others, which are then rounded away. Such
channels are divided by a factor before the multiplication and their weights multiplied by it (SmoothQuant,
Xiao et al. 2022); only channels beyond `CAP` times the middle one, and only where one is beyond `OUTLIER`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit_runtime.session import Array

#: A tensor is smoothed when its largest channel is this many times its middle one.
OUTLIER = 8.0
#: Channels are brought down to this many times the middle one.
CAP = 2.0


class Peaks:
    """The largest magnitude that each channel of some tensors had, over all rows; the last axis counts."""

    def __init__(self) -> None:
        self.values: dict[str, Array] = {}

    def see(self, name: str, run: int, value: Array) -> None:
        """Take in one row's value of a tensor."""
        largest = np.abs(value.reshape(-1, value.shape[-1])).max(axis=0)
        self.values[name] = np.maximum(self.values.get(name, largest), largest)


def readers(graph: onnx.GraphProto, without: Sequence[str]) -> dict[str, list[onnx.NodeProto]]:
    """Multiplications with a constant weight by the activation they read, but those named in `without`."""
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights and node.input[0] not in weights:
            found.setdefault(node.input[0], []).append(node)
    return {name: nodes for name, nodes in found.items() if not any(node.name in without for node in nodes)}


def smooth(
    graph: onnx.GraphProto, read: Mapping[str, Sequence[onnx.NodeProto]], peaks: Mapping[str, Array]
) -> int:
    """Put a division before the multiplications that need it, the factor into their weights; count them."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    shared = _shared(graph)
    smoothed = 0
    for name, nodes in read.items():
        factor = _factor(peaks.get(name))
        if factor is None or any(node.input[1] in shared for node in nodes):
            continue
        for node in nodes:
            tensor = weights[node.input[1]]
            scaled = numpy_helper.to_array(tensor) * factor[:, None]
            tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
        graph.initializer.append(numpy_helper.from_array(1 / factor, f"{name}.evening"))
        even = helper.make_node("Mul", [name, f"{name}.evening"], [f"{name}.even"], f"{name}.even")
        graph.node.insert(_first(graph, nodes), even)
        for node in nodes:
            node.input[0] = even.output[0]
        smoothed += 1
    return smoothed


def _factor(peaks: Array | None) -> Array | None:
    """What each channel is divided by; None where nothing sticks out."""
    if peaks is None:
        return None
    middle = float(np.median(peaks))
    if middle <= 0 or float(peaks.max()) < OUTLIER * middle:
        return None
    return np.maximum(peaks / (CAP * middle), 1.0).astype(np.float32)


def _shared(graph: onnx.GraphProto) -> set[str]:
    """Tensors that more than one node reads."""
    once: set[str] = set()
    twice: set[str] = set()
    for name in (name for node in graph.node for name in node.input):
        (twice if name in once else once).add(name)
    return twice


def _first(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> int:
    outputs = {node.output[0] for node in nodes}
    return next(index for index, node in enumerate(graph.node) if node.output and node.output[0] in outputs)
