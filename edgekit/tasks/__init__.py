"""What models are for (README.md). `load_task("text-classification")` gives the object that knows.

Built-in tasks are listed below; plugins add theirs through the hook `edgekit_tasks`.
"""

from __future__ import annotations

from edgekit.discovery import PASSES_WALLS, plugin_tasks, resolve
from edgekit.errors import PluginBroken, PluginConflict, UnknownName
from edgekit.files.tables import nearest
from edgekit.hooktypes import TaskSpec
from edgekit.tasks.base import INPUTS, TRUTHS, Column, ExportRecipe, Mapped, Row, Task, recipe_for

#: name -> class and what the task is for.
_BUILT_IN = {
    "text-classification": ("TextClassification", "one label for a text or a pair of texts"),
    "multi-label-classification": ("MultiLabelClassification", "every label that holds for a text"),
    "zero-shot-classification": (
        "ZeroShotClassification",
        "one of any labels for a text, by a model of inference",
    ),
    "regression": ("Regression", "a number for a text or a pair of texts"),
    "token-classification": ("TokenClassification", "a tag for each word of a text"),
    "question-answering": ("QuestionAnswering", "the part of a context that answers a question"),
    "fill-mask": ("FillMask", "the word that a mask in a text stands for"),
    "text2text-generation": (
        "Text2TextGeneration",
        "a text for a text: translation, summary, correction",
    ),
    "sentence-embedding": ("SentenceEmbedding", "one vector for a text"),
    "feature-extraction": ("FeatureExtraction", "the hidden states of a text model"),
    "image-classification": ("ImageClassification", "one label for an image"),
    "object-detection": ("ObjectDetection", "boxes with labels in an image"),
    "semantic-segmentation": ("SemanticSegmentation", "a class for each pixel of an image"),
    "image-embedding": ("ImageEmbedding", "one vector for an image"),
    "audio-classification": ("AudioClassification", "one label for a recording"),
    "speech-recognition": ("SpeechRecognition", "what is said in a recording"),
    "custom": ("Custom", "your own module: outputs are compared as numbers"),
}
BUILT_IN = tuple(
    TaskSpec(name=name, factory=f"edgekit.tasks.{name.replace('-', '_')}:{kind}", summary=summary)
    for name, (kind, summary) in _BUILT_IN.items()
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
    problem = _column_problem(task)
    if problem:
        raise PluginBroken(f"task {name!r}: {problem}", hint="report this to its author")
    return task


def _column_problem(task: Task) -> str:
    if not all(isinstance(column, Column) for column in task.columns):
        return "its columns are no Columns"
    for column in task.columns:
        words = TRUTHS if column.label else INPUTS
        if column.holds not in words:
            return f"its column {column.name!r} holds {column.holds!r}, which is none of {', '.join(words)}"
    labels = [column.name for column in task.columns if column.label]
    return f"it has {len(labels)} label columns, and a row has one truth" if len(labels) > 1 else ""


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
    "recipe_for",
    "task_names",
    "task_specs",
]
