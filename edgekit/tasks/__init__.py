"""What models are for. `load_task("text-classification")` gives the object that knows.

Built-in tasks are listed below; plugins add theirs through the hook `edgekit_tasks`.
"""

from __future__ import annotations

from edgekit.discovery import PASSES_WALLS, plugin_tasks, resolve
from edgekit.errors import PluginBroken, PluginConflict, UnknownName
from edgekit.files.tables import nearest
from edgekit.hooktypes import TaskSpec
from edgekit.tasks.base import Column, ExportRecipe, Mapped, Row, Task

BUILT_IN = (
    TaskSpec(
        name="text-classification",
        factory="edgekit.tasks.text_classification:TextClassification",
        summary="one label for a text or a pair of texts",
    ),
    TaskSpec(
        name="sentence-embedding",
        factory="edgekit.tasks.sentence_embedding:SentenceEmbedding",
        summary="one vector for a text, from a sentence-transformers folder",
    ),
    TaskSpec(
        name="custom",
        factory="edgekit.tasks.custom:Custom",
        summary="your own module: outputs are compared as numbers",
    ),
)


def task_specs() -> tuple[TaskSpec, ...]:
    """Every known task, built-in ones first. Raises PluginConflict when two share a name."""
    found: dict[str, TaskSpec] = {}
    for spec in (*BUILT_IN, *plugin_tasks()):
        if spec.name in found:
            raise PluginConflict(
                f"task {spec.name!r} is provided by {found[spec.name].factory} and {spec.factory}",
                hint="uninstall one of the plugins",
            )
        found[spec.name] = spec
    return tuple(found.values())


def task_names() -> tuple[str, ...]:
    """Names of every known task."""
    return tuple(spec.name for spec in task_specs())


def load_task(name: str) -> Task:
    """The task called `name`. Raises UnknownName, or PluginBroken for a factory that is no task."""
    specs = {spec.name: spec for spec in task_specs()}
    if name not in specs:
        raise UnknownName(f"unknown task {name!r}", hint=f"{nearest(name, specs)} Known: {', '.join(specs)}")
    spec = specs[name]
    task = _make(spec)
    if not isinstance(task, Task) or task.name != name:
        raise PluginBroken(
            f"task {name!r}: {spec.factory} does not make a task of that name",
            hint="report this to its author",
        )
    return task


def _make(spec: TaskSpec) -> object:
    factory = resolve(spec.factory)
    try:
        return factory() if callable(factory) else None
    except PASSES_WALLS:
        raise
    except BaseException as problem:  # the call wall
        raise PluginBroken(
            f"task {spec.name!r}: {spec.factory}() raised {type(problem).__name__}: {problem}",
            hint="report this to its author",
        ) from problem


__all__ = [
    "BUILT_IN",
    "Column",
    "ExportRecipe",
    "Mapped",
    "Row",
    "Task",
    "load_task",
    "task_names",
    "task_specs",
]
