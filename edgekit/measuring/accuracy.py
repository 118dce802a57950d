"""Does the artifact still answer as well as the exported model? Paired, on the same rows.

A row is lost when only the exported model answered it right, gained when only the artifact did; rows on
which both agree say nothing about a difference. The drop of a metric that is the share of right rows is the
rate of lost rows minus the rate of gained rows, and its bounds are exact (`paired_score`). The drop of any
other metric gets its bounds by resampling rows (`bootstrap`).
Either way the rows are taken as drawn independently from the rows that matter.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit.measuring.bootstrap import LEAST_ROWS, bootstrap_drop
from edgekit.measuring.metrics.base import Metric
from edgekit.measuring.paired_score import drop_upper, p_value
from edgekit.values import AccuracyRecord, ChangedRow, Check, Interval, Outcome
from edgekit_runtime.generation import SCORES, TOKENS, is_generated
from edgekit_runtime.token_agreement import up_to_difference

SCORE, BOOTSTRAP = "paired-score", "paired-bootstrap"
METHODS: dict[str, str] = {
    SCORE: (
        "paired-score: rows lost minus rows gained on the same rows, tested by Tango's score statistic "
        "(1998) with its exact distribution at the worst nuisance rate (Sidik 2003; Berger and Boos 1994); "
        "assumes rows drawn independently"
    ),
    BOOTSTRAP: (
        "paired-bootstrap: rows resampled with the answers of both sides (Efron and Tibshirani 1993, Koehn "
        "2004), widened by what the rows cannot show (simulated, not exact); assumes rows drawn independently"
    ),
}
UNIT = "points"
MOST_CHANGED = 200
_MOST_SHOWN = 200
_MOST_ROWS = 50_000_000
_MOST_DISCORDANT = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRow:
    """A row as the judge sees it. number: position in the data file, from 1; truth: the right answer, in
    the form that the metric takes; text: what a report may show of the row, "" for nothing; hidden: truth and
    answers tell what the row holds, so that a report may not show them."""

    number: int
    truth: Any
    text: str = ""
    hidden: bool = False


def paired_record(
    model: Sequence[Any],
    artifact: Sequence[Any],
    rows: Sequence[JudgedRow],
    metric: Metric,
    confidence: float,
    seed: int = 0,
) -> AccuracyRecord:
    """Compare two sides' answers to the same rows. `model` is the side that the drop is counted from.

    confidence: of each one-sided bound of `drop`; seed: of the resampling.
    max_logit_distance is left at 0: answers do not tell it.
    Raises DataError unless both sides answered every row, at least one.
    """
    if not rows or len(model) != len(rows) or len(artifact) != len(rows):
        raise DataError(
            f"{metric.name} is paired row by row: {len(rows)} rows, {len(model)} answers of the exported "
            f"model, {len(artifact)} of the artifact",
            hint="give at least one labelled row, and both answers to each",
        )
    truths = [row.truth for row in rows]
    different = [not _same(one, other) for one, other in zip(model, artifact, strict=True)]
    before, after = metric.right(model, truths), metric.right(artifact, truths)
    lost = gained = None
    if before is not None and after is not None:
        pairs = list(zip(before, after, strict=True))
        lost, gained = pairs.count((True, False)), pairs.count((False, True))
        old, new = (sum(side) / len(rows) for side in (before, after))
        drop = _exact_drop(lost, gained, len(rows), 1.0 - confidence)
    else:
        old, new = metric.score(model, truths), metric.score(artifact, truths)
        drop = bootstrap_drop((model, artifact), truths, metric, sum(different), 1.0 - confidence, seed)
    return AccuracyRecord(
        metric=metric.name,
        rows=len(rows),
        artifact=new,
        model=old,
        lost=lost,
        gained=gained,
        flips=sum(different),
        max_logit_distance=0.0,
        higher_is_better=metric.higher_is_better,
        drop=drop,
        method=SCORE if lost is not None else BOOTSTRAP,
        changed=_changed(model, artifact, rows, different),
    )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one == other)


def _changed(
    model: Sequence[Any], artifact: Sequence[Any], rows: Sequence[JudgedRow], different: Sequence[bool]
) -> tuple[ChangedRow, ...]:
    places = [place for place, differs in enumerate(different) if differs][:MOST_CHANGED]
    return tuple(
        ChangedRow(
            number=rows[place].number,
            label=_shown(rows[place].truth, rows[place].hidden),
            model=_shown(model[place], rows[place].hidden),
            artifact=_shown(artifact[place], rows[place].hidden),
            text=rows[place].text,
        )
        for place in places
    )


def _shown(answer: Any, hidden: bool = False) -> str:
    """An answer or truth in a few words; of arrays what they are, of hidden texts how long they are."""
    if hidden:
        first = answer[0] if isinstance(answer, list | tuple) and answer else answer
        return f"{len(str(first).split())} words, not shown"
    text = _told(answer)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 1]}…"


def _told(answer: Any) -> str:
    if isinstance(answer, np.ndarray):
        kind = "classes" if answer.dtype.kind in "iu" and answer.ndim == 2 else "numbers"
        return f"{' x '.join(map(str, answer.shape))} {kind}"
    if isinstance(answer, float):
        return f"{answer:.6g}"
    if isinstance(answer, Mapping):
        return (
            _told_box(answer)
            if "box" in answer
            else ", ".join(f"{key}: {_told(answer[key])}" for key in answer)
        )
    if isinstance(answer, list | tuple):
        return ", ".join(map(_told, answer)) or "none"
    return str(answer)


def _told_box(box: Mapping[str, Any]) -> str:
    place = ", ".join(f"{side:.4g}" for side in box["box"])
    score = f" {box['score']:.2f}" if "score" in box else ""
    return f"{box['label']}{score} at ({place})"


def logit_distance(model: Mapping[str, NDArray[Any]], artifact: Mapping[str, NDArray[Any]]) -> float:
    """Largest absolute difference over all outputs of one row; the largest float when not comparable.

    Of generated tokens it is that of their log-probabilities, up to the first token that differs.
    """
    if is_generated(model) and is_generated(artifact) and len(model[TOKENS]) == len(artifact[TOKENS]):
        model, artifact = ({SCORES: judged[SCORES]} for judged in up_to_difference(model, artifact))
    worst = 0.0
    for name, expected in model.items():
        got = artifact.get(name)
        if got is None or got.shape != expected.shape:
            return sys.float_info.max
        if not expected.size:
            continue
        with np.errstate(invalid="ignore"):
            distance = float(np.max(np.abs(np.asarray(got, np.float64) - np.asarray(expected, np.float64))))
        if not math.isfinite(distance):
            return sys.float_info.max
        worst = max(worst, distance)
    return worst


def overlapping(data_rows: Iterable[str], recipe_rows: Iterable[str]) -> int:
    """How many of the judging rows' digests are among the rows that chose or calibrated the recipe."""
    chosen = set(recipe_rows)
    return sum(row in chosen for row in data_rows)


