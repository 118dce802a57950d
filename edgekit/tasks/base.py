"""What a task is: how rows become feeds, outputs become predictions, and predictions are judged.

A new task is one class with these members and one `TaskSpec`, in `edgekit.tasks.BUILT_IN` or in a
plugin's hook `edgekit_tasks`. Nothing here imports numpy, so that listing tasks stays cheap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from edgekit_runtime.processors.base import Processor
    from edgekit_runtime.session import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column that the task reads from data files. label: it holds the right answer."""

    name: str
    help: str
    required: bool = True
    label: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a data file, its columns under the task's names.

    number: position in the file, from 1; label: the right answer in the model's words, None for
    rows that were read without; digest: over the input columns only, so that a row is recognised
    again whatever its label or the file's column names.
    """

    number: int
    values: Mapping[str, str]
    digest: str
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRecipe:
    """How a transformers model of this task is loaded and what its graph gives. Words only.

    architectures: endings of the class names in config.json that mean this task; auto_class: the
    transformers class that loads them; outputs: fields of the model's output, in graph order;
    processor: kind of the processor that travels with the model.
    """

    architectures: tuple[str, ...]
    auto_class: str
    outputs: tuple[str, ...]
    processor: str = "text"


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
    def agreement(self) -> str:
        """How outputs are compared with a reference: "classification" (same top-1) or "tensor"."""

    @property
    def metric(self) -> str:
        """Name of the metric, a share in [0, 1]; "" when there is none."""

    @property
    def export(self) -> ExportRecipe | None:
        """How a transformers folder of this task is exported; None when only modules are."""

    def feeds(
        self, processor: Processor, rows: Sequence[Row], *, pad_to: int | None = None
    ) -> dict[str, Array]:
        """One batch of feeds; every row padded to the longest, or to `pad_to`."""

    def predictions(self, outputs: Mapping[str, Array], labels: Sequence[str]) -> tuple[str, ...]:
        """One answer per row, in the words that `Row.label` uses."""

    def correct(self, predictions: Sequence[str], rows: Sequence[Row]) -> tuple[bool, ...]:
        """Which predictions are right. The metric is the share of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """How a user's file maps to the task's words: `--columns text=review`, `--labels 0=neg`.

    columns: task column -> column of the file; labels: value in the file -> label of the model.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
