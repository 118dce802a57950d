"""The precision that an ONNX graph has by itself: of one that was quantized before it came here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.errors import PrecisionNotGiven
from edgekit.onnx_graphs import all_nodes
from edgekit.values import CompileRequest

if TYPE_CHECKING:
    import onnx

#: Operators that compute with, or make, values of 8 bits.
_INTEGERS = (
    "QuantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "ConvInteger",
    "DynamicQuantizeMatMul",
    "QGemm",
    "QAttention",
    "FakeQuantize",
)
#: Operators that read weights of 8 bits or fewer, and how many bits those have where no attribute says it.
_WEIGHTS = {"MatMulNBits": 4, "GatherBlockQuantized": 4, "DequantizeLinear": 8}
_FOUR_BITS = ("INT4", "UINT4")
_FLOATS = ("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPrecision:
    """precision: "int8", "fp8", "int8-weights" or "int4-weights"; node, op_type: the first that shows it."""

    precision: str
    node: str
    op_type: str


def stored_precision(model: onnx.ModelProto) -> StoredPrecision | None:
    """None for a graph that was not quantized. Values of weights are not read."""
    found = list(all_nodes(model.graph))
    integer = next((node for node in found if _is_integer(node)), None)
    if integer is not None:
        # A quantizer's zero point has the type that it makes.
        floats = set(integer.input) & _stored_in(model.graph, _FLOATS)
        return _stored("fp8" if floats else "int8", integer)
    four = _stored_in(model.graph, _FOUR_BITS)
    readers = [(node, _bits(node, four)) for node in found if node.op_type in _WEIGHTS]
    if not readers:
        return None
    node, bits = min(readers, key=lambda reader: reader[1])
    return _stored(f"int{bits}-weights", node)


def passed_through(model: onnx.ModelProto, request: CompileRequest) -> str:
    """What to note of a graph that has the precision asked for by itself; "" for one that was not quantized.

    Raises PrecisionNotGiven for a graph of another precision, or one of whose nodes some were to stay high.
    """
    found = stored_precision(model)
    if found is None:
        return ""
    where = f"node {found.node!r} is a {found.op_type}"
    if request.precision != found.precision:
        raise PrecisionNotGiven(
            f"{request.model} is quantized already, to {found.precision} ({where}), so it cannot be "
            f"{request.precision}",
            hint=f"--precision {found.precision} passes it through as it is; for another one export the "
            "model without quantization",
        )
    if request.keep_high:
        raise PrecisionNotGiven(
            f"{request.model} is quantized already ({where}), so no node can be kept high",
            hint="leave --keep-high out, or export the model without quantization",
        )
    return f"the model was quantized before it came here ({where}), and is passed through as it is"


def _stored(precision: str, node: onnx.NodeProto) -> StoredPrecision:
    return StoredPrecision(precision=precision, node=node.name or node.output[0], op_type=node.op_type)


def _is_integer(node: onnx.NodeProto) -> bool:
    return node.op_type in _INTEGERS or node.op_type.startswith("QLinear")


def _bits(node: onnx.NodeProto, four: set[str]) -> int:
    for attribute in node.attribute:
        if attribute.name == "bits":
            return 8 if attribute.i > 4 else 4
    return 4 if set(node.input) & four else _WEIGHTS[node.op_type]


def _stored_in(graph: onnx.GraphProto, words: Iterable[str]) -> set[str]:
    """Names of stored tensors of these types."""
    import onnx

    types = {onnx.TensorProto.DataType.Value(word) for word in words}
    return {tensor.name for tensor in graph.initializer if tensor.data_type in types}
