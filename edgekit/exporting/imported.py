"""An existing ONNX file as a source: what it needs beside it, and what cannot be taken. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import SourceError, UsageError
from edgekit.exporting.options import AUTO, OPSETS, ExportOptions
from edgekit.files.digests import file_digest, tree_digest, value_digest
from edgekit.tasks import load_task
from edgekit_runtime.values import DTYPES

if TYPE_CHECKING:
    import onnx

CUSTOM = "custom"
PROCESSOR = "processor"
#: Operators of these domains are ONNX's own.
_STANDARD = ("", "ai.onnx", "ai.onnx.ml")
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxSource:
    """An ONNX file that is whole and standard. external: files with its weights; processor: to be copied."""

    path: Path
    external: tuple[Path, ...]
    opset: int
    task: str
    processor: Path | None

    @property
    def label(self) -> str:
        """Its path."""
        return str(self.path)

    def digest(self) -> str:
        """Digest of the file, of the files it names, and of its processor."""
        parts = [file_digest(path) for path in (self.path, *self.external)]
        return value_digest(parts + ([tree_digest(self.processor)] if self.processor else []))


def inspect_onnx(path: Path, options: ExportOptions) -> OnnxSource:
    """Check an ONNX file by ONNX's own checker and for what an engine could not take.

    Raises SourceError naming the file and what is wrong.
    """
    model = _parse(path)
    opset = _check_versions(path, model)
    _refuse_custom_operators(path, model)
    external = _external_files(path, model)
    _check(path)
    _refuse_ports(path, model)
    task, processor = _task(path, options)
    return OnnxSource(path=path, external=external, opset=opset, task=task, processor=processor)


def _parse(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as problem:
        raise SourceError(
            f"{path}: damaged or truncated, or no ONNX file: {problem}", hint="get the file again"
        ) from None
    if not model.graph.node or not model.graph.output:
        raise SourceError(
            f"{path}: holds no graph; damaged, truncated, or no ONNX file", hint="get the file again"
        )
    return model


def _check_versions(path: Path, model: onnx.ModelProto) -> int:
    import onnx

    if model.ir_version > onnx.IR_VERSION:
        raise SourceError(
            f"{path}: is of ONNX IR {model.ir_version}; the installed onnx {onnx.__version__} knows up to "
            f"{onnx.IR_VERSION}",
            hint="install a newer onnx, or save the model with an older one",
        )
    found = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not found:
        raise SourceError(f"{path}: names no opset", hint="get the file again")
    if found[0] >= OPSETS.stop:
        raise SourceError(
            f"{path}: is of opset {found[0]}; this edgekit knows up to {OPSETS.stop - 1}",
            hint=f"write it with opset {OPSETS.stop - 1} or lower",
        )
    return int(found[0])


def _refuse_custom_operators(path: Path, model: onnx.ModelProto) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    foreign = sorted(
        {
            f"{node.domain}::{node.op_type}"
            for node in _nodes(model)
            if node.domain not in _STANDARD and (node.domain, node.op_type) not in own
        }
    )
    if foreign:
        more = f" and {len(foreign) - _MOST_NAMED} more" if len(foreign) > _MOST_NAMED else ""
        raise SourceError(
            f"{path}: uses operators that are not ONNX's own: {', '.join(foreign[:_MOST_NAMED])}{more}",
            hint="export the original model without fusions and custom operators; engines fuse by themselves",
        )


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node: of the graph, of its functions, and of the graphs inside nodes."""
    stack: list[Iterable[onnx.NodeProto]] = [model.graph.node, *(each.node for each in model.functions)]
    while stack:
        for node in stack.pop():
            yield node
            stack += [inner.node for attribute in node.attribute for inner in _graphs(attribute)]


def _graphs(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    own = [attribute.g] if attribute.HasField("g") else []
    return [*own, *attribute.graphs]


def _external_files(path: Path, model: onnx.ModelProto) -> tuple[Path, ...]:
    """Files that hold weights; each lies beside the model and is long enough."""
    import onnx

    folder, found = path.parent.resolve(), set()
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        data = folder / entries.get("location", "")
        if not data.absolute().is_relative_to(folder) or ".." in data.relative_to(folder).parts:
            raise SourceError(
                f"{path}: {tensor.name!r} lies in {entries.get('location')!r}, outside its folder",
                hint="do not use this file",
            )
        if not data.is_file():
            raise SourceError(
                f"{path}: its weights in {entries.get('location')!r} are missing",
                hint=f"put {data.name} beside {path.name}",
            )
        if _number(entries.get("offset")) + _number(entries.get("length")) > data.stat().st_size:
            raise SourceError(
                f"{data}: truncated: it ends before {tensor.name!r} of {path.name}", hint="get it again"
            )
        found.add(data)
    return tuple(sorted(found))


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _check(path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as problem:
        reason = str(problem).strip().splitlines()[0][:300]
        raise SourceError(
            f"{path}: is not valid ONNX: {reason}", hint="whatever wrote it made a mistake; write it again"
        ) from problem


def _refuse_ports(path: Path, model: onnx.ModelProto) -> None:
    """Inputs and outputs must be tensors of types that feeds can have."""
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    if any(tensor.name for tensor in model.graph.sparse_initializer):
        raise SourceError(f"{path}: holds sparse weights", hint="write them densely")
    for port in (*model.graph.input, *model.graph.output):
        if port.name in weights and port in model.graph.input:
            continue
        kind = port.type.WhichOneof("value")
        code = port.type.tensor_type.elem_type if kind == "tensor_type" else 0
        dtype = onnx.helper.tensor_dtype_to_np_dtype(code).name if code else str(kind)
        if dtype not in DTYPES:
            raise SourceError(
                f"{path}: {port.name!r} is {dtype}; supported are tensors of {', '.join(DTYPES)}",
                hint="put the conversion from or to it outside the graph",
            )


def _task(path: Path, options: ExportOptions) -> tuple[str, Path | None]:
    """`custom`, or the task asked for when a processor lies beside the file."""
    if options.task in (AUTO, CUSTOM):
        return CUSTOM, None
    task = load_task(options.task)
    folder = path.parent / PROCESSOR
    if not folder.is_dir():
        raise UsageError(
            f"{path}: as {task.name!r} it needs its processor beside it, and there is no {folder}",
            hint="copy processor/ of a model directory there, or leave --task out to import it as 'custom'",
        )
    return task.name, folder
