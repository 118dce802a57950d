"""Writing an ONNX file with its weights inside, and no copy of them in memory.

The protobuf library would hold every weight twice more: once in the message, once in its bytes. A
message is only length-prefixed fields one after another, so the small part is serialized by the
library and each weight is written straight from where it lies.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import onnx_ir as ir

# Field number * 8 + 2 (length-delimited), from onnx.proto.
_MODEL_GRAPH = 7 << 3 | 2
_GRAPH_INITIALIZER = 5 << 3 | 2
_TENSOR_RAW_DATA = 9 << 3 | 2


def write_embedded(model: ir.Model, path: Path) -> None:
    """Write `model` to one file of less than 2 GB."""
    weights = _weights(model)
    heads = [_head(name, tensor) for name, tensor in weights.items()]
    shell, graph = _without_weights(model)
    sizes = [len(head) + tensor.nbytes for head, tensor in zip(heads, weights.values(), strict=True)]
    total = len(graph) + sum(1 + len(_varint(size)) + size for size in sizes)
    with path.open("wb") as stream:
        stream.write(shell)
        stream.write(bytes([_MODEL_GRAPH]) + _varint(total) + graph)
        for head, size, tensor in zip(heads, sizes, weights.values(), strict=True):
            stream.write(bytes([_GRAPH_INITIALIZER]) + _varint(size) + head)
            _write_values(tensor, stream)


def _weights(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    values = model.graph.initializers.items()
    return {name: value.const_value for name, value in values if value.const_value is not None}


def _head(name: str, tensor: ir.TensorProtocol) -> bytes:
    """A TensorProto up to its values."""
    import onnx

    proto = onnx.TensorProto(name=name, data_type=int(tensor.dtype), dims=list(tensor.shape.numpy()))
    return bytes(proto.SerializeToString()) + bytes([_TENSOR_RAW_DATA]) + _varint(tensor.nbytes)


def _without_weights(model: ir.Model) -> tuple[bytes, bytes]:
    """The model's own fields, and its graph's, serialized."""
    import onnx_ir as ir

    weights = dict(model.graph.initializers)
    model.graph.initializers.clear()
    try:
        proto = ir.serde.serialize_model(model)
    finally:
        model.graph.initializers.update(weights)
    graph = bytes(proto.graph.SerializeToString())
    proto.ClearField("graph")
    return bytes(proto.SerializeToString()), graph


def _write_values(tensor: ir.TensorProtocol, stream: BinaryIO) -> None:
    to_file: Callable[[BinaryIO], object] | None = getattr(tensor, "tofile", None)
    if to_file is None:
        stream.write(tensor.tobytes())
        return
    stream.flush()  # some tensors write to the file descriptor itself
    to_file(stream)
    stream.seek(0, 2)


def _varint(value: int) -> bytes:
    """Protobuf's variable-length integer: seven bits a byte, lowest first."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
