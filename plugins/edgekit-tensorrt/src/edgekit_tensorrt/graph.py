"""The exported graph as it is worked on: its nodes in memory, its large weights in a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from edgekit.api import CompileFailed, load_graph
from edgekit_runtime.session import Array

FLOAT = onnx.TensorProto.FLOAT
#: Smaller constants stay in the graph: shape inference reads sizes and axes from them.
_SMALL = 1024
_ALIGNMENT = 4096
_NAMED = ("", "ai.onnx")
#: The operator sets from which on scales may have 16 bits, and weights of 4 bits may share one in blocks.
HALF_SCALES, BLOCKS = 19, 21
#: The version of the file format that came with each.
_FORMATS = {HALF_SCALES: 9, BLOCKS: 10}
_CONVERTER_ERRORS = (RuntimeError, ValueError, IndexError, onnx.version_converter.ConvertError)
_READ_ERRORS = (DecodeError, ValueError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model whose large weights are in a file in `work`, where everything on the way is written.

    path: the model's own file; types: element type of each tensor of the main graph by name, as far as
    ONNX can infer it.
    """

    path: Path
    work: Path
    model: onnx.ModelProto
    types: dict[str, int]

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        return max((item.version for item in self.model.opset_import if item.domain in _NAMED), default=1)

    def weights(self) -> dict[str, onnx.TensorProto]:
        """Stored tensors by name."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    def array(self, tensor: onnx.TensorProto) -> Array:
        """A stored tensor's numbers. Raises `CompileFailed` where they cannot be read."""
        try:
            array: Array = numpy_helper.to_array(tensor, str(self.work))
        except (*_READ_ERRORS, onnx.checker.ValidationError) as error:
            raise CompileFailed(
                f"{self.path}: the weights of {tensor.name!r} cannot be read: {error}",
                hint="keep the data files beside the model, or export it again",
            ) from error
        return array


class WeightFile:
    """The data file of a model that is being written: tensors go into it one by one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("wb")

    def add(self, name: str, data_type: int, dims: Iterable[int], raw: bytes) -> onnx.TensorProto:
        """A tensor of these bytes: inside the graph when it is small, else in the file."""
        tensor = onnx.TensorProto(name=name, data_type=data_type, dims=dims)
        if len(raw) <= _SMALL:
            tensor.raw_data = raw
            return tensor
        self._file.write(bytes(-self._file.tell() % _ALIGNMENT))
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = (("location", self._path.name), ("offset", self._file.tell()), ("length", len(raw)))
        tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=str(v)) for key, v in place)
        self._file.write(raw)
        return tensor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        """Finish the file; an empty one is removed."""
        empty = self._file.tell() == 0
        self._file.close()
        if empty:
            self._path.unlink()


def open_source(path: Path, work: Path) -> Source:
    """Read the model, and bring its large weights to a file in `work`.

    Raises `CompileFailed` for a file that is no model, or whose data files are missing.
    """
    model = read_model(path)
    _lift_constants(model.graph)
    _spill(model, path, work / "weights.data")
    return Source(path=path, work=work, model=model, types=element_types(model, path))


def with_opset(source: Source, needed: int) -> Source:
    """The model in at least this set of operators, by ONNX's converter; unchanged where that cannot."""
    if source.opset >= needed:
        return source
    try:
        model = onnx.version_converter.convert_version(source.model, needed)
    except _CONVERTER_ERRORS:
        return source
    model.ir_version = max(model.ir_version, _FORMATS[needed])
    return replace(source, model=model, types=element_types(model, source.path))


def read_model(path: Path) -> onnx.ModelProto:
    """The model without its data files; nodes without a name get one. Raises `CompileFailed`."""
    model = load_graph(path)
    _name_nodes(model.graph)
    return model


def element_types(model: onnx.ModelProto, path: Path) -> dict[str, int]:
    """Element types by tensor name. Raises `CompileFailed` for a graph whose types contradict each other."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise CompileFailed(
            f"the types of the tensors in {path} cannot be inferred: {error}", hint="export the model again"
        ) from error
    infos = (*graph.value_info, *graph.input, *graph.output)
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def key(node: onnx.NodeProto) -> str:
    """What tells a node from all others: the name of its first output, which no other node may give."""
    return next((name for name in node.output if name), "")


def captured(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the graphs inside a node (If, Loop, Scan) read; some may be their own."""
    for attribute in node.attribute:
        inner = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        for graph in inner:
            yield from (port.name for port in graph.output)
            for child in graph.node:
                yield from child.input
                yield from captured(child)