# --- the verdict ------------------------------------------------------------------------------------


def drop_bounds(record: AccuracyRecord, confidence: float) -> tuple[float, float]:
    """One-sided lower and upper bound of the drop in points, each at `confidence`.

    Bounds of a metric that is no count are those that were recorded. Raises DataError without any.
    """
    if record.lost is not None and record.gained is not None:
        found = _exact_drop(record.lost, record.gained, record.rows, 1.0 - confidence)
    elif record.drop is not None:
        found = record.drop
    else:
        raise DataError(f"{record.metric}: neither counts nor a drop were recorded", hint="validate again")
    low = -math.inf if found.low is None else found.low
    return low, math.inf if found.high is None else found.high


def _exact_drop(lost: int, gained: int, rows: int, alpha: float) -> Interval:
    return Interval(
        estimate=100.0 * (lost - gained) / rows,
        low=-100.0 * drop_upper(gained, lost, rows, alpha),
        high=100.0 * drop_upper(lost, gained, rows, alpha),
    )


def judge_accuracy(record: AccuracyRecord, limit: float, confidence: float, overlap: int = 0) -> Check:
    """Whether the drop is at most `limit` points. overlap: judging rows that also chose the recipe."""
    low, high = drop_bounds(record, confidence)
    drop = _drop_seen(record)
    seen = _seen(record)
    passed, failed = high <= limit, low > limit
    if record.lost is not None and record.gained is not None:  # the bounds are found to a part of a row
        alpha, claim = 1.0 - confidence, limit / 100.0
        passed = passed and p_value(record.lost, record.gained, record.rows, claim, alpha) <= alpha
        failed = failed and p_value(record.gained, record.lost, record.rows, -claim, alpha) <= alpha
    if overlap:
        outcome = Outcome.INCONCLUSIVE
        reason = (
            f"{overlap} of {record.rows} rows also calibrated or chose the recipe; "
            f"judge with rows that did not ({seen})"
        )
    elif passed and record.higher_is_better and record.model == 0.0:
        outcome = Outcome.INCONCLUSIVE
        reason = (
            f"the exported model answers no row right, so that none can be lost: are these its rows? {seen}"
        )
    elif passed:
        outcome, reason = Outcome.PASS, seen
    elif failed:
        outcome, reason = Outcome.FAIL, seen
    else:
        outcome, reason = Outcome.INCONCLUSIVE, f"{seen}; {_needed(record, limit, confidence)}"
    return Check(
        key="accuracy_drop",
        limit=limit,
        unit=UNIT,
        outcome=outcome,
        observed=Interval(
            estimate=drop,
            low=low if math.isfinite(low) else None,
            high=high if math.isfinite(high) else None,
        ),
        reason=reason,
        method=record.method,
    )


