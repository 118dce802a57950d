"""What a metric is, and what all of them share."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit_runtime.answers.base import BOXES, LABEL, LABELS, MASK, NUMBER, RANKING, TAGS, TEXT, VECTOR
from edgekit_runtime.errors import MissingDependency

Numbers = NDArray[np.float64]
#: What one answer is: a form of `edgekit_runtime.answers`, or one of these. A metric judges the answers of
#: every task that gives its form.
LIKELIHOODS, ANY = "likelihoods", "anything"


@runtime_checkable
class Metric(Protocol):
    """A figure over all rows. answers[i] and truths[i] belong to row i."""

    @property
    def name(self) -> str:
        """The word users type: "macro-f1"."""

    @property
    def higher_is_better(self) -> bool:
        """Its direction."""

    @property
    def takes(self) -> str:
        """What one answer is: a form, LIKELIHOODS or ANY."""

    def score(self, answers: Sequence[Any], truths: Sequence[Any]) -> float:
        """The figure. Raises DataError for rows that it cannot judge."""

    def right(self, answers: Sequence[Any], truths: Sequence[Any]) -> tuple[bool, ...] | None:
        """Which rows are right, when the metric is the share of these; else None."""


class ShareRight(ABC):
    """A metric that is the share of right rows: its drop gets the exact test."""

    higher_is_better = True
    name: str
    takes: str

    @abstractmethod
    def right(self, answers: Sequence[Any], truths: Sequence[Any]) -> tuple[bool, ...]:
        """Which rows are right."""

    def score(self, answers: Sequence[Any], truths: Sequence[Any]) -> float:
        """The share of right rows, in [0, 1]."""
        return float(np.mean(self.right(answers, truths)))


class Summed(ABC):
    """A metric that is a function of sums over rows, so that resampling rows costs one product."""

    higher_is_better = True
    name: str
    takes: str

    @abstractmethod
    def parts(self, answers: Sequence[Any], truths: Sequence[Any]) -> Numbers:
        """What each row adds: [rows, sums]. The rows of both sides must give the same columns."""

    @abstractmethod
    def of_sums(self, sums: Numbers) -> Numbers:
        """The metric of each sample: [samples, sums] -> [samples]."""

    def score(self, answers: Sequence[Any], truths: Sequence[Any]) -> float:
        """The metric over all rows."""
        return float(self.of_sums(self.parts(answers, truths).sum(axis=0, keepdims=True))[0])

    def right(self, answers: Sequence[Any], truths: Sequence[Any]) -> None:  # noqa: B027 the same for all
        """A row is neither right nor wrong."""


@runtime_checkable
class PerRow(Protocol):
    """A metric whose costly part is done once for each row, before rows are resampled."""

    def units(self, answers: Sequence[Any], truths: Sequence[Any]) -> Sequence[Any]:
        """What each row comes to."""

    def of_units(self, units: Sequence[Any]) -> float:
        """The metric of the rows chosen."""


def ratio(above: Numbers, below: Numbers) -> Numbers:
    """above / below, 0 where below is 0."""
    found: Numbers = np.divide(above, below, out=np.zeros_like(above, np.float64), where=below != 0)
    return found


def check_rows(name: str, answers: Sequence[Any], truths: Sequence[Any]) -> None:
    """Raise DataError unless there is one answer to each of at least one truth."""
    if not len(truths):
        raise DataError(f"{name}: there are no rows to judge", hint="give at least one labelled row")
    if len(answers) != len(truths):
        raise DataError(
            f"{name}: {len(answers)} answers for {len(truths)} rows", hint="give one answer to each row"
        )


def refuse(name: str, row: int, what: str, hint: str) -> DataError:
    """A DataError that names the row, counted from 1."""
    return DataError(f"{name}: row {row + 1}: {what}", hint=hint)


def texts(name: str, values: Sequence[Any]) -> list[str]:
    """The values, all of them strings."""
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise refuse(name, row, f"{type(value).__name__} {value!r} is not text", "give a string")
    return list(values)


def library(module: str, distribution: str, metric: str) -> ModuleType:
    """Import what a metric needs. Raises MissingDependency with the way to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        raise missing_library(metric, distribution, str(problem)) from None


def missing_library(metric: str, distribution: str, reason: str) -> MissingDependency:
    """What says that a metric's library cannot be had, and how to install it."""
    return MissingDependency(
        f"metric {metric!r} needs {distribution}, which cannot be imported: {reason}",
        hint="pip install 'edgekit[metrics]'",
    )


__all__ = [
    "ANY",
    "BOXES",
    "LABEL",
    "LABELS",
    "LIKELIHOODS",
    "MASK",
    "NUMBER",
    "RANKING",
    "TAGS",
    "TEXT",
    "VECTOR",
    "Metric",
    "Numbers",
    "PerRow",
    "ShareRight",
    "Summed",
    "check_rows",
    "library",
    "missing_library",
    "ratio",
    "refuse",
    "texts",
]
