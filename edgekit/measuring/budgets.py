"""What each budget key means: the figure it limits and the test that decides it.

Every judge here returns PASS or FAIL only when that is proven at the confidence asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgekit.measuring import accuracy
from edgekit.measuring.disturbance import waited_too_long, why_disturbed
from edgekit.measuring.footprint import memory_mib
from edgekit.measuring.plan import LEAST_LAUNCHES, Proof
from edgekit.measuring.statistics import Launches, LimitTest, Rules
from edgekit.targets.budgets import BUDGET_UNITS
from edgekit.values import Check, Interval, LaunchRecord, Outcome

#: Words of `Check.method`; `METHODS` explains them in the report.
RUNS, LAUNCH_MEDIAN, HIGHEST = "launch-bets", "launch-median", "highest"
RANDOM_EFFECTS, EXACT, PLACEMENT = "random-effects", "exact", "placement"

METHODS = {
    RUNS: (
        "launch-bets: the claim is on the share of runs over the limit in a random launch; each launch "
        "gives one share, tested by betting (Waudby-Smith and Ramdas 2024), valid however often it is "
        "looked at; launches that resemble their neighbours count for less; slow spells must be shorter "
        "than a tenth of the measurement"
    ),
    LAUNCH_MEDIAN: (
        "launch-median: one figure for each launch; the same test on the share of launches over the limit"
    ),
    HIGHEST: (
        "highest: no launch may exceed the limit, and the median of launches is proven below it by the "
        "same test"
    ),
    RANDOM_EFFECTS: (
        "random-effects: too few launches for a proof without a model; a one-sided normal tolerance bound "
        "on the logarithm of the launches' quantiles (Krishnamoorthy and Mathew 2009), looked at once; "
        "betting and the model share the error"
    ),
    EXACT: "exact: counted, not sampled",
    PLACEMENT: "placement: as the session reports the executed graph",
    **accuracy.METHODS,
}

#: What `Check.assumption` says when there was no time to watch the machine.
NO_SPELLS = "no slow spells: {count} launches are too few to see any"
NORMAL_LAUNCHES = (
    "launches are independent and the logarithm of their quantiles is normally distributed "
    "({count} launches; more time would need no such model)"
)

PERCENTILES = {"latency_p50_ms": 0.5, "latency_p90_ms": 0.9, "latency_p99_ms": 0.99}


@dataclass(frozen=True, slots=True)
class Sample:
    """A figure to be judged. sign: -1 when more is better; the launches then hold negated values."""

    launches: Launches
    percentile: float
    sign: float = 1.0

    def interval(self, rules: Rules) -> Interval | None:
        """Estimate and one-sided bounds in the figure's own direction."""
        estimate = self.launches.estimate(self.percentile)
        if estimate is None:
            return None
        bounds = self.launches.bounds(self.percentile, rules)
        if self.sign > 0:
            return Interval(estimate=estimate, low=bounds.low, high=bounds.high)
        return Interval(estimate=-estimate, low=_negated(bounds.high), high=_negated(bounds.low))

    def test(self, limit: float, rules: Rules) -> LimitTest:
        """Put the limit to both tests."""
        return self.launches.test(self.sign * limit, self.percentile, rules)


def unwatched(proof: Proof) -> Proof:
    """For figures that slow spells of the machine do not change."""
    return replace(proof, watched=LEAST_LAUNCHES, assume_nothing=True)


def rules_of(proof: Proof, *, final: bool) -> Rules:
    """How a claim about launches is tested. final: measuring is over, so the model may be looked at."""
    least = LEAST_LAUNCHES if proof.few else proof.watched
    alpha = 1.0 - proof.confidence
    if not proof.few:
        return Rules(alpha=alpha, least=least)
    return Rules(alpha=alpha, least=least, model=True) if final else Rules(alpha=alpha / 2.0, least=least)


def _negated(bound: float | None) -> float | None:
    return None if bound is None else -bound