def _drop_seen(record: AccuracyRecord) -> float:
    """Points that were lost, whatever the metric's direction."""
    if record.lost is not None and record.gained is not None:
        return 100.0 * (record.lost - record.gained) / record.rows
    return 100.0 * (record.model - record.artifact) * (1.0 if record.higher_is_better else -1.0)


def _seen(record: AccuracyRecord) -> str:
    if record.lost is not None:
        return f"{record.lost} rows lost, {record.gained} gained of {record.rows}"
    return (
        f"{record.metric} {record.artifact:.6g} against {record.model:.6g} of the exported model "
        f"on {record.rows} rows, {record.flips} answers changed"
    )


def _needed(record: AccuracyRecord, limit: float, confidence: float) -> str:
    rows = rows_needed(record, limit, 1.0 - confidence)
    side = "PASS" if _drop_seen(record) <= limit else "FAIL"
    if record.rows < LEAST_ROWS and record.lost is None:
        return f"at least {LEAST_ROWS} rows are needed for bounds on {record.metric}"
    if rows is None:
        return "the drop seen is too close to the limit: no number of rows at these rates would decide"
    about = "" if record.lost is not None else "about "
    return f"at these rates {about}{rows} rows would prove {side} ({rows - record.rows} more)"


def rows_needed(record: AccuracyRecord, limit: float, alpha: float) -> int | None:
    """About how many rows with the rates seen would decide; None when no number would."""
    if record.lost is None or record.gained is None:
        return _rows_by_width(record, limit)
    lost, gained = record.lost / record.rows, record.gained / record.rows
    passing = 100.0 * (lost - gained) <= limit

    def decides(rows: int) -> bool:
        more, fewer = round(lost * rows), round(gained * rows)
        claim, part = limit / 100.0, 1e-3 / rows  # bounds are found to a part of a row
        if passing:
            return p_value(more, fewer, rows, claim - part, alpha) <= alpha
        return p_value(fewer, more, rows, -claim - part, alpha) <= alpha

    high = record.rows
    while not decides(high):
        high *= 2
        if high > _MOST_ROWS or (lost + gained) * high > _MOST_DISCORDANT:
            return None
    low = high // 2
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return max(high, record.rows + 1)


def _rows_by_width(record: AccuracyRecord, limit: float) -> int | None:
    """The distance from drop to bound shrinks with the root of the rows."""
    drop = _drop_seen(record)
    if record.drop is None or record.drop.high is None or record.drop.low is None:
        return LEAST_ROWS if record.rows < LEAST_ROWS else None
    low, high = record.drop.low, record.drop.high
    width = high - drop if drop <= limit else drop - low
    room = abs(limit - drop)
    if room <= 0.0:
        return None
    needed = record.rows * (width / room) ** 2
    return max(math.ceil(needed), record.rows + 1) if needed <= _MOST_ROWS else None
