"""Judging the artifact against the exported model on labelled rows, by any metric that fits the task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.errors import UsageError
from edgekit.host.reference import open_reference
from edgekit.host.sessions import RemoteSession
from edgekit.measuring.accuracy import judged_rows, logit_distance, paired_record
from edgekit.measuring.metrics import Metric, load_metric, metrics_for
from edgekit.measuring.metrics.base import ANY, LABEL, RANKING, ShareRight
from edgekit.stages.common import OnProgress
from edgekit.tasks import Row, Task, load_task
from edgekit.values import AccuracyRecord
from edgekit_runtime.processors import load_processor
from edgekit_runtime.session import Array

if TYPE_CHECKING:
    from edgekit.stages.observing import Subject

_CHUNK = 64
#: What the outputs of a task are turned into for a metric, by the task's way of comparing outputs.
_KINDS: Mapping[str, tuple[str, ...]] = {"classification": (LABEL, RANKING)}
Answer = Callable[[Mapping[str, Array], Sequence[str]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingOptions:
    """How rows are judged. metric: "" for the task's own; include_rows: the report may show the text of
    changed rows; confidence: of each bound; seed: of the resampling that some metrics need."""

    metric: str = ""
    include_rows: bool = False
    confidence: float = 0.99
    seed: int = 0


class _TasksOwn(ShareRight):
    """The metric that the task brings: its own judgement of each row."""

    takes = ANY

    def __init__(self, task: Task, rows: Sequence[Row]) -> None:
        self.task, self.rows = task, rows
        self.name = task.metric

    def right(self, answers: Sequence[Any], truths: Sequence[Any]) -> tuple[bool, ...]:
        return self.task.correct(answers, self.rows)


def fitting_metric(name: str, task: Task, rows: Sequence[Row]) -> Metric:
    """The metric called `name`, "" for the task's own.

    Raises UnknownName, or UsageError naming those that fit when it does not judge what the task answers.
    """
    if name in ("", task.metric):
        return _TasksOwn(task, rows)
    metric = load_metric(name)
    kinds = _KINDS.get(task.agreement, ())
    if metric.takes != ANY and metric.takes not in kinds:
        fitting = dict.fromkeys(word for word in (task.metric, *metrics_for(kinds)) if word)
        raise UsageError(
            f"metric {name!r} judges answers of kind {metric.takes!r}, which task {task.name!r} has not",
            hint=f"these fit: {', '.join(fitting)}, or your own: path/file.py:function",
        )
    return metric


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
    task = load_task(subject.model_table.task)
    metric = fitting_metric(how.metric, task, rows)
    answer = answer_form(task, metric)
    processor = load_processor(subject.model / "processor")
    labels = subject.model_table.labels
    answers: tuple[list[Any], list[Any]] = ([], [])
    distance = 0.0
    with open_reference(subject.model / "model.onnx", subject.model_table.signature) as reference:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            feeds = [task.feeds(processor, [row]) for row in chunk]
            outputs = (reference.run_many(feeds), session.run_many(feeds))
            for side, found in zip(answers, outputs, strict=True):
                side.extend(answer(one, labels) for one in found)
            distance = max(distance, _farthest(*outputs))
            on_progress(start + len(chunk), len(rows), "judging the test rows")
    judged = judged_rows(rows, how.include_rows)
    record = paired_record(*answers, judged, metric, how.confidence, how.seed)
    return dataclasses.replace(record, max_logit_distance=distance)


def answer_form(task: Task, metric: Metric) -> Answer:
    """What turns the outputs of one row into an answer, in the form that the metric takes."""
    if metric.takes == RANKING:
        return _ranking
    return lambda outputs, labels: task.predictions(outputs, labels)[0]


def _ranking(outputs: Mapping[str, Array], labels: Sequence[str]) -> tuple[str, ...]:
    """All labels, the likeliest first."""
    from edgekit_runtime.processors.classification import classify

    scores = classify(outputs, labels)[0].scores
    return tuple(sorted(scores, key=lambda label: -scores[label]))


def _farthest(model: list[dict[str, Array]], artifact: list[dict[str, Array]]) -> float:
    return max(logit_distance(one, other) for one, other in zip(model, artifact, strict=True))
