"""Does the artifact still answer as well as the exported model? Paired, on the same rows.

A row is lost when only the exported model answered it right, gained when only the artifact did; rows on
which both agree say nothing about a difference. The drop is the rate of lost rows minus the rate of gained
rows. Each rate gets exact Clopper-Pearson bounds at half the error (Bonferroni), so that

    upper bound of the drop = upper(lost) - lower(gained),    lower = lower(lost) - upper(gained)

each hold with the stated confidence at every sample size, whatever the dependence between the two counts.
(For the ways to compare paired proportions see Fagerland, Lydersen and Laake, "Recommended tests and
confidence intervals for paired binomial proportions", Statistics in Medicine 33(16), 2014; theirs are
tighter, not exact.)
The rows are taken as drawn independently from the rows that matter.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit.measuring.statistics import rate_bounds
from edgekit.values import AccuracyRecord, Check, Interval, Outcome

METHOD = "paired-exact"
UNIT = "points"
_MOST_ROWS = 50_000_000


def paired_accuracy(
    model_right: Sequence[bool],
    artifact_right: Sequence[bool],
    *,
    flips: int,
    metric: str,
    max_logit_distance: float = 0.0,
) -> AccuracyRecord:
    """Count the rows that only one of the two answered right, as the task judged each row.

    flips: rows on which the two answered differently, right or wrong; metric: the task's word for the
    share of rows answered right. Raises DataError unless both sides judge the same rows, at least one.
    """
    rows = len(model_right)
    if not rows or len(artifact_right) != rows:
        raise DataError(
            f"{metric} is paired row by row: {rows} answers of the exported model were judged, "
            f"{len(artifact_right)} of the artifact",
            hint="give at least one labelled row",
        )
    pairs = [(bool(before), bool(after)) for before, after in zip(model_right, artifact_right, strict=True)]
    return AccuracyRecord(
        metric=metric,
        rows=rows,
        artifact=sum(after for _, after in pairs) / rows,
        model=sum(before for before, _ in pairs) / rows,
        lost=pairs.count((True, False)),
        gained=pairs.count((False, True)),
        flips=flips,
        max_logit_distance=max_logit_distance,
    )


def logit_distance(model: Mapping[str, NDArray[Any]], artifact: Mapping[str, NDArray[Any]]) -> float:
    """Largest absolute difference over all outputs of one row; the largest float when not comparable."""
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


def drop_bounds(record: AccuracyRecord, confidence: float) -> tuple[float, float]:
    """One-sided lower and upper bound of the drop in points, each at `confidence`."""
    return _bounds(record.lost, record.gained, record.rows, 1.0 - confidence)


def _bounds(lost: int, gained: int, rows: int, alpha: float) -> tuple[float, float]:
    lost_low, lost_high = rate_bounds(lost, rows, alpha / 2)
    gained_low, gained_high = rate_bounds(gained, rows, alpha / 2)
    return 100.0 * (lost_low - gained_high), 100.0 * (lost_high - gained_low)


def judge_accuracy(record: AccuracyRecord, limit: float, confidence: float, overlap: int = 0) -> Check:
    """Whether the drop is at most `limit` points. overlap: judging rows that also chose the recipe."""
    drop = 100.0 * (record.lost - record.gained) / record.rows
    low, high = drop_bounds(record, confidence)
    rates = f"{record.lost} rows lost, {record.gained} gained of {record.rows}"
    if overlap:
        outcome = Outcome.INCONCLUSIVE
        reason = (
            f"{overlap} of {record.rows} rows also calibrated or chose the recipe; "
            f"judge with rows that did not ({rates})"
        )
    elif high <= limit:
        outcome, reason = Outcome.PASS, rates
    elif low > limit:
        outcome, reason = Outcome.FAIL, rates
    else:
        outcome, reason = Outcome.INCONCLUSIVE, f"{rates}; {_needed(record, limit, 1.0 - confidence)}"
    return Check(
        key="accuracy_drop",
        limit=limit,
        unit=UNIT,
        outcome=outcome,
        observed=Interval(estimate=drop, low=low, high=high),
        reason=reason,
        method=METHOD,
    )


def _needed(record: AccuracyRecord, limit: float, alpha: float) -> str:
    rows = rows_needed(record, limit, alpha)
    side = "PASS" if 100.0 * (record.lost - record.gained) / record.rows <= limit else "FAIL"
    if rows is None:
        return "the drop seen is too close to the limit: no number of rows at these rates would decide"
    return f"at these rates {rows} rows would prove {side} ({rows - record.rows} more)"


def rows_needed(record: AccuracyRecord, limit: float, alpha: float) -> int | None:
    """About how many rows with the rates seen would decide; None when no number would."""
    lost, gained = record.lost / record.rows, record.gained / record.rows
    passing = 100.0 * (lost - gained) <= limit

    def decides(rows: int) -> bool:
        low, high = _bounds(round(lost * rows), round(gained * rows), rows, alpha)
        return high <= limit if passing else low > limit

    high = record.rows
    while not decides(high):
        high *= 2
        if high > _MOST_ROWS or (lost + gained) * high > 1_000_000:
            return None
    low = high // 2
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return max(high, record.rows + 1)
