"""Rows put to a model as a device would put them: each run alone and unpadded. And their answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from edgekit.errors import DataError, PluginBroken
from edgekit.measuring.accuracy import logit_distance
from edgekit.measuring.inputs import sizes_of
from edgekit.stages.common import OnProgress
from edgekit.tasks import Row, Task
from edgekit_runtime.answers import KINDS, AnswerKind, Asked, Entry
from edgekit_runtime.errors import InputError, RunFailed
from edgekit_runtime.processors import load_processor
from edgekit_runtime.processors.base import Prepared
from edgekit_runtime.processors.base import Row as ModelRow
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.signatures import fixed_sizes
from edgekit_runtime.values import Signature

#: Rows between two words of progress, and bytes of inputs and outputs that are held at once.
_CHUNK, _CHUNK_BYTES = 64, 128 << 20
Outputs = dict[str, Array]
T = TypeVar("T")
#: A row with its runs.
_Question = tuple[Row, tuple[Prepared, ...]]


class Answering(Protocol):
    """What runs feeds: a session of either side."""

    def run_many(self, rows: Sequence[Feeds]) -> list[Outputs]:
        """The outputs of each."""


def answer_kind(task: Task) -> AnswerKind:
    """How the task's outputs are read. Raises PluginBroken for a word that means nothing."""
    if task.answers not in KINDS:
        raise PluginBroken(
            f"task {task.name!r}: it answers {task.answers!r}, which is none of {', '.join(KINDS)}",
            hint="report this to its author",
        )
    return KINDS[task.answers]


class Asker:
    """A model's processor and labels, with the task that it is for."""

    def __init__(
        self, task: Task, labels: tuple[str, ...], processor: Path, signature: Signature | None = None
    ) -> None:
        self.task = task
        self.kind = answer_kind(task)
        self.labels = labels
        self._processor = load_processor(processor)
        # A model of one shape gets every row at its length; nothing else is padded.
        self._length = None if signature is None else fixed_sizes(signature)[1]

    def entries(self, row: Row) -> tuple[ModelRow, ...]:
        """What the processor gets of a row: one entry, or several. Raises DataError when there are none."""
        found = tuple(self.task.inputs(row))
        if not found:
            raise DataError(
                f"row {row.number}: task {self.task.name!r} makes no input of it",
                hint="give the row what the task needs",
            )
        return found

    def prepared(self, row: Row, entry: ModelRow) -> Prepared:
        """One run of one entry. Raises DataError naming the row that is no input."""
        return _of_row(row, partial(self._processor.prepare, [entry], pad_to=self._length))

    def runs(self, row: Row) -> tuple[Prepared, ...]:
        """A run for each entry of the row."""
        return tuple(self.prepared(row, entry) for entry in self.entries(row))

    def answer(
        self,
        row: Row,
        runs: Sequence[Prepared],
        outputs: Sequence[Outputs],
        form: Callable[[Any], Any],
    ) -> Any:
        """The answer to a row, read from the outputs of its runs, in a form."""
        entries = tuple(
            Entry(outputs=found, context=run.contexts[0]) for run, found in zip(runs, outputs, strict=True)
        )
        asked = Asked(entries=entries, labels=self.labels, decode=self._processor.decode)
        return _of_row(row, lambda: form(self.kind.read(asked)))


def _of_row(row: Row, work: Callable[[], T]) -> T:
    """`work`, with the row's number in what it raises."""
    try:
        return work()
    except InputError as problem:
        raise DataError(_told(row, problem.message), hint=problem.hint) from problem
    except RunFailed as problem:
        raise RunFailed(_told(row, problem.message), hint=problem.hint) from problem


def _told(row: Row, message: str) -> str:
    """Processors count the rows of a batch from 0, and here every batch is one row."""
    rest = message.removeprefix("row 0")
    return f"row {row.number}: {message}" if rest == message else f"row {row.number}{rest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerer:
    """One of two sides: who asks, and what runs. signature: of the model that is run."""

    asker: Asker
    session: Answering
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class BothAnswers:
    """The answers of either side, row by row. distance: the largest between outputs of one run."""

    first: tuple[Any, ...]
    second: tuple[Any, ...]
    distance: float


def both_answer(
    sides: tuple[Answerer, Answerer],
    rows: Sequence[Row],
    form: Callable[[Any], Any],
    on_progress: OnProgress,
    what: str,
) -> BothAnswers:
    """Put every row to both sides. form: an answer of the kind's `read` -> what is kept of it.

    Raises DataError for a row that is no input of the model.
    """
    first, second = sides
    answers: tuple[list[Any], list[Any]] = ([], [])
    distance = 0.0
    for chunk in _chunks(first, rows):
        again = chunk if second.asker is first.asker else _questions(second, [row for row, _ in chunk])
        outputs = []
        for side, questions, found in zip(sides, (chunk, again), answers, strict=True):
            outputs.append(side.session.run_many([run.feeds for _, runs in questions for run in runs]))
            given = iter(outputs[-1])
            found += [
                side.asker.answer(row, runs, [next(given) for _ in runs], form) for row, runs in questions
            ]
        distance = max(distance, *(logit_distance(*pair) for pair in zip(*outputs, strict=True)))
        on_progress(len(answers[0]), len(rows), what)
    return BothAnswers(first=tuple(answers[0]), second=tuple(answers[1]), distance=distance)


def _questions(side: Answerer, rows: Sequence[Row]) -> list[_Question]:
    return [(row, side.asker.runs(row)) for row in rows]


def _chunks(side: Answerer, rows: Sequence[Row]) -> Iterator[list[_Question]]:
    """Rows with their runs, as many as may be held at once."""
    chunk: list[_Question] = []
    size = 0
    for row in rows:
        chunk += _questions(side, [row])
        size += sum(_bytes(side.signature, run.feeds) for run in chunk[-1][1])
        if len(chunk) == _CHUNK or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _bytes(signature: Signature, feeds: Feeds) -> int:
    """About how much a run holds: its inputs, and its outputs of 4 bytes a value. An axis that no input
    has is taken to be as long as the longest that one has."""
    sizes = sizes_of(signature, feeds)
    longest = max(sizes.values(), default=1)
    given = sum(value.nbytes for value in feeds.values())
    return given + sum(
        4 * math.prod(sizes.get(axis, longest) if isinstance(axis, str) else axis for axis in spec.shape)
        for spec in signature.outputs
    )
