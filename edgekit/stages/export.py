"""export: a torch model in, a model directory out, proven to be the same model."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import UsageError
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.source import FolderSource, inspect_folder
from edgekit.files.directories import new_directory, refuse_foreign
from edgekit.files.manifests import write_manifest
from edgekit.stages.common import (
    OnProgress,
    StageResult,
    announce,
    quiet,
    relative_path,
    up_to_date,
    value_input,
)
from edgekit.values import InputEntry, ModelTable
from edgekit_runtime.goldens import write_goldens

if TYPE_CHECKING:
    import torch

    from edgekit.exporting.subject import Subject

__all__ = ["ExportOptions", "ExportedModel", "export"]

STEPS = ("reading", "loading", "exporting", "running the original", "checking", "writing")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel(StageResult):
    """A model directory. cpu_seconds: what each step took, worker included; {} when up to date."""

    cpu_seconds: dict[str, float] = field(default_factory=dict)


def export(
    source: str | Path | torch.nn.Module,
    output: str | Path,
    *,
    options: ExportOptions | None = None,
    on_progress: OnProgress = quiet,
) -> ExportedModel:
    """Export a transformers folder, or a torch module with example inputs, to the directory `output`.

        edgekit.export("./my-model", "build/model")
        edgekit.export(module.eval(), "build/model", options=ExportOptions(
            example_inputs={"x": torch.randn(2, 16)}, dynamic_axes={"x": {0: "batch"}}))

    The graph is compared with the original at shapes that were not traced; a difference beyond the
    tolerance raises ExportWrong and leaves nothing at `output`. A folder that was exported there
    before, with the same files, options and tools, is not exported again unless `options.force`;
    a module always is, since its code cannot be compared.
    Raises SourceError, UnsafeSource, ExportFailed, ExportWrong, OutputError or UsageError.
    """
    started = time.monotonic()
    options = options or ExportOptions()
    options.check()
    output = Path(output)
    refuse_foreign(output, "model")
    steps = _Steps(on_progress)
    with steps.step("reading"):
        origin = _origin(source, options)
        inputs = _inputs(origin, options, output)
    fresh = isinstance(origin, FolderSource) and not options.force
    current = up_to_date(output, "model", inputs) if fresh else None
    if current is not None:
        found = ExportedModel(path=output, manifest=current, up_to_date=True)
        announce("export", found, started)
        return found
    with new_directory(output, "model") as work:
        table = _export_into(work, origin, options, steps)
        manifest = write_manifest(
            work, name=options.name or output.resolve().name, inputs=inputs, table=table
        )
    made = ExportedModel(path=output, manifest=manifest, up_to_date=False, cpu_seconds=steps.cpu_seconds)
    announce("export", made, started)
    return made


class _Steps:
    """Progress and CPU time of the steps, in order."""

    def __init__(self, on_progress: OnProgress) -> None:
        self.cpu_seconds: dict[str, float] = {}
        self._on_progress = on_progress

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._on_progress(STEPS.index(name), len(STEPS), name)
        before = _cpu_seconds()
        yield
        self.cpu_seconds[name] = _cpu_seconds() - before
        self._on_progress(STEPS.index(name) + 1, len(STEPS), name)


def _cpu_seconds() -> float:
    """CPU time of this process and of the workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _origin(source: str | Path | torch.nn.Module, options: ExportOptions) -> FolderSource | torch.nn.Module:
    """The source, checked as far as possible before torch is imported."""
    if not isinstance(source, str | Path):
        return source
    if options.example_inputs or options.dynamic_axes or options.output_names:
        raise UsageError(
            "example_inputs, dynamic_axes and output_names are for torch modules",
            hint="a folder's processor makes its inputs; leave them out",
        )
    return inspect_folder(Path(source), options)


def _inputs(
    origin: FolderSource | torch.nn.Module, options: ExportOptions, output: Path
) -> tuple[InputEntry, ...]:
    """What decides the result. A module's code cannot be hashed: its weights stand for it."""
    from edgekit.exporting.onnx import tool_versions

    decided = (value_input("options", options.deciding()), value_input("tools", tool_versions()))
    if isinstance(origin, FolderSource):
        path = relative_path(origin.folder, output)
        return (InputEntry(role="source", digest=origin.digest(), path=path), *decided)
    from edgekit.exporting.module import weights_digest

    return (InputEntry(role="source", digest=weights_digest(origin)), *decided)


def _load(origin: FolderSource | torch.nn.Module, options: ExportOptions, work: Path) -> Subject:
    if isinstance(origin, FolderSource):
        from edgekit.exporting.folder import load_folder

        return load_folder(origin, options, work / "processor")
    from edgekit.exporting.module import load_module

    return load_module(origin, options)


def _export_into(
    work: Path,
    origin: FolderSource | torch.nn.Module,
    options: ExportOptions,
    steps: _Steps,
) -> ModelTable:
    """Fill `work` with all but its manifest."""
    from edgekit.exporting import checks, onnx
    from edgekit.exporting.reference import reference_outputs

    with steps.step("loading"):
        subject = _load(origin, options, work)
    with steps.step("exporting"):
        graph = onnx.trace(subject, options.opset)
        model = onnx.save(graph, work, onnx.model_notes(subject.facts))
        signature = onnx.signature(graph)
        del graph
    with steps.step("running the original"):
        expected = checks.original_outputs(subject, [spec.name for spec in signature.outputs])
        facts = subject.facts
        del subject
        gc.collect()  # the worker that checks the graph needs the original's memory
    with steps.step("checking"):
        got = reference_outputs(model, signature, [item.case.feeds for item in expected])
        passed = checks.judge(facts, expected, got, options.tolerance)
    with steps.step("writing"):
        write_goldens(work / "golden", checks.goldens(expected))
    return ModelTable(
        task=facts.task,
        signature=signature,
        opset=options.opset,
        source=facts.source,
        tolerance=options.tolerance,
        checks=passed,
        labels=facts.labels,
        tool_versions=onnx.tool_versions(),
    )