@cache
def half_ports(op_type: str, domain: str, opset: int) -> tuple[tuple[bool, ...], tuple[bool, ...], bool]:
    """Whether ONNX lets each input and each output be float16, and whether the last input repeats.

    The same answer is used for bfloat16, which older operator sets allow for fewer operators than
    TensorRT does.
    """
    if domain not in _NAMED or op_type in ("If", "Loop", "Scan") or op_type.startswith("Sequence"):
        return (), (), False
    if op_type in ("QuantizeLinear", "DequantizeLinear"):
        # ONNX allows it from set 19 on; TensorRT in every one.
        return (op_type == "QuantizeLinear", True, False), (op_type == "DequantizeLinear",), False
    try:
        schema = onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return (), (), False
    half = {
        item.type_param_str for item in schema.type_constraints if "tensor(float16)" in item.allowed_type_strs
    }
    repeats = (
        bool(schema.inputs) and schema.inputs[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    )
    inputs = tuple(port.type_str in half for port in schema.inputs)
    return inputs, tuple(port.type_str in half for port in schema.outputs), repeats


def _name_nodes(graph: onnx.GraphProto) -> None:
    taken = {node.name for node in graph.node}
    for index, node in enumerate(graph.node):
        if not node.name:
            name = f"{node.op_type}_{index}"
            node.name = name if name not in taken else f"{name}.unnamed"


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Make stored tensors of Constant nodes: a typed graph then has one kind of constant."""
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        value = [item for item in node.attribute if item.name in ("value", "value_float", "value_floats")]
        if node.op_type != "Constant" or not value or node.domain not in _NAMED:
            kept.append(node)
            continue
        if value[0].name == "value":
            graph.initializer.add().CopyFrom(value[0].t)
        else:
            numbers = np.array(onnx.helper.get_attribute_value(value[0]), np.float32)
            graph.initializer.append(numpy_helper.from_array(numbers))
        graph.initializer[-1].name = node.output[0]
    if len(kept) < len(graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(copies)


def _spill(model: onnx.ModelProto, path: Path, to: Path) -> None:
    """Move large stored tensors out of memory, and those in data files beside the model, into one file."""
    with WeightFile(to) as file:
        for tensor in model.graph.initializer:
            if uses_external_data(tensor):
                raw = _outside(tensor, path)
            elif tensor.data_type == onnx.TensorProto.STRING or tensor.ByteSize() <= _SMALL:
                continue
            else:
                raw = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
            tensor.CopyFrom(file.add(tensor.name, tensor.data_type, tensor.dims, raw))


def stored_bytes(tensor: onnx.TensorProto, directory: Path) -> bytes:
    """The bytes of a tensor that is in a data file of a directory: a type that numpy lacks passes through."""
    info = ExternalDataInfo(tensor)
    with (directory / info.location).open("rb") as file:
        file.seek(int(info.offset or 0))
        raw: bytes = file.read(int(info.length) if info.length else -1)
    return raw


def _outside(tensor: onnx.TensorProto, path: Path) -> bytes:
    """A tensor's bytes from the data file beside the model."""
    location = ExternalDataInfo(tensor).location
    inside = (path.parent / location).resolve()
    if not location or not inside.is_relative_to(path.parent.resolve()):
        raise CompileFailed(f"{path} keeps weights in {location!r}, outside its own directory")
    try:
        raw = stored_bytes(tensor, path.parent)
    except OSError as error:
        raise CompileFailed(
            f"{path} keeps weights in {location}, which is missing", hint="move both files together"
        ) from error
    items = int(np.prod(tensor.dims, dtype=np.int64))
    if len(raw) * 2 < items:  # the smallest numbers are of 4 bits
        raise CompileFailed(f"{inside} is truncated", hint="export the model again")
    return raw
