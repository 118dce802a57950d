"""ONNX graphs, read and walked in one way by every backend."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import CompileFailed, UnknownName

if TYPE_CHECKING:
    import onnx

_OWN_DOMAINS = ("", "ai.onnx")


def load_graph(path: Path) -> onnx.ModelProto:
    """The model without its external data. Raises CompileFailed naming a file that is missing or damaged."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model: onnx.ModelProto = onnx.load(path, load_external_data=False)
    except FileNotFoundError as error:
        raise CompileFailed(f"{path} is missing", hint="export the model again") from error
    except (DecodeError, ValueError, OSError) as error:
        raise CompileFailed(
            f"{path} is no readable ONNX file: {error}", hint="export the model again"
        ) from error
    # An empty file is a valid message of this format, and says nothing.
    if not model.graph.output:
        raise CompileFailed(
            f"{path} holds no graph", hint="the file is empty or truncated: export the model again"
        )
    return model


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from all_graphs(inner)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, of the graphs inside nodes too."""
    for each in all_graphs(graph):
        yield from each.node


def operator_name(node: onnx.NodeProto) -> str:
    """ "MatMul", or "com.acme.MatMul" outside ONNX's own domain."""
    kind = str(node.op_type)  # protobuf gives bytes where a name is no UTF-8
    return kind if node.domain in _OWN_DOMAINS else f"{node.domain}.{kind}"


def operator_counts(graph: onnx.GraphProto) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(operator_name(node) for node in all_nodes(graph))


def check_keep_high(graph: onnx.GraphProto, names: Iterable[str]) -> None:
    """Raise UnknownName for a name in keep_high that no node has."""
    known = {node.name for node in all_nodes(graph) if node.name}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"the graph has {len(known)} named nodes"
            raise UnknownName(f"keep_high names {name!r}, which is no node of the model", hint=hint)
