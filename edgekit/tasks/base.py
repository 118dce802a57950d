"""What a task is: which columns a row has, what the processor gets of them, and how answers are read.

A new task is one class with these members and one `TaskSpec`, in `edgekit.tasks.BUILT_IN` or in a
plugin's hook `edgekit_tasks`. Nothing here imports numpy, so that listing tasks stays cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from edgekit_runtime.processors.base import Row as ModelRow

#: What a cell of an input column is.
TEXT, WORDS, IMAGE, AUDIO = "text", "words", "image", "audio"
#: What a cell of a label column is: one of the model's labels, several of them, one for each word,
#: a number, a text, one text or several that are right, boxes, or the path of a mask.
LABEL, LABELS, TAGS, NUMBER, ANSWER, ANSWERS, BOXES, MASK = (
    "label",
    "labels",
    "tags",
    "number",
    "answer",
    "answers",
    "boxes",
    "mask",
)

INPUTS = (TEXT, WORDS, IMAGE, AUDIO)
TRUTHS = (LABEL, LABELS, TAGS, NUMBER, ANSWER, ANSWERS, BOXES, MASK)

#: An input cell as rows keep it: a text, words, or the path of a media file.
Value = str | tuple[str, ...] | Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column that the task reads from data files. holds: a word above; label: the right answer.

    of: the input column that a right answer is about: tags are one for each of its words, an answer is
    one of its words, a mask is as large as its image. "" leaves that unchecked.
    """

    name: str
    help: str
    holds: str = TEXT
    required: bool = True
    label: bool = False
    of: str = ""


LABEL_COLUMN = Column(
    name="label",
    help="the right label, in the model's words or by its number",
    holds=LABEL,
    label=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a data file, its columns under the task's names.

    number: position in the file, from 1; truth: the right answer in the form that metrics take it,
    None for rows that were read without; digest: over the input columns only (of media over the
    file's content), so that a row is recognised again whatever its label or the file's names.
    """

    number: int
    values: Mapping[str, Value]
    digest: str
    truth: Any = None

    def text(self, column: str) -> str:
        """The text in a column that must hold one."""
        return str(self.values[column])

    def words(self, column: str) -> tuple[str, ...]:
        """The words in a column that must hold some."""
        found = self.values[column]
        return found if isinstance(found, tuple) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRecipe:
    """How a transformers model of this task is loaded and what its graph gives. Words only.

    architectures: endings of the class names in config.json that may mean this task; misfit: why a
    config of these is not of this task, "" when it is; inferred: False when it must be asked for by
    --task; auto_class: the transformers class that loads them; outputs: names of the graph's outputs,
    in order; module: "module:function" that makes what is traced of the loaded model, "" for the
    model itself, whose fields of those names are the outputs; processor: kind of the processor;
    pipeline: "encoder-decoder" for a model that generates its answer: it becomes several graphs, and
    the outputs are those of the whole, ("tokens", "scores").
    """

    architectures: tuple[str, ...]
    auto_class: str
    outputs: tuple[str, ...]
    misfit: Callable[[Mapping[str, object]], str] = lambda config: ""
    inferred: bool = True
    module: str = ""
    processor: str = "text"
    pipeline: str = ""


@runtime_checkable
class Task(Protocol):
    """What a model is for. Tasks are stateless; one instance serves every model."""

    @property
    def name(self) -> str:
        """The word users type: "text-classification"."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of a data file; () when the task cannot be judged on files."""

    @property
    def answers(self) -> str:
        """How outputs are read and compared: a word of `edgekit_runtime.answers.KINDS`."""

    @property
    def metric(self) -> str:
        """Name of the metric that judges it, as --metric takes it; "" when there is none."""

    @property
    def exports(self) -> tuple[ExportRecipe, ...]:
        """How transformers folders of this task are exported, by kind of model; () when only modules are."""

    def inputs(self, row: Row) -> tuple[ModelRow, ...]:
        """What the processor gets: nearly always one row, or several that are run one by one."""


def recipe_for(task: Task, architecture: str) -> ExportRecipe | None:
    """The recipe whose ending of class names says most of `architecture`, else None."""
    best: tuple[int, ExportRecipe | None] = (0, None)
    for recipe in task.exports:
        length = max((len(end) for end in recipe.architectures if architecture.endswith(end)), default=0)
        if length > best[0]:
            best = (length, recipe)
    return best[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """How a user's file maps to the task's words: `--columns text=review`, `--labels 0=neg`.

    columns: task column -> column of the file; labels: value in the file -> label of the model.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
