"""What each budget key means: the figure it limits and the test that decides it.

Every judge here returns PASS or FAIL only when that is proven at the confidence asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.measuring.disturbance import waited_too_long
from edgekit.measuring.footprint import memory_mib
from edgekit.measuring.plan import LEAST_LAUNCHES
from edgekit.measuring.statistics import Launches, LimitTest
from edgekit.targets.budgets import BUDGET_UNITS
from edgekit.values import Check, Interval, LaunchRecord, Outcome

#: Words of `Check.method`; `METHODS` explains them in the report.
RUNS, LAUNCH_MEDIAN, HIGHEST = "launch-bets", "launch-median", "highest"
EXACT, PLACEMENT = "exact", "placement"

METHODS = {
    RUNS: (
        "launch-bets: the claim is on the share of runs over the limit in a random launch; each launch "
        "gives one share, tested by betting (Waudby-Smith and Ramdas 2024), valid however often it is "
        "looked at; assumes only that launches are exchangeable"
    ),
    LAUNCH_MEDIAN: (
        "launch-median: one figure for each launch; the same test on the share of launches over the limit"
    ),
    HIGHEST: (
        "highest: no launch may exceed the limit, and the median of launches is proven below it by the "
        "same test"
    ),
    EXACT: "exact: counted, not sampled",
    PLACEMENT: "placement: as the session reports the executed graph",
    "paired-exact": (
        "paired-exact: rows lost minus rows gained against the exported model on the same rows, exact "
        "Clopper-Pearson bounds with the error split in two; assumes rows drawn independently"
    ),
}

PERCENTILES = {"latency_p50_ms": 0.5, "latency_p90_ms": 0.9, "latency_p99_ms": 0.99}


@dataclass(frozen=True, slots=True)
class Sample:
    """A figure to be judged. sign: -1 when more is better; the launches then hold negated values."""

    launches: Launches
    percentile: float
    sign: float = 1.0

    def interval(self, alpha: float) -> Interval | None:
        """Estimate and one-sided bounds in the figure's own direction."""
        estimate = self.launches.estimate(self.percentile)
        if estimate is None:
            return None
        low, high = self.launches.bounds(self.percentile, alpha)
        if self.sign > 0:
            return Interval(estimate=estimate, low=low, high=high)
        return Interval(estimate=-estimate, low=_negated(high), high=_negated(low))

    def test(self, limit: float, alpha: float) -> LimitTest:
        """Put the limit to both tests."""
        return self.launches.test(self.sign * limit, self.percentile, alpha)


def _negated(bound: float | None) -> float | None:
    return None if bound is None else -bound


def run_sample(records: Sequence[LaunchRecord], percentile: float) -> Sample:
    """Latency of single runs, grouped by launch."""
    rows = [np.asarray(record.latency_ms) for record in records]
    return Sample(Launches(rows, [np.asarray(record.disturbed, bool) for record in records]), percentile)


def cold_start_sample(records: Sequence[LaunchRecord]) -> Sample:
    """One cold start for each launch."""
    return _per_launch(records, lambda record: record.cold_start_ms, lambda record: record.cold_disturbed)


def throughput_sample(records: Sequence[LaunchRecord], batch: int) -> Sample:
    """Samples per second of one stream of runs, one figure for each launch; more is better."""
    measured = [record for record in records if record.latency_ms]

    def value(record: LaunchRecord) -> float:
        return -batch * 1000.0 * len(record.latency_ms) / sum(record.latency_ms)

    return _per_launch(measured, value, _block_disturbed, sign=-1.0)


def _per_launch(
    records: Sequence[LaunchRecord],
    value: Callable[[LaunchRecord], float],
    disturbed: Callable[[LaunchRecord], bool],
    *,
    sign: float = 1.0,
) -> Sample:
    values = [np.array([value(record)]) for record in records]
    return Sample(Launches(values, [np.array([disturbed(record)]) for record in records]), 0.5, sign)


def _block_disturbed(record: LaunchRecord) -> bool:
    return waited_too_long(record) or 2 * sum(record.disturbed) > len(record.disturbed)


