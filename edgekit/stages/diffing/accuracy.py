"""Are the answers worse? Both answer the same rows here, or two reports on the same rows are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.discovery import load_backend
from edgekit.errors import UsageError
from edgekit.host.sessions import RemoteSession
from edgekit.measuring.accuracy import drop_bounds, overlapping
from edgekit.stages.answers.asking import Answerer, Asker
from edgekit.stages.answers.generated import count_generated
from edgekit.stages.answers.judging import JudgingOptions, paired_answers, read_judging_rows
from edgekit.stages.common import OnProgress
from edgekit.stages.diffing.scene import Scene
from edgekit.stages.diffing.sides import Runnable, Side, StoredReport
from edgekit.tasks import Mapped, Row, load_task
from edgekit.values import AccuracyRecord, Change, DiffFigure, DiffMethod, GeneratedRecord, Interval
from edgekit_runtime.session import Array
from edgekit_runtime.values import Placement

ACCURACY, POINTS = "accuracy", "points"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """The rows that judge accuracy, and how. metric "": the task's own."""

    data: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    metric: str = ""
    confidence: float = 0.99
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What running both once has shown. overlap: judging rows that also calibrated one of the two;
    generated: tokens of their answers to the timed feeds, None for models that generate nothing."""

    placements: tuple[Placement | None, Placement | None]
    accuracy: AccuracyRecord | None
    overlap: int = 0
    generated: tuple[GeneratedRecord | None, ...] = ()


def _judging_rows(old: Runnable, judging: Judging) -> tuple[Row, ...]:
    """The labelled rows, checked against the task and the metric; () without a file."""
    if judging.data is None:
        return ()
    mapped = Mapped(columns=judging.columns, labels=judging.labels)
    return read_judging_rows(judging.data, load_task(old.task), old.labels, mapped, judging.metric)


def look(old: Runnable, new: Runnable, scene: Scene, judging: Judging, on_progress: OnProgress) -> Seen:
    """Open both, read where their nodes run at the workload's shape, and let both answer the rows."""
    rows = _judging_rows(old, judging)
    on_progress(0, 0, "opening both")
    with (
        scene.worker() as first,
        scene.worker() as second,
        scene.open(first, old) as ours,
        scene.open(second, new) as theirs,
    ):
        both = ((old, ours), (new, theirs))
        feeds = scene.feeds(0)
        generated = tuple(count_generated(session, session.signature, feeds) for _, session in both)
        placements = (_placement(old, ours, feeds[0]), _placement(new, theirs, feeds[0]))
        record = _answer(both, rows, judging, on_progress) if rows else None
    used = {*old.table.row_digests, *new.table.row_digests}
    return Seen(
        placements=placements,
        accuracy=record,
        overlap=overlapping((row.digest for row in rows), used),
        generated=generated,
    )


def _placement(side: Runnable, session: RemoteSession, feeds: Mapping[str, Array]) -> Placement | None:
    if "placement" not in load_backend(side.table.backend).capabilities:
        return None
    session.run(feeds)  # placement is read on the inputs last used; its shares hang on their shape
    return session.placement()


def _answer(
    both: Sequence[tuple[Runnable, RemoteSession]],
    rows: tuple[Row, ...],
    judging: Judging,
    on_progress: OnProgress,
) -> AccuracyRecord:
    """Each row alone, unpadded, through each side's own processor, as a device would be asked."""
    task = load_task(both[0][0].task)
    old, new = (
        Answerer(
            asker=Asker(task, side.labels, side.processor, side.table.signature),
            session=session,
            signature=side.table.signature,
        )
        for side, session in both
    )
    how = JudgingOptions(metric=judging.metric, confidence=judging.confidence, seed=judging.seed)
    return paired_answers((old, new), rows, how, on_progress, "both answer the rows")


def paired_figure(record: AccuracyRecord, overlap: int, confidence: float) -> DiffFigure:
    """Accuracy, NEW against OLD on the same rows."""
    low, high = (None if abs(bound) == float("inf") else bound for bound in drop_bounds(record, confidence))
    sign = 1.0 if record.higher_is_better else -1.0
    estimate = 100.0 * sign * (record.model - record.artifact)
    drop = Interval(estimate=estimate, low=low, high=high)
    counts = "" if record.lost is None else f"{record.lost} rows lost, {record.gained} gained, "
    reason = f"{counts}{record.flips} answers changed of {record.rows}"
    if overlap:
        reason += f"; {overlap} of the rows also calibrated one of the two: nothing is proven by them"
    return DiffFigure(
        key=ACCURACY,
        unit=POINTS,
        change=Change.UNPROVEN if overlap else _word(drop),
        old=100.0 * record.model,
        new=100.0 * record.artifact,
        difference=drop,
        method=DiffMethod.PAIRED,
        reason=reason,
    )


