"""Tracing a Subject with torch's exporter, and writing the graph: cleaned, labelled, self-contained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import ExportFailed
from edgekit.exporting.clean import SCOPES, clean
from edgekit.exporting.embedding import write_embedded
from edgekit.exporting.failing import WRAPPED, explain, fixed_axis, found_fixed, inner_path, why_fixed
from edgekit.exporting.quiet import kept_environment, quiet_libraries
from edgekit.exporting.subject import Facts, Subject
from edgekit_runtime.values import DTYPES, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
#: One protobuf file ends at 2 GB; far enough below it, weights go to a file beside the graph.
EXTERNAL_OVER_BYTES = 1_500_000_000
#: What decides the exported graph, besides the model and the options.
TOOLS = (
    "edgekit",
    "edgekit-runtime",
    "torch",
    "transformers",
    "onnx",
    "onnxscript",
    "onnx-ir",
    "tokenizers",
    "pillow",
)


def tool_versions() -> dict[str, str]:
    """Versions of the tools that make the graph, read without importing them."""
    found = {}
    for name in TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in torch's program a value of the graph comes from. module: the path of the torch module."""

    node: str
    operator: str
    module: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traced:
    """A cleaned graph, the torch program it was made of, and which values of both are the same."""

    model: ir.Model
    program: torch.export.ExportedProgram
    places: Mapping[str, Place]


def trace(subject: Subject, opset: int) -> ir.Model:
    """The model's graph as torch's exporter gives it, cleaned. Raises ExportFailed."""
    return traced(subject, opset).model


def traced(subject: Subject, opset: int) -> Traced:
    """The same, with what is needed to compare inner values."""
    import torch

    module = _wrapper(subject)
    feeds = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in subject.trace.values())
    # Placeholder names: torch gives inner values the names of operators, which may be those of ports.
    inputs, outputs = (
        [f"edgekit.{kind}.{at}" for at in range(count)]
        for kind, count in (("in", len(feeds)), ("out", len(subject.outputs)))
    )
    with quiet_libraries(), kept_environment(), torch.no_grad():
        try:
            with subject.tracing():
                program = torch.onnx.export(
                    module,
                    feeds,
                    dynamo=True,
                    input_names=inputs,
                    output_names=outputs,
                    dynamic_shapes=_dynamic_shapes(subject),
                    opset_version=opset,
                    verbose=False,
                )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as problem:
            raise explain(problem, subject.module) from problem
    if program is None or program.exported_program is None:
        raise ExportFailed("torch.onnx.export returned nothing", hint="please report this")
    model: ir.Model = program.model
    places = list(_places(model))
    clean(model, inputs=tuple(subject.trace), outputs=subject.outputs, prefix=f"{WRAPPED}.")
    _refuse_fixed_axes(model, subject, module, feeds)
    named = {value.name or "": place for value, place in places if value.graph is model.graph}
    return Traced(model=model, program=program.exported_program, places=named)


def _places(model: ir.Model) -> Iterator[tuple[ir.Value, Place]]:
    """The exporter notes on every node which node of the program it belongs to.

    Several nodes may belong to one; the last bears its name, or that of an output of the graph.
    """
    for node in model.graph:
        note = node.metadata_props.get("pkg.torch.onnx.fx_node", "")
        found = re.match(r"%(\w+) : .*?target=torch\.ops\.([\w.]+)\]", note)
        scopes = re.findall(r"'([^']*)'", node.metadata_props.get(SCOPES, ""))
        if found is None:
            continue
        for value in node.outputs[:1]:
            if value.name == found[1] or value.is_graph_output():
                module = inner_path(scopes[-2]) if len(scopes) > 1 else ""
                yield value, Place(node=found[1], operator=found[2], module=module)


def save(model: ir.Model, directory: Path, notes: Mapping[str, str]) -> Path:
    """Write model.onnx, with its weights beside it when they are large. `notes` go into the model.

    The graph holds no weights afterwards: onnxscript's rewrite rules keep the last graph that they
    matched for the life of the process, and with it the memory of the original.
    """
    import onnx_ir as ir

    model.producer_name, model.producer_version = "edgekit", metadata.version("edgekit")
    model.metadata_props.clear()
    model.metadata_props.update(notes)
    path = directory / MODEL_FILE
    weights = list(model.graph.initializers.values())
    size = sum(value.const_value.nbytes for value in weights if value.const_value is not None)
    if size > EXTERNAL_OVER_BYTES:
        ir.save(model, path, external_data=DATA_FILE)
    else:
        write_embedded(model, path)
    for value in weights:
        value.const_value = None
    return path


def model_notes(facts: Facts) -> dict[str, str]:
    """What the model file says about itself."""
    notes = {"edgekit.task": facts.task, "edgekit.source": json.dumps(dict(facts.source))}
    if facts.labels:
        notes["edgekit.labels"] = json.dumps(list(facts.labels), ensure_ascii=False)
    notes |= {f"edgekit.tool.{name}": version for name, version in tool_versions().items()}
    return notes


def signature(model: ir.Model) -> Signature:
    """Inputs and outputs of the graph, symbolic axes by name."""
    return Signature(
        inputs=tuple(_spec(value) for value in model.graph.inputs),
        outputs=tuple(_spec(value) for value in model.graph.outputs),
    )


# --- tracing ------------------------------------------------------------------------------------------


def _wrapper(subject: Subject) -> torch.nn.Module:
    """A module with positional tensors in and a tuple of tensors out, as the exporter likes them."""
    import torch

    names = tuple(subject.trace)

    class Traced(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(WRAPPED, subject.module)

        def forward(self, *feeds: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(subject.call(dict(zip(names, feeds, strict=True))).values())

    return Traced().eval()


def _dynamic_shapes(subject: Subject) -> tuple[tuple[dict[int, Any], ...]]:
    from torch.export import Dim

    names = {name for named in subject.facts.axes.values() for name in named.values()}
    dims = {}
    for name in names:
        low, high = subject.ranges.get(name, (None, None))
        dims[name] = Dim(name, min=1 if low is None else low, max=high)
    axes = [subject.facts.axes.get(key, {}) for key in subject.trace]
    return (tuple({axis: dims[name] for axis, name in named.items()} for named in axes),)


def _refuse_fixed_axes(
    model: ir.Model, subject: Subject, module: torch.nn.Module, feeds: Sequence[torch.Tensor]
) -> None:
    """Raise ExportFailed for an axis that was to vary and came out fixed, saying why torch fixed it."""
    import torch

    fixed = found_fixed(signature(model), subject.facts.axes)
    if not fixed:
        return
    with quiet_libraries(), kept_environment(), torch.no_grad(), subject.tracing():
        why = why_fixed(module, feeds, _dynamic_shapes(subject))
    raise fixed_axis(f"{fixed}: {why}" if why else fixed)


# --- describing ---------------------------------------------------------------------------------------


def _spec(value: ir.Value) -> TensorSpec:
    name = value.name or ""
    dtype = value.dtype.numpy().name if value.dtype is not None else ""
    if dtype not in DTYPES or value.shape is None:
        raise ExportFailed(
            f"{name!r} is {dtype or 'of no known type'}, which is not supported",
            hint=f"supported: {', '.join(DTYPES)}",
        )
    dims = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
    shape = tuple(dim if dim is not None else f"{name}_{at}" for at, dim in enumerate(dims))
    return TensorSpec(name=name, dtype=dtype, shape=shape)
