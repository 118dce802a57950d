"""Reading an ONNX file: its nodes, its weights, and the data files beside it."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from edgekit.api import CompileFailed, UnknownName

_FLOAT16 = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def load_graph(path: Path) -> onnx.ModelProto:
    """The model without its external data. Raises `CompileFailed` naming the file that is damaged."""
    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError as error:
        raise CompileFailed(f"{path} is missing", hint="export the model again") from error
    except (DecodeError, ValueError, OSError) as error:
        raise CompileFailed(
            f"{path} is no readable ONNX file: {error}", hint="export the model again"
        ) from error
    if not model.graph.output:
        raise CompileFailed(
            f"{path} holds no graph", hint="the file is empty or truncated: export the model again"
        )
    data_files(model, path)
    return model


def data_files(model: onnx.ModelProto, path: Path) -> tuple[str, ...]:
    """External data files, relative to the model's directory; each checked to be there and long enough."""
    needed: dict[str, int] = {}
    for tensor in tensors(model.graph):
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            end = int(info.offset or 0) + int(info.length or 0)
            needed[info.location] = max(needed.get(info.location, 0), end)
    for name, size in needed.items():
        _check_data_file(path, name, size)
    return tuple(sorted(needed))


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor: initializers and attributes, in subgraphs too."""
    for nested in graphs(graph):
        yield from nested.initializer
        for sparse in nested.sparse_initializer:
            yield sparse.values
            yield sparse.indices
        for node in nested.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)
            for nested in attribute.graphs:
                yield from graphs(nested)


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, in subgraphs too."""
    for graph in graphs(model.graph):
        yield from graph.node


def operator_name(node: onnx.NodeProto) -> str:
    """ "MatMul", or "com.acme.MatMul" outside ONNX's own domain."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def operator_counts(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(operator_name(node) for node in nodes(model))


def is_half(model: onnx.ModelProto) -> bool:
    """Whether any weight is stored in 16 bits."""
    return any(tensor.data_type in _FLOAT16 for tensor in tensors(model.graph))


def check_names(model: onnx.ModelProto, wanted: Iterable[str]) -> None:
    """Raise `UnknownName` for a name that no node has."""
    known = {node.name for node in nodes(model) if node.name}
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"the graph has {len(known)} named nodes"
            raise UnknownName(f"keep_high names {name!r}, which is no node of the model", hint=hint)


def _check_data_file(path: Path, name: str, size: int) -> None:
    inside = (path.parent / name).resolve()
    if not name or not inside.is_relative_to(path.parent.resolve()):
        raise CompileFailed(f"{path} keeps weights in {name!r}, outside its own directory")
    if not inside.is_file():
        raise CompileFailed(
            f"{path} keeps weights in {name}, which is missing", hint="move both files together"
        )
    if inside.stat().st_size < size:
        raise CompileFailed(
            f"{inside} is truncated: the model reads {size} bytes, the file has {inside.stat().st_size}",
            hint="export the model again",
        )
