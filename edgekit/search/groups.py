"""The nodes of a model that quantization changes, in groups that stand for the same place in each layer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.files.graphs import Graph

if TYPE_CHECKING:
    import onnx

#: Operators that engines quantize. A Gather counts when it reads a table of weights.
QUANTIZED = ("MatMul", "Gemm", "Conv", "ConvTranspose", "Gather")
#: A pattern of more nodes is split: the first layers of a network rarely cost what the last ones do.
MOST_NODES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """name: the nodes' common pattern, layer numbers as "#"; nodes: as `keep_high` takes them."""

    name: str
    nodes: tuple[str, ...]


def quantizable_groups(graphs: Sequence[Graph]) -> tuple[Group, ...]:
    """Groups of the named nodes of all graphs, in the order of the graphs. Weights are not read."""
    patterns: dict[str, list[str]] = {}
    for graph in graphs:
        for name in _nodes(graph):
            patterns.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    return tuple(group for pattern, nodes in patterns.items() for group in _pieces(pattern, nodes))


def _nodes(graph: Graph) -> Iterator[str]:
    import onnx

    model = onnx.load(graph.path, load_external_data=False)
    tables = {item.name for item in model.graph.initializer if len(item.dims) > 1}
    prefix = f"{graph.part}/" if graph.part else ""
    for node in model.graph.node:
        if node.name and _is_quantized(node, tables):
            yield prefix + node.name


def _is_quantized(node: onnx.NodeProto, tables: set[str]) -> bool:
    if node.op_type == "Gather":
        return node.input[0] in tables
    return node.op_type in QUANTIZED


def _pieces(pattern: str, nodes: Sequence[str]) -> Iterator[Group]:
    """Equal pieces of consecutive nodes, none of more than `MOST_NODES`."""
    pieces = -(-len(nodes) // MOST_NODES)
    for piece in range(pieces):
        part = nodes[piece * len(nodes) // pieces : (piece + 1) * len(nodes) // pieces]
        name = pattern if pieces == 1 else f"{pattern} ({piece + 1} of {pieces})"
        yield Group(name=name, nodes=tuple(part))
