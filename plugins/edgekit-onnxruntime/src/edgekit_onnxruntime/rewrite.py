"""Rewriting a graph so that the library's quantizers see every weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.api import all_nodes


def is_plain(gemm: onnx.NodeProto) -> bool:
    """Whether the quantizer can turn this Gemm into a MatMul."""
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in gemm.attribute}
    return bool(
        values.get("alpha", 1.0) == 1.0 and values.get("beta", 1.0) == 1.0 and not values.get("transA", 0)
    )


def forget_shapes_of_weights(graph: onnx.GraphProto) -> None:
    """The quantizer transposes Gemm weights but not their declared shapes, and then trips over them."""
    weights = {tensor.name for tensor in graph.initializer}
    kept = [info for info in graph.value_info if info.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def fold_transposes(model: onnx.ModelProto) -> None:
    """Give each reader of a transposed weight, as an output head tied to the embedding is, one of its own.

    The quantizer leaves a MatMul of it in fp32, and the embedding's int8 would be raised and transposed
    in every run.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    folded = transposed_weights(graph)
    for node in folded:
        array = onnx.numpy_helper.to_array(weights[node.input[0]])
        graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array.T), node.output[0]))
        graph.node.remove(node)
    read = {name for node in all_nodes(graph) for name in node.input} | {port.name for port in graph.output}
    for name in {node.input[0] for node in folded} - read:
        graph.initializer.remove(weights[name])


def transposed_weights(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that transpose a weight of two axes for other nodes."""
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    outputs = {port.name for port in graph.output}
    found = [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in matrices]
    return [node for node in found if node.output[0] not in outputs and list(_permutation(node)) == [1, 0]]


def _permutation(transpose: onnx.NodeProto) -> Sequence[int]:
    """Where the axes go; by default they are reversed."""
    values = [attribute.ints for attribute in transpose.attribute if attribute.name == "perm"]
    return values[0] if values else (1, 0)


def split_shared_weights(graph: onnx.GraphProto) -> None:
    """Give each Gemm its own weight where another node reads it too: the quantizer transposes it in place."""
    readers = Counter(name for node in graph.node for name in node.input)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for index, node in _gemms(graph):
        name = node.input[1]
        if name in weights and readers[name] > 1:
            copy = graph.initializer.add()
            copy.CopyFrom(weights[name])
            copy.name = f"{name}.gemm{index}"
            node.input[1] = copy.name


def _gemms(graph: onnx.GraphProto) -> Iterator[tuple[int, onnx.NodeProto]]:
    for index, node in enumerate(graph.node):
        if node.op_type == "Gemm" and len(node.input) > 1:
            yield index, node


def split_gemms(graph: onnx.GraphProto, keep_high: Sequence[str]) -> None:
    """Write each plain Gemm with a constant weight as a MatMul, of the same name, and an Add."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for _, node in list(_gemms(graph)):
        if node.input[1] not in weights or not is_plain(node) or (node.name and node.name in keep_high):
            continue
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        if transposed:
            array = numpy_helper.to_array(weights[node.input[1]])
            weights[node.input[1]].CopyFrom(
                numpy_helper.from_array(np.ascontiguousarray(array.T), node.input[1])
            )
        output, bias = node.output[0], list(node.input[2:3])
        node.op_type = "MatMul"
        del node.attribute[:]
        del node.input[2:]
        if bias and bias[0]:
            node.output[0] = f"{output}.product"
            index = next(i for i, other in enumerate(graph.node) if other.output[0:1] == [node.output[0]])
            graph.node.insert(
                index + 1, helper.make_node("Add", [node.output[0], bias[0]], [output], f"{node.name}.bias")
            )
