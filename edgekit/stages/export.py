"""export: a torch model in, a model directory out, proven to be the same model."""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import ExportWrong, UsageError
from edgekit.exporting.imported import OnnxSource
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.origin import Origin, TorchOrigin, inspect_source
from edgekit.exporting.quiet import rare_collections
from edgekit.exporting.reproduce import Recipe, write_script
from edgekit.exporting.subject import shape_of
from edgekit.files.directories import new_directory, refuse_foreign
from edgekit.files.graphs import Graph
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
from edgekit.values import ExportCheck, InputEntry, ModelTable
from edgekit_runtime.goldens import write_goldens

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from edgekit.exporting.checks import Outputs
    from edgekit.exporting.evidence import Failure
    from edgekit.exporting.onnx import Traced
    from edgekit.exporting.subject import Range
    from edgekit.exporting.written import Compared

__all__ = ["ExportOptions", "ExportedModel", "export"]

STEPS = ("reading", "loading", "exporting", "running the original", "checking", "writing")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel(StageResult):
    """A model directory. cpu_seconds: what each step took, worker included; {} when up to date."""

    cpu_seconds: dict[str, float] = field(default_factory=dict)


def export(
    source: str | Path | torch.nn.Module | ExportedProgram,
    output: str | Path,
    *,
    options: ExportOptions | None = None,
    on_progress: OnProgress = quiet,
) -> ExportedModel:
    """Export a model to the directory `output`.

    source: a folder (transformers, sentence-transformers, PEFT adapter), a hub id, an .onnx, .pt2 or .gguf
    file, a torch module with example inputs or with a task and its processor, or a torch.export program.

        edgekit.export("./my-model", "build/model")
        edgekit.export(module.eval(), "build/model", options=ExportOptions(
            example_inputs={"x": torch.randn(2, 16)}, dynamic_axes={"x": {0: "batch"}}))
        edgekit.export(network.eval(), "build/model", options=ExportOptions(
            task="image-classification", processor=ImageSettings(...), labels=["cat", "dog"]))

    The graph is compared with the original at shapes that were not traced; a difference beyond the
    tolerance raises ExportWrong and leaves nothing at `output`. A source on disk that was exported there
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
        origin = inspect_source(source, options)
        inputs = _inputs(origin, options, output)
    fresh = origin.path is not None and not options.force
    current = up_to_date(output, "model", inputs) if fresh else None
    if current is not None:
        found = ExportedModel(path=output, manifest=current, up_to_date=True)
        announce("export", found, started)
        return found
    with new_directory(output, "model") as work:
        table = _export_into(work, origin, options, steps, _making(source, inputs, options, output))
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

    def tell(self, what: str) -> None:
        """What a failed check is looked into with, which may take longer than the export."""
        self._on_progress(STEPS.index("checking"), len(STEPS), what)


def _cpu_seconds() -> float:
    """CPU time of this process and of the workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _inputs(origin: Origin, options: ExportOptions, output: Path) -> tuple[InputEntry, ...]:
    """What decides the result. A module's code cannot be hashed: its weights stand for it."""
    from edgekit.exporting.onnx import tool_versions

    path = "" if origin.path is None else relative_path(origin.path, output)
    return (
        InputEntry(role="source", digest=origin.digest(), path=path),
        value_input("options", options.deciding()),
        value_input("tools", tool_versions()),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Written:
    """Graphs on disk, with what the original answers. ranges: of the axes of the whole."""

    compared: Sequence[Compared]
    ranges: Mapping[str, Range]
    opset: int

    @property
    def whole(self) -> Compared:
        """What a user runs: the only graph, or the pipeline of all."""
        return self.compared[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Making:
    """Where the model will be, and how to make it again."""

    output: Path
    recipe: Recipe


def _making(source: object, inputs: Sequence[InputEntry], options: ExportOptions, output: Path) -> _Making:
    from edgekit.exporting.onnx import tool_versions

    named = ""
    if isinstance(source, str | Path):
        there = Path(source).exists()
        named = relative_path(Path(source), output) if there else str(source)
    recipe = Recipe(source=named, digest=inputs[0].digest, options=options, versions=tool_versions())
    return _Making(output=output, recipe=recipe)


@rare_collections()
def _export_into(
    work: Path, origin: Origin, options: ExportOptions, steps: _Steps, making: _Making
) -> ModelTable:
    """Fill `work` with all but its manifest."""
    from edgekit.exporting import checks, onnx

    if isinstance(origin, OnnxSource):
        made = _import(work, origin, options, steps)
    else:
        made = _trace(work, origin, options, steps)
    with steps.step("checking"):
        passed = [check for each in made.compared for check in _checked(each, origin, making, steps)]
    whole = made.whole
    with steps.step("writing"):
        write_goldens(work / "golden", checks.goldens(whole.expected))
        write_script(work, making.recipe)
    return ModelTable(
        task=whole.facts.task,
        signature=whole.signature,
        opset=made.opset,
        source=whole.facts.source,
        tolerance=options.tolerance,
        checks=tuple(passed),
        labels=whole.facts.labels,
        tool_versions=onnx.tool_versions(),
        axes=_axes(made),
        parts={each.part: each.signature for each in made.compared if each.part},
    )


def _checked(compared: Compared, origin: Origin, making: _Making, steps: _Steps) -> list[ExportCheck]:
    """Run the graphs on every case. Raises ExportWrong, with evidence kept, where any disagrees."""
    from edgekit.exporting import checks, evidence

    got = compared.outputs()
    try:
        passed = checks.judge(
            compared.facts, compared.expected, got, making.recipe.options.tolerance, compared.part
        )
    except ExportWrong as problem:
        failure = _failure(compared, got, origin, making, steps)
        raise evidence.keep(failure, problem) from None
    return [compared.named(check) for check in passed]


def _axes(made: _Written) -> dict[str, tuple[int, int | None]]:
    """Of each axis that varies, its ends: as the source knows them, else the lowest that was checked.

    Axes that only a part of a pipeline has, such as the tokens behind a decoder, go as far as was checked.
    """
    found: dict[str, tuple[int, int | None]] = {}
    for name, sizes in _checked_sizes(made.whole).items():
        low, high = made.ranges.get(name, (None, None))
        found[name] = (low or min(sizes), high)
    for part in made.compared[:-1]:
        inner = _checked_sizes(part)
        found |= {name: (min(sizes), max(sizes)) for name, sizes in inner.items() if name not in found}
    return found


def _checked_sizes(compared: Compared) -> dict[str, list[int]]:
    """Sizes of each axis that varies, of every case."""
    shapes = [shape_of(item.case.feeds, compared.facts.axes) for item in compared.expected]
    names = dict.fromkeys(name for shape in shapes for name in shape)
    return {name: [shape[name] for shape in shapes] for name in names}


def _failure(
    compared: Compared, got: Sequence[Outputs], origin: Origin, making: _Making, steps: _Steps
) -> Failure:
    """What is known of an export that is wrong."""
    from edgekit.exporting import evidence, onnx
    from edgekit.exporting.static import load_subject
    from edgekit.exporting.written import subjects

    def retrace(torch_origin: TorchOrigin) -> Traced:
        with tempfile.TemporaryDirectory(prefix="edgekit-retrace-") as name:
            loaded = load_subject(torch_origin, making.recipe.options, Path(name) / "processor")
            steps.tell("a check failed: tracing the source again")
            return onnx.traced(subjects(loaded)[compared.part], making.recipe.options.opset)

    return evidence.Failure(
        output=making.output,
        compared=compared,
        got=got,
        tolerance=making.recipe.options.tolerance,
        recipe=making.recipe,
        config=None if origin.path is None else origin.path / "config.json",
        retrace=partial(retrace, origin) if isinstance(origin, TorchOrigin) else None,
        tell=steps.tell,
    )


def _trace(work: Path, origin: Origin, options: ExportOptions, steps: _Steps) -> _Written:
    """Load the source with torch, trace it, and run it on every case."""
    from edgekit.exporting import written
    from edgekit.exporting.loading import give_back
    from edgekit.exporting.static import load_subject
    from edgekit.exporting.subject import Assembly

    if not isinstance(origin, TorchOrigin):
        raise UsageError(f"{origin.label}: is no source that torch loads", hint="please report this")
    with steps.step("loading"):
        loaded = load_subject(origin, options, work / "processor")
    with steps.step("exporting"):
        graphs = written.write_graphs(loaded, work, options.opset)
    with steps.step("running the original"):
        compared = written.original_answers(loaded, graphs, work)
        ranges = loaded.whole.ranges if isinstance(loaded, Assembly) else loaded.ranges
        if origin.path is not None:  # it was loaded here, so nobody else needs it
            for subject in written.subjects(loaded).values():
                give_back(subject.module)
        del loaded
        gc.collect()  # the worker that checks the graph needs the original's memory
    return _Written(compared=compared, ranges=ranges, opset=options.opset)


def _import(work: Path, origin: OnnxSource, options: ExportOptions, steps: _Steps) -> _Written:
    """Read an ONNX file, write it in our form, and run the file itself on every case."""
    from edgekit.exporting import importing, onnx
    from edgekit.exporting.written import WHOLE, Compared

    with steps.step("loading"):
        imported = importing.read_onnx(origin, options, work)
    with steps.step("exporting"):
        model = onnx.save(imported.graph, work, onnx.model_notes(imported.facts))
        signature = onnx.signature(imported.graph)
    with steps.step("running the original"):
        expected = importing.original_answers(origin, imported, signature, options)
    graph = Graph(part=WHOLE, path=model, signature=signature)
    whole = Compared(
        part=WHOLE, graphs=(graph,), signature=signature, facts=imported.facts, expected=expected
    )
    return _Written(
        compared=(whole,),
        ranges=options.axis_ranges,
        opset=max(origin.opset, options.opset),
    )
