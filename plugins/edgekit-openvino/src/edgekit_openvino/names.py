"""ONNX nodes by name, and where they are in OpenVINO's graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from edgekit import api
from edgekit.api import CompileFailed
from edgekit_openvino.engine import ov

#: Operators that int8 is about: OpenVINO's types, and the ONNX ones they come from.
MULTIPLIES = (
    "MatMul",
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
)
_MULTIPLIES_ONNX = ("MatMul", "Gemm", "Conv", "ConvTranspose")


def load_graph(path: Path) -> onnx.ModelProto:
    """The ONNX graph without the values of its weights. Raises `CompileFailed` naming the damaged file."""
    model = api.load_graph(path)
    # Into a message of its own: deleting weights from one gives no memory back.
    graph = onnx.GraphProto(
        name=model.graph.name,
        node=model.graph.node,
        input=model.graph.input,
        output=model.graph.output,
        initializer=[
            onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            for tensor in model.graph.initializer
        ],
    )
    return onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, graph=graph)


def kept_nodes(model: ov.Model, source: onnx.ModelProto, keep_high: Sequence[str]) -> tuple[str, ...]:
    """Names in OpenVINO's graph of the ONNX nodes that stay high.

    Raises `UnknownName` for a name that no node has, `CompileFailed` for a multiplication that
    cannot be found again.
    """
    api.check_keep_high(source.graph, keep_high)
    by_name = {node.name: node for node in api.all_nodes(source.graph) if node.name}
    kept: list[str] = []
    for name in keep_high:
        found = [
            node for node in model.get_ops() if _is_part(node.get_friendly_name(), by_name[name], by_name)
        ]
        multiplies = any(node.get_type_name() in MULTIPLIES for node in found)
        if by_name[name].op_type in _MULTIPLIES_ONNX and not multiplies:
            raise CompileFailed(
                f"node {name!r} cannot be found in OpenVINO's graph, so it cannot be kept high",
                hint="leave it out of keep_high",
            )
        kept += [node.get_friendly_name() for node in found if node.get_type_name() != "Constant"]
    return tuple(dict.fromkeys(kept))


def _is_part(friendly: str, node: onnx.NodeProto, others: dict[str, onnx.NodeProto]) -> bool:
    """OpenVINO calls a node by its ONNX name, "name/Part" when it became several, or by the graph output."""
    if friendly == node.name or friendly in node.output:
        return True
    return friendly.startswith(f"{node.name}/") and friendly not in others
