"""What a kind of answers is: how outputs are read, and on which of their numbers the answer hangs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from edgekit_runtime.errors import RunFailed
from edgekit_runtime.processors.base import Context
from edgekit_runtime.session import Array

#: The forms in which metrics take answers. A kind gives its answers in some of them.
LABEL, RANKING, LABELS, TAGS, TEXT = "label", "ranking", "labels", "tags", "text"
BOXES, MASK, VECTOR, NUMBER = "boxes", "mask", "vector", "number"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """One run: outputs with a batch of one, and the context of what was run."""

    outputs: Mapping[str, Array]
    context: Context


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """All that one row was asked by: nearly always one entry; labels: the model's, in class order.

    decode: ids of the model's vocabulary to text, None when the processor has no vocabulary.
    """

    entries: tuple[Entry, ...]
    labels: tuple[str, ...] = ()
    decode: Callable[[Sequence[int]], str] | None = None

    @property
    def only(self) -> Entry:
        """The entry, when there is just one. Raises `RunFailed`."""
        if len(self.entries) != 1:
            raise RunFailed(f"a row of this kind is asked by one run, not by {len(self.entries)}")
        return self.entries[0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """Choices that a model makes. scores: float [..., classes], the highest wins; counts: bool [...],
    which of them reach the answer (padding does not)."""

    scores: Array
    counts: Array


@runtime_checkable
class AnswerKind(Protocol):
    """How the outputs of some tasks are read. Stateless."""

    @property
    def name(self) -> str:
        """The word in manifests."""

    @property
    def every(self) -> bool:
        """Whether one differing choice is a differing answer; False where there are many small ones."""

    @property
    def forms(self) -> Mapping[str, Callable[[Any], Any]]:
        """Form that metrics take -> function from an answer of `read` to it. The first is the usual one."""

    def read(self, asked: Asked) -> Any:
        """The answer to one row. Raises `RunFailed` for outputs that are not of this kind."""

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """The choices in a batch of outputs; () where only numbers count."""

    def json(self, answer: Any) -> object:
        """The answer as JSON keeps it."""

    def text(self, answer: Any) -> str:
        """The answer on one line, for people; tab-separated columns."""