def _word(drop: Interval) -> Change:
    if drop.low is not None and drop.low > 0:
        return Change.LESS_ACCURATE
    if drop.high is not None and drop.high < 0:
        return Change.MORE_ACCURATE
    return Change.SAME if drop.low == drop.high == 0 else Change.UNPROVEN


def stored_figure(old: Side, new: Side, confidence: float) -> DiffFigure:
    """Accuracy from two reports on the same rows, each against its own exported model.

    The difference of the two drops, each bounded at half the error. It is indirect: two artifacts of
    different models were never compared with one another.
    """
    reason = _stored_gap(old, new)
    if reason or old.report is None or new.report is None:
        return unmeasured_figure(reason)
    records = (old.report.table.accuracy, new.report.table.accuracy)
    drops = [
        _drop(record, stored, confidence)
        for record, stored in zip(records, (old.report, new.report), strict=True)
    ]
    before, after = drops
    if isinstance(before, str) or isinstance(after, str):
        return unmeasured_figure(before if isinstance(before, str) else str(after))
    difference = Interval(
        estimate=after.estimate - before.estimate,
        low=_minus(after.low, before.high),
        high=_minus(after.high, before.low),
    )
    scores = [100.0 * record.artifact for record in records if record is not None]
    return DiffFigure(
        key=ACCURACY,
        unit=POINTS,
        change=_word(difference),
        old=scores[0],
        new=scores[1],
        difference=difference,
        method=DiffMethod.INDIRECT,
        reason="indirect: the difference of two drops, each against its exported model (--data pairs them)",
    )


def unmeasured_figure(reason: str) -> DiffFigure:
    """Accuracy that could not be compared."""
    return DiffFigure(
        key=ACCURACY, unit=POINTS, change=Change.NOT_MEASURED, method=DiffMethod.INDIRECT, reason=reason
    )


def _stored_gap(old: Side, new: Side) -> str:
    for side in (old, new):
        if side.report is None:
            return side.no_report
        if side.report.table.accuracy is None:
            return f"{side.role}'s report judged no labelled rows"
    ours, theirs = (side.report for side in (old, new))
    if ours is None or theirs is None:
        return "no reports"
    if not ours.data or ours.data != theirs.data:
        return "the two reports judged different rows"
    metrics = [each.table.accuracy.metric for each in (ours, theirs) if each.table.accuracy is not None]
    return "" if len(set(metrics)) == 1 else f"the two reports tell different metrics: {', '.join(metrics)}"


def _drop(record: AccuracyRecord | None, stored: StoredReport, confidence: float) -> Interval | str:
    """The drop against the exported model with bounds at half the error, or why there are none."""
    if record is None:
        return "no accuracy"
    needed = 1.0 - (1.0 - confidence) / 2.0
    if record.lost is None and stored.table.confidence < needed - 1e-9:
        return (
            f"the bounds of {record.metric} were taken at {stored.table.confidence:g}; a difference at "
            f"{confidence:g} takes {needed:g}: give --data, or validate with --confidence {needed:g}"
        )
    low, high = drop_bounds(record, needed)
    sign = 1.0 if record.higher_is_better else -1.0
    estimate = 100.0 * sign * (record.model - record.artifact)
    return Interval(
        estimate=estimate,
        low=None if low == float("-inf") else low,
        high=None if high == float("inf") else high,
    )


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def check_judging(judging: Judging) -> None:
    """Raises UsageError for words about rows without rows, and for a file that is not there."""
    if judging.data is None and (judging.columns or judging.labels or judging.metric):
        raise UsageError(
            "--columns, --labels and --metric say how rows are judged, but no rows are given",
            hint="give them with --data",
        )
    if judging.data is not None and not judging.data.exists():
        raise UsageError(f"{judging.data}: no such file or folder", hint="check the path after --data")
