"""A torch module that serves a built-in task: its processor makes its inputs, the task names its outputs."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgekit.errors import SourceError, UsageError
from edgekit.exporting.choosing import LABELLED
from edgekit.exporting.loading import require
from edgekit.exporting.module import flatten, refuse_unready, takes
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.settings import write_processor
from edgekit.exporting.subject import Case, Facts, Range, Subject
from edgekit.tasks import ExportRecipe, Task, load_task
from edgekit_runtime.processors import Processor, load_processor
from edgekit_runtime.processors.audio import AudioProcessor
from edgekit_runtime.processors.audio_settings import WAVEFORM
from edgekit_runtime.processors.image import ImageProcessor
from edgekit_runtime.processors.text import TextProcessor

if TYPE_CHECKING:
    import torch

    from edgekit_runtime.session import Array

#: Kind of answers -> how many axes its logits have, and which of them holds the classes.
_CLASSES = {
    "classification": (2, 1),
    "multi-label": (2, 1),
    "zero-shot": (2, 1),
    "tags": (3, 2),
    "mask": (4, 1),
}
#: What modules raise for inputs that they do not take.
_MISFITS = (RuntimeError, ValueError, IndexError, KeyError, TypeError, AttributeError, AssertionError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """What a processor's inputs may be: feeds of the trace, cases, axes that vary by name."""

    trace: Mapping[str, Array]
    cases: Sequence[Case]
    axes: Mapping[int, str]
    ranges: Mapping[str, Range]


def load_tasked(module: torch.nn.Module, options: ExportOptions, processor_dir: Path) -> Subject:
    """Check the module, its processor and its labels against the task, and plan what to check.

    Raises UsageError for options that do not fit together, SourceError for a module that is not of the
    task.
    """
    require("onnxscript")
    task = load_task(options.task)
    recipe = _recipe(task)
    _refuse_own_inputs(options)
    refuse_unready(module)
    processor = _processor(options, recipe.processor, processor_dir)
    inputs = processor.input_names
    _refuse_other_signature(module, inputs)
    plan = _plan(processor, task, options.seed)
    call = _caller(module, inputs, recipe.outputs)
    outputs = _run(call, plan.cases[0], type(module).__name__)
    return Subject(
        module=module,
        call=call,
        facts=Facts(
            task=task.name,
            answers=task.answers,
            axes={name: dict(plan.axes) for name in inputs},
            source={"kind": "torch module", "class": type(module).__qualname__},
            labels=_labels(task, options.labels, outputs[recipe.outputs[0]]),
        ),
        trace=plan.trace,
        ranges=plan.ranges,
        outputs=recipe.outputs,
        cases=plan.cases,
    )


def _recipe(task: Task) -> ExportRecipe:
    for recipe in task.exports:
        if not recipe.pipeline:
            return recipe
    raise UsageError(
        f"a torch module cannot be exported as {task.name!r}",
        hint="leave task out to export it as 'custom', with example_inputs",
    )


def _refuse_own_inputs(options: ExportOptions) -> None:
    for name in ("example_inputs", "dynamic_axes", "axis_ranges", "output_names"):
        if getattr(options, name):
            raise UsageError(
                f"{name} cannot be given with task {options.task!r}",
                hint="its processor makes the inputs, and the task names axes and outputs",
            )


# --- its processor ------------------------------------------------------------------------------------


def _processor(options: ExportOptions, kind: str, directory: Path) -> Processor:
    """The processor as it will travel, in `directory`."""
    given = options.processor
    if given is None:
        raise UsageError(
            f"task {options.task!r} needs a processor",
            hint="give processor: the processor/ directory of a model, or ImageSettings or AudioSettings",
        )
    if isinstance(given, str | Path):
        if not Path(given).is_dir():
            raise UsageError(f"{given}: no such processor directory", hint="a model has one: processor/")
        shutil.copytree(given, directory)
    else:
        write_processor(directory, given)
    processor = load_processor(directory)
    if processor.kind != kind:
        raise UsageError(
            f"task {options.task!r} takes {kind}, and the processor reads {processor.kind}",
            hint="give the processor of a model of this task",
        )
    processor.check_parity()
    return processor


class _Planner(Protocol):
    """Feeds at several shapes, made by a processor."""

    def trace(self) -> dict[str, Array]:
        """What is traced."""

    def checks(self) -> Iterator[Case]:
        """What the graph is compared on."""

    def goldens(self) -> Iterator[Case]:
        """What is recorded with the model."""