def run_sample(records: Sequence[LaunchRecord], percentile: float) -> Sample:
    """Latency of single runs, grouped by launch."""
    rows = [np.asarray(record.latency_ms) for record in records]
    return Sample(Launches(rows, [np.asarray(record.disturbed, bool) for record in records]), percentile)


def cold_start_sample(records: Sequence[LaunchRecord]) -> Sample:
    """One cold start for each launch."""
    return _per_launch(records, lambda record: record.cold_start_ms, lambda record: record.cold_disturbed)


def throughput_sample(records: Sequence[LaunchRecord], batch: int, streams: int = 1) -> Sample:
    """Samples per second, one figure for each launch; more is better.

    Of the concurrent streams where there are several, else of the one stream of timed runs.
    """
    measured = [record for record in records if _samples_per_second(record, batch, streams) is not None]

    def value(record: LaunchRecord) -> float:
        return -(_samples_per_second(record, batch, streams) or 0.0)

    disturbed = _streams_disturbed if streams > 1 else _block_disturbed
    return _per_launch(measured, value, disturbed, sign=-1.0)


def _samples_per_second(record: LaunchRecord, batch: int, streams: int) -> float | None:
    if streams > 1:
        return record.samples_per_second
    return batch * 1000.0 * len(record.latency_ms) / sum(record.latency_ms) if record.latency_ms else None


def energy_sample(records: Sequence[LaunchRecord]) -> Sample:
    """Energy of one run in mJ, one figure for each launch that could read it."""
    measured = [record for record in records if record.energy_mj is not None]
    return _per_launch(measured, lambda record: record.energy_mj or 0.0, _block_disturbed)


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


def _streams_disturbed(record: LaunchRecord) -> bool:
    return record.streams_disturbed


def highest_memory(records: Sequence[LaunchRecord], proof: Proof) -> Interval | None:
    """The highest launch. It is a lower bound at once; an upper one when the median is proven too."""
    taken = _memories(records)
    if not taken:
        return None
    highest = max(taken)
    proven = _memory_test(taken, highest, rules_of(unwatched(proof), final=True)).passed
    return Interval(estimate=highest, low=highest, high=highest if proven else None)


def median_steady_memory(records: Sequence[LaunchRecord]) -> Interval | None:
    """Median over launches of what is resident once the runs are done; a figure, never judged."""
    taken = [record.steady_mib for record in records if record.steady_mib is not None]
    return Interval(estimate=float(np.median(taken))) if taken else None


def _memories(records: Sequence[LaunchRecord]) -> list[float]:
    return [taken for taken in map(memory_mib, records) if taken is not None]


