"""Reading an ONNX file: its weights, and the data files beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from edgekit import api
from edgekit.api import CompileFailed, all_graphs

_FLOAT16 = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def load_graph(path: Path) -> onnx.ModelProto:
    """The model without its external data, which is checked to be there. Raises `CompileFailed`."""
    model = api.load_graph(path)
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
    for nested in all_graphs(graph):
        yield from nested.initializer
        for sparse in nested.sparse_initializer:
            yield sparse.values
            yield sparse.indices
        for node in nested.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def is_half(model: onnx.ModelProto) -> bool:
    """Whether any weight is stored in 16 bits."""
    return any(tensor.data_type in _FLOAT16 for tensor in tensors(model.graph))


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