def highest_memory(records: Sequence[LaunchRecord], alpha: float) -> Interval | None:
    """The highest launch. It is a lower bound at once; an upper one when the median is proven too."""
    taken = _memories(records)
    if not taken:
        return None
    highest = max(taken)
    proven = _memory_test(taken, highest, alpha).passed
    return Interval(estimate=highest, low=highest, high=highest if proven else None)


def _memories(records: Sequence[LaunchRecord]) -> list[float]:
    return [taken for taken in map(memory_mib, records) if taken is not None]


def _memory_test(taken: Sequence[float], limit: float, alpha: float) -> LimitTest:
    return Launches([np.array([one]) for one in taken]).test(limit, 0.5, alpha)


def judge_sample(key: str, limit: float, sample: Sample, alpha: float, seconds: float) -> Check:
    """Judge a percentile or a median of launches. seconds: what one launch took, for the forecast."""
    method = RUNS if key in PERCENTILES else LAUNCH_MEDIAN
    unit = BUDGET_UNITS[key]
    count = sample.launches.count
    if not count:
        return Check(
            key=key, limit=limit, unit=unit, outcome=Outcome.NOT_MEASURED, reason="no launch was measured"
        )
    test = sample.test(limit, alpha)
    outcome, reason = _decide(test, count, 1.0 - sample.percentile, seconds)
    word = "launches" if method == LAUNCH_MEDIAN else "runs"
    return Check(
        key=key,
        limit=limit,
        unit=unit,
        outcome=outcome,
        observed=sample.interval(alpha),
        reason=reason.replace("{of}", f"of {word} miss it"),
        method=method,
    )


def judge_memory(limit: float, records: Sequence[LaunchRecord], alpha: float, seconds: float) -> Check:
    """FAIL as soon as one launch exceeds the limit; PASS when none does and the median is proven under it."""
    taken = _memories(records)
    over = sum(one > limit for one in taken)
    if not taken:
        outcome = Outcome.NOT_MEASURED
        reason = "this system does not tell memory" if records else "no launch was measured"
    elif over:
        outcome, reason = Outcome.FAIL, f"{over} of {len(taken)} launches took more"
    else:
        outcome, reason = _decide(_memory_test(taken, limit, alpha), len(taken), 0.5, seconds)
        reason = reason.replace("{of}", "of launches take more")
    return Check(
        key="peak_memory_mib",
        limit=limit,
        unit=BUDGET_UNITS["peak_memory_mib"],
        outcome=outcome,
        observed=highest_memory(records, alpha),
        reason=reason,
        method=HIGHEST if taken else "",
    )


def _decide(test: LimitTest, count: int, allowed: float, seconds: float) -> tuple[Outcome, str]:
    if count < LEAST_LAUNCHES:
        return Outcome.INCONCLUSIVE, f"only {count} launches were made, at least {LEAST_LAUNCHES} are needed"
    over = f"{test.under:.3g} to {test.over:.3g}" if test.over != test.under else f"{test.over:.3g}"
    seen = f"in {count} launches a share of {over} {{of}} ({allowed:.2g} is allowed)"
    if test.passed and test.failed:
        return Outcome.INCONCLUSIVE, f"{seen}, early and late launches contradict each other: measure again"
    if test.passed:
        return Outcome.PASS, f"{count} launches"
    if test.failed:
        return Outcome.FAIL, seen
    return Outcome.INCONCLUSIVE, f"{seen}; {_forecast(test, allowed, seconds)}"


def _forecast(test: LimitTest, allowed: float, seconds: float) -> str:
    if not test.towards_pass and test.under <= allowed:
        return "disturbed runs could tip it either way: no number of launches helps until it is quiet"
    side = "PASS" if test.towards_pass else "FAIL"
    if test.further is None:
        return "too close to the limit: no number of launches at this rate would decide"
    time = f" (about {seconds * test.further:.0f} s)" if seconds > 0 else ""
    text = f"about {test.further} more launches{time} at this rate would prove {side}"
    return text if test.towards_pass else f"{text}; no number of launches would prove PASS"