def _memory_test(taken: Sequence[float], limit: float, rules: Rules) -> LimitTest:
    return Launches([np.array([one]) for one in taken]).test(limit, 0.5, rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """What every judge of launches needs. cores: that may be used, for the words about load."""

    records: Sequence[LaunchRecord]
    proof: Proof
    final: bool = True
    cores: float = 0.0

    @property
    def rules(self) -> Rules:
        """How claims are tested now."""
        return rules_of(self.proof, final=self.final)

    @property
    def runs(self) -> int:
        """Timed runs in a launch, the median."""
        return int(np.median([len(record.latency_ms) for record in self.records])) if self.records else 0

    @property
    def seconds(self) -> float:
        """What one launch took, for the forecast."""
        return sum(record.seconds for record in self.records) / max(1, len(self.records))


def judge_sample(key: str, limit: float, sample: Sample, judging: Judging) -> Check:
    """Judge a percentile or a median of launches."""
    method = RUNS if key in PERCENTILES else LAUNCH_MEDIAN
    if not sample.launches.count:
        return _unmeasured(key, limit, "no launch was measured")
    test = sample.test(limit, judging.rules)
    found = _decide(test, sample.launches.count, 1.0 - sample.percentile, judging)
    of = "of launches miss it" if method == LAUNCH_MEDIAN else "of runs miss it"
    return Check(
        key=key,
        limit=limit,
        unit=BUDGET_UNITS[key],
        outcome=found.outcome,
        observed=sample.interval(judging.rules),
        reason=found.reason.replace("{of}", of),
        method=RANDOM_EFFECTS if test.by_model else method,
        assumption=found.assumption,
    )


def judge_memory(limit: float, judging: Judging) -> Check:
    """FAIL as soon as one launch exceeds the limit; PASS when none does and the median is proven under it."""
    taken = _memories(judging.records)
    if not taken:
        told = "this system does not tell memory" if judging.records else "no launch was measured"
        return _unmeasured("peak_memory_mib", limit, told)
    over = sum(one > limit for one in taken)
    if over:
        found = _Found(Outcome.FAIL, f"{over} of {len(taken)} launches took more")
    else:
        judging = replace(judging, proof=unwatched(judging.proof))
        found = _decide(_memory_test(taken, limit, judging.rules), len(taken), 0.5, judging)
    return Check(
        key="peak_memory_mib",
        limit=limit,
        unit=BUDGET_UNITS["peak_memory_mib"],
        outcome=found.outcome,
        observed=highest_memory(judging.records, judging.proof),
        reason=found.reason.replace("{of}", "of launches take more"),
        method=HIGHEST,
    )


def _unmeasured(key: str, limit: float, reason: str) -> Check:
    return Check(key=key, limit=limit, unit=BUDGET_UNITS[key], outcome=Outcome.NOT_MEASURED, reason=reason)


@dataclass(frozen=True, slots=True)
class _Found:
    outcome: Outcome
    reason: str
    assumption: str = ""


def _decide(test: LimitTest, count: int, allowed: float, judging: Judging) -> _Found:
    least = judging.rules.least
    over = f"{test.under:.3g} to {test.over:.3g}" if test.over != test.under else f"{test.over:.3g}"
    seen = f"in {count} launches a share of {over} {{of}} ({allowed:.2g} is allowed)"
    assumption = _assumption(test, count, judging)
    if test.passed and test.failed:
        return _Found(Outcome.INCONCLUSIVE, f"{seen}, early and late launches contradict each other")
    if test.passed:
        return _Found(Outcome.PASS, f"{count} launches", assumption)
    if test.failed:
        return _Found(Outcome.FAIL, seen, assumption)
    machine = why_disturbed(judging.records, judging.cores) if test.over > test.under else ""
    busy = f"; the machine was disturbed: {machine}" if machine else ""
    if count < least:
        return _Found(
            Outcome.INCONCLUSIVE,
            f"{seen}{busy}; nothing is proven before {least} launches{_time(least - count, judging)}",
        )
    return _Found(Outcome.INCONCLUSIVE, f"{seen}{busy}; {_forecast(test, allowed, judging)}")


def _assumption(test: LimitTest, count: int, judging: Judging) -> str:
    if test.by_model:
        return NORMAL_LAUNCHES.format(count=count)
    return NO_SPELLS.format(count=count) if judging.proof.few else ""


def _forecast(test: LimitTest, allowed: float, judging: Judging) -> str:
    if not test.towards_pass and test.under <= allowed:
        return "disturbed runs could tip it either way: no number of launches helps until it is quiet"
    if test.further is None:
        return "too close to the limit: no number of launches at this rate would decide"
    side = "PASS" if test.towards_pass else "FAIL"
    alike = f"; launches come in spells, about {test.tau:.1f} count as one" if test.tau >= 1.5 else ""
    runs = f" of {judging.runs} runs" if judging.runs > 1 else ""
    text = f"about {test.further} more launches{runs}{_time(test.further, judging)} would prove {side}{alike}"
    return text if test.towards_pass else f"{text}; no number of launches would prove PASS"


def _time(launches: int, judging: Judging) -> str:
    return f" (about {judging.seconds * launches:.0f} s)" if judging.seconds > 0 else ""
