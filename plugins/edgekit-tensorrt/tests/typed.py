"""Looking into a typed graph."""

from __future__ import annotations

import onnx

from edgekit_tensorrt.prepare import Typed


def graph_of(typed: Typed) -> onnx.GraphProto:
    return onnx.load(typed.path).graph


def types_of(typed: Typed) -> dict[str, int]:
    model = onnx.shape_inference.infer_shapes(onnx.load(typed.path), check_type=True, strict_mode=True)
    infos = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {item.name: item.type.tensor_type.elem_type for item in infos} | {
        tensor.name: tensor.data_type for tensor in model.graph.initializer
    }


def kind_of(typed: Typed, name: str) -> int:
    """The element type that a node of the graph gives."""
    node = next(node for node in graph_of(typed).node if node.name == name)
    return types_of(typed)[node.output[0]]
