"""Judging the artifact against the exported model on labelled rows, by any metric that fits the task."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import UsageError
from edgekit.host.reference import open_reference_model
from edgekit.host.sessions import RemoteSession
from edgekit.measuring.accuracy import JudgedRow, paired_record
from edgekit.measuring.metrics import Metric, check_library, load_metric, metrics_for
from edgekit.measuring.metrics.base import ANY, LABEL, RANKING, VECTOR
from edgekit.stages.answers.asking import Answerer, Asker, answer_kind, both_answer
from edgekit.stages.common import OnProgress
from edgekit.tasks import Column, Mapped, Row, Task, load_task
from edgekit.tasks.base import ANSWER, ANSWERS
from edgekit.tasks.data import read_rows
from edgekit.values import AccuracyRecord

if TYPE_CHECKING:
    from edgekit.stages.answers.observing import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingOptions:
    """How rows are judged. metric: "" for the task's own; include_rows: the report may show the text of
    changed rows; confidence: of each bound; seed: of the resampling that some metrics need."""

    metric: str = ""
    include_rows: bool = False
    confidence: float = 0.99
    seed: int = 0


# --- the metric -----------------------------------------------------------------------------------------


def fitting_metric(name: str, task: Task) -> Metric:
    """The metric called `name`, "" for the task's own.

    Raises UnknownName, UsageError when the task has none of its own, or naming those that fit when it does
    not judge what the task answers, MissingDependency when its library is not installed.
    """
    forms = tuple(answer_kind(task).forms)
    fitting = [word for word in dict.fromkeys((task.metric, *metrics_for(forms))) if word]
    hint = f"these fit: {', '.join([*fitting, 'your own: --metric path/file.py:function'])}"
    if not (name or task.metric):
        raise UsageError(
            f"task {task.name!r} has no metric of its own, so that no row can be judged", hint=hint
        )
    metric = load_metric(name or task.metric)
    if metric.takes not in (*forms, ANY):
        raise UsageError(
            f"metric {name!r} judges answers of kind {metric.takes!r}, which task {task.name!r} has not",
            hint=hint,
        )
    check_library(metric)
    return metric


def needs_truth(task: Task, metric: Metric) -> bool:
    """Whether rows are judged by a right answer in the data.

    Where a task has no label column, and for embeddings, of which no data file tells the right one, the
    exported model's answers are taken as right.
    """
    return metric.takes != VECTOR and _label_column(task) is not None


def read_judging_rows(
    path: Path, task: Task, labels: Sequence[str], mapped: Mapped, metric: str
) -> tuple[Row, ...]:
    """The rows of a data file, with the right answers where the metric needs them.

    Raises DataError, or UsageError for a metric that does not fit.
    """
    return read_rows(path, task=task, labels=labels, mapped=mapped, need_label=needs_labels(task, metric))


def needs_labels(task: Task, metric: str) -> bool:
    """Whether rows that judge by this metric are read with their right answers. Raises UsageError for one
    that does not fit."""
    # read_rows itself says why a task without columns is not judged on rows
    return not task.columns or needs_truth(task, fitting_metric(metric, task))


def _label_column(task: Task) -> Column | None:
    return next((column for column in task.columns if column.label), None)


# --- answers --------------------------------------------------------------------------------------------


def judge_rows(
    subject: Subject,
    session: RemoteSession,
    rows: Sequence[Row],
    how: JudgingOptions,
    on_progress: OnProgress,
) -> AccuracyRecord:
    """Both answer every row alone, unpadded, as a device would be asked.

    Raises UsageError for a metric that does not fit, DataError for rows that it cannot judge.
    """
    table = subject.model_table
    asker = Asker(load_task(table.task), table.labels, subject.model / "processor", table.signature)
    with open_reference_model(subject.model, table) as reference:
        sides = [
            Answerer(asker=asker, session=opened, signature=table.signature)
            for opened in (reference, session)
        ]
        return paired_answers((sides[0], sides[1]), rows, how, on_progress, "judging the test rows")


def paired_answers(
    sides: tuple[Answerer, Answerer],
    rows: Sequence[Row],
    how: JudgingOptions,
    on_progress: OnProgress,
    what: str,
) -> AccuracyRecord:
    """Both sides answer the rows and are compared; the drop is counted from the first."""
    form = AnswerForm(sides[0].asker.task, how.metric)
    found = both_answer(sides, rows, form.of_answer, on_progress, what)
    record = compared(form, (found.first, found.second), rows, how)
    return dataclasses.replace(record, max_logit_distance=found.distance)


def compared(
    form: AnswerForm, answers: tuple[Sequence[Any], Sequence[Any]], rows: Sequence[Row], how: JudgingOptions
) -> AccuracyRecord:
    """Answers of both sides to the same rows, in the metric's form; the drop is counted from the first."""
    first, second = answers
    truths = [form.cased(row.truth) for row in rows] if needs_truth(form.task, form.metric) else first
    judged = [
        JudgedRow(
            number=row.number,
            truth=truth,
            text=_row_text(row) if how.include_rows else "",
            hidden=form.tells_rows and not how.include_rows,
        )
        for row, truth in zip(rows, truths, strict=True)
    ]
    return paired_record(first, second, judged, form.metric, how.confidence, how.seed)


class AnswerForm:
    """Answers and truths of a task as a metric takes them. tells_rows: they are texts of the user's own.

    metric: its name, "" for the task's own. Raises UsageError for one that does not fit.
    """

    def __init__(self, task: Task, metric: str) -> None:
        self.task = task
        self.metric = fitting_metric(metric, task)
        forms = answer_kind(task).forms
        usual = next(iter(forms), None)
        word = usual if self.metric.takes == ANY else self.metric.takes
        self._read = None if word is None else forms[word]
        label = _label_column(task)
        free = label is not None and label.holds in (ANSWER, ANSWERS) and not label.of
        self.tells_rows = free
        self._one_case = free and word in (LABEL, RANKING)

    def of_answer(self, answer: Any) -> Any:
        """An answer of the kind's `read` in the metric's form; as it is where the kind has no form."""
        return self.cased(answer if self._read is None else self._read(answer))

    def cased(self, value: Any) -> Any:
        """A truth, or an answer in its form. A model that knows lower case only cannot answer "Paris":
        words that are typed freely are compared without regard to case, as SQuAD compares texts."""
        if not self._one_case:
            return value
        return value.casefold() if isinstance(value, str) else tuple(word.casefold() for word in value)


def _row_text(row: Row) -> str:
    return " | ".join(
        " ".join(value) if isinstance(value, tuple) else value if isinstance(value, str) else value.name
        for value in row.values.values()
    )