def _plan(processor: Processor, task: Task, seed: int) -> _Plan:
    """Cases, and the axes that vary: from the smallest size that is checked to the largest that is taken."""
    planner, axes, most = _planner(processor, task, seed)
    cases = [*planner.checks(), *planner.goldens()]
    arrays = [array for case in cases for array in case.feeds.values()]
    ranges = {name: (min(array.shape[at] for array in arrays), most.get(name)) for at, name in axes.items()}
    return _Plan(trace=planner.trace(), cases=cases, axes=axes, ranges=ranges)


def _planner(processor: Processor, task: Task, seed: int) -> tuple[_Planner, dict[int, str], dict[str, int]]:
    """Who plans, the axes that vary, and how far they go where that is known."""
    if isinstance(processor, TextProcessor):
        from edgekit.exporting.asking import Asking
        from edgekit.exporting.text import TextCases

        texts = TextCases(processor=processor, asking=Asking(task=task))
        return texts, {0: "batch", 1: "sequence"}, {"sequence": processor.settings.max_length}
    if isinstance(processor, ImageProcessor):
        from edgekit.exporting.image import ImageCases

        varying = {} if processor.settings.fixed_size else {2: "height", 3: "width"}
        return ImageCases(processor, seed), {0: "batch", **varying}, {}
    if isinstance(processor, AudioProcessor):
        from edgekit.exporting.audio import SpectrogramCases, WaveformCases

        if processor.settings.features != WAVEFORM:
            return SpectrogramCases(processor, seed), {0: "batch"}, {}
        longest = {"samples": processor.settings.longest}
        return WaveformCases(processor, seed), {0: "batch", 1: "samples"}, longest
    raise UsageError(
        f"a torch module cannot be exported with a processor of kind {processor.kind!r}",
        hint="leave task out to export it as 'custom'",
    )


# --- the module ---------------------------------------------------------------------------------------


def _refuse_other_signature(module: torch.nn.Module, inputs: Sequence[str]) -> None:
    """The processor's inputs must be what forward needs, by name, or in order when it knows none of them."""
    signature = inspect.signature(module.forward)
    try:
        if takes(module, tuple(inputs)):
            signature.bind(**dict.fromkeys(inputs))
        else:
            signature.bind(*inputs)
    except TypeError as problem:
        raise UsageError(
            f"the processor makes {', '.join(inputs)}, and the module's forward takes"
            f" ({', '.join(signature.parameters)}): {problem}",
            hint="wrap the module in one whose forward takes the processor's inputs",
        ) from None


def _caller(
    module: torch.nn.Module, inputs: Sequence[str], outputs: Sequence[str]
) -> Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]:
    named = takes(module, tuple(inputs))

    def call(feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if named:
            found = flatten(module(**{name: feeds[name] for name in inputs}))
        else:
            found = flatten(module(*(feeds[name] for name in inputs)))
        if set(outputs) <= set(found):
            return {name: found[name] for name in outputs}
        if len(found) != len(outputs):
            raise SourceError(
                f"the task takes the outputs {', '.join(outputs)}, and the module gives {', '.join(found)}",
                hint="wrap it in a module whose forward returns these alone, in this order",
            )
        return dict(zip(outputs, found.values(), strict=True))

    return call


def _run(
    call: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]], case: Case, name: str
) -> dict[str, torch.Tensor]:
    """Its outputs for the first case, before anything is traced."""
    import torch

    try:
        with torch.inference_mode():
            return call({key: torch.from_numpy(array) for key, array in case.feeds.items()})
    except _MISFITS as problem:
        shown = ", ".join(f"{key} {list(array.shape)}" for key, array in case.feeds.items())
        reason = " ".join(str(problem).split())[:300]
        raise SourceError(
            f"the {name} does not take what its processor makes ({shown}): {reason}",
            hint="do the processor's size and inputs belong to this module?",
        ) from problem


def _labels(task: Task, given: Sequence[str], logits: torch.Tensor) -> tuple[str, ...]:
    """Labels in class order, as many as the module has classes; LABEL_0 and on where none are given."""
    if task.answers not in LABELLED:
        if given:
            raise UsageError(f"task {task.name!r} has no labels", hint="leave labels out")
        return ()
    if task.answers not in _CLASSES:  # boxes: some models count "nothing" as a class, some do not
        return tuple(given)
    axes, place = _CLASSES[task.answers]
    if logits.ndim != axes:
        raise SourceError(
            f"task {task.name!r} takes logits with {axes} axes, and the module gives {list(logits.shape)}",
            hint="wrap it in a module whose forward returns the logits of its classes",
        )
    classes = int(logits.shape[place])
    if given and len(given) != classes:
        raise UsageError(
            f"there are {len(given)} labels, and the module has {classes} classes",
            hint="give one label for each class, in their order",
        )
    return tuple(given) or tuple(f"LABEL_{index}" for index in range(classes))
