"""Which task a transformers model is for, by the class and the config it names. Without torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from edgekit.errors import SourceError
from edgekit.exporting.options import AUTO
from edgekit.tasks import Task, load_task, recipe_for, task_names

#: Kinds of answers that are told in the model's own labels. Of the others, labels in a config mean nothing.
LABELLED = ("classification", "multi-label", "zero-shot", "tags", "boxes", "mask")
AS_MODULE = "Any torch module exports as 'custom': edgekit.export(module, ...) in Python"
#: This task also comes from folders of another kind.
_SENTENCES, _ITS_FOLDERS = "sentence-embedding", ", or a sentence-transformers folder (modules.json)"
_GENERATING = ("ForCausalLM", "LMHeadModel", "DoubleHeadsModel")


def choose_task(where: Path, architecture: str, config: Mapping[str, object], asked: str) -> Task:
    """The task asked for if the model is of it, or the only one it is of.

    where: the config's path, for messages. Raises SourceError saying why none fits, or which do.
    """
    known = _known()
    if asked != AUTO:
        return _forced(where, architecture, config, asked, known)
    fitting = _fitting(where, architecture, config, known)
    if len(fitting) > 1:
        raise SourceError(
            f"{where}: {architecture} fits several tasks", hint=f"give --task: {', '.join(fitting)}"
        )
    return known[fitting[0]]


def nearest_task(architecture: str) -> str:
    """The task whose class names look most like this one, in words; "" for a class that names no head."""
    return _nearest(architecture, _known()) if "For" in architecture else ""


def _known() -> dict[str, Task]:
    """Tasks of transformers folders."""
    tasks = {name: load_task(name) for name in task_names()}
    return {name: task for name, task in tasks.items() if _endings(task)}


def _endings(task: Task) -> tuple[str, ...]:
    """Endings of the class names that may mean this task."""
    return tuple(ending for recipe in task.exports for ending in recipe.architectures)


def _misfit(task: Task, architecture: str, config: Mapping[str, object]) -> str:
    """Why a model of this class and config is not of the task, "" when it is."""
    recipe = recipe_for(task, architecture)
    return "" if recipe is None else recipe.misfit(config)


def _inferred(task: Task, architecture: str) -> bool:
    recipe = recipe_for(task, architecture)
    return recipe is not None and recipe.inferred


def _fitting(
    where: Path, architecture: str, config: Mapping[str, object], known: Mapping[str, Task]
) -> list[str]:
    """Names of the tasks that the model is of, without being asked. Raises SourceError when there is none."""
    gap = _gap(architecture)
    named = [] if gap else _by_class(architecture, known)
    misfits = {
        name: _misfit(known[name], architecture, config)
        for name in named
        if _inferred(known[name], architecture)
    }
    fitting = [name for name, why in misfits.items() if not why]
    if fitting:
        return fitting
    if misfits:
        reasons = "; ".join(f"not {name}: {why}" for name, why in misfits.items())
        raise SourceError(
            f"{where}: {architecture} serves no task of this edgekit: {reasons}", hint=AS_MODULE
        )
    raise SourceError(
        f"{where}: {architecture} serves no task that this edgekit exports{gap}",
        hint=f"nearest: {_nearest(architecture, known)}. Supported tasks: {', '.join(known)}. {AS_MODULE}",
    )


def _by_class(architecture: str, known: Mapping[str, Task]) -> list[str]:
    """The tasks whose ending of class names says most: "CLIPModel" says more than "Model"."""
    lengths = {
        name: max((len(end) for end in _endings(task) if architecture.endswith(end)), default=0)
        for name, task in known.items()
    }
    longest = max(lengths.values(), default=0)
    return [name for name, length in lengths.items() if length == longest > 0]


def _forced(
    where: Path, architecture: str, config: Mapping[str, object], name: str, known: Mapping[str, Task]
) -> Task:
    task = load_task(name)
    if name not in known:
        raise SourceError(
            f"a transformers folder cannot be exported as {name!r}",
            hint=f"tasks of folders: {', '.join(known)}. {AS_MODULE}",
        )
    gap = _gap(architecture)
    if gap or recipe_for(task, architecture) is None:
        others = _ITS_FOLDERS if name == _SENTENCES else ""
        raise SourceError(
            f"{where}: a {architecture} has no head for the task {name!r}{gap}",
            hint=f"that takes a class that ends in {' or '.join(_endings(task))}{others}",
        )
    why = _misfit(task, architecture, config)
    if why:
        fitting = [
            other
            for other in _by_class(architecture, known)
            if not _misfit(known[other], architecture, config)
        ]
        raise SourceError(
            f"{where}: this {architecture} is not of the task {name!r}: {why}",
            hint=f"it is of: {', '.join(fitting)}" if fitting else AS_MODULE,
        )
    return task


def _gap(architecture: str) -> str:
    """Why models of this class are not exported yet, for the end of a sentence; "" where nothing is known."""
    if architecture.endswith(_GENERATING) and not architecture.endswith("WithLMHeadModel"):
        return ": text-generation is not exported yet"
    return ""


def _nearest(architecture: str, known: Mapping[str, Task]) -> str:
    """The task whose class names look most like this one."""
    _, separator, head = architecture.rpartition("For")
    endings = {ending: name for name, task in known.items() for ending in _endings(task)}
    close = difflib.get_close_matches(separator + head, endings, n=1, cutoff=0.0)
    return f"{endings[close[0]]} (classes that end in {close[0]})" if close else "none"
