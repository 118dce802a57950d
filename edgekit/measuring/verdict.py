"""Evidence and limits -> one check for each limit -> one outcome."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edgekit.measuring.accuracy import judge_accuracy
from edgekit.measuring.budgets import (
    EXACT,
    METHODS,
    PERCENTILES,
    PLACEMENT,
    Judging,
    cold_start_sample,
    energy_sample,
    highest_memory,
    judge_memory,
    judge_sample,
    median_steady_memory,
    rules_of,
    run_sample,
    throughput_sample,
)
from edgekit.measuring.disturbance import disturbance_notes, with_suspects
from edgekit.measuring.footprint import fallback
from edgekit.measuring.plan import LAUNCHES_FOR_A_MEDIAN, LEAST_LAUNCHES, Decision, Proof
from edgekit.targets.budgets import BUDGET_UNITS, GENERATION_KEYS, MACHINE_KEYS, budget_items
from edgekit.values import AccuracyRecord, Budget, Check, GoldenRecord, Interval, LaunchRecord, Outcome
from edgekit_runtime.values import Placement

#: Keys that launches decide.
LAUNCH_KEYS = (*PERCENTILES, "cold_start_ms", "throughput_min", "peak_memory_mib", "energy_mj")
_WORST_FIRST = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.NOT_MEASURED, Outcome.PASS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that was found out about an artifact.

    precision, device: as asked for; batch: samples in one run; streams: concurrent ones;
    cores: that may be used; overlap: judging rows that also calibrated or chose the recipe;
    mismatches: why this machine is not the target, empty when it is;
    gaps: budget key -> why that figure could not be taken.
    """

    precision: str
    device: str = "cpu"
    batch: int = 1
    streams: int = 1
    cores: float = 0.0
    launches: tuple[LaunchRecord, ...] = ()
    artifact_mib: float | None = None
    placement: Placement | None = None
    accuracy: AccuracyRecord | None = None
    overlap: int = 0
    mismatches: tuple[str, ...] = ()
    gaps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The report's figures with their bounds, whether a budget limits them or not."""

    latency_p50_ms: Interval | None = None
    latency_p90_ms: Interval | None = None
    latency_p99_ms: Interval | None = None
    cold_start_ms: Interval | None = None
    peak_memory_mib: Interval | None = None
    steady_memory_mib: Interval | None = None
    throughput: Interval | None = None
    energy_mj: Interval | None = None


def judge(budget: Budget, evidence: Evidence, proof: Proof) -> tuple[Check, ...]:
    """One check for each limit that is set, in the order of the budget's keys."""
    evidence = dataclasses.replace(evidence, launches=with_suspects(evidence.launches))
    return tuple(_judge(key, limit, evidence, proof) for key, limit in budget_items(budget))


def _judge(key: str, limit: float, evidence: Evidence, proof: Proof) -> Check:
    reason = _why_not_measured(key, evidence)
    if reason:
        return _absent(key, limit, reason)
    if key in LAUNCH_KEYS:
        judging = Judging(records=evidence.launches, proof=proof, cores=evidence.cores)
        return _judge_launches(key, limit, evidence, judging)
    if key == "accuracy_drop" and evidence.accuracy is not None:
        return judge_accuracy(evidence.accuracy, limit, proof.confidence, evidence.overlap)
    if key == "artifact_mib" and evidence.artifact_mib is not None:
        outcome = Outcome.PASS if evidence.artifact_mib <= limit else Outcome.FAIL
        return _exact(key, limit, evidence.artifact_mib, outcome, "", EXACT)
    if key == "max_fallback" and evidence.placement is not None:
        return _judge_fallback(limit, evidence.placement, evidence)
    return _absent(key, limit, "it was not measured")


def _why_not_measured(key: str, evidence: Evidence) -> str:
    if evidence.mismatches and key in MACHINE_KEYS:
        return f"this machine is not the target: {'; '.join(evidence.mismatches)}"
    if key in evidence.gaps:
        return evidence.gaps[key]
    if key in GENERATION_KEYS:
        return "this task generates no text"
    if key == "energy_mj" and evidence.launches and all(one.energy_mj is None for one in evidence.launches):
        return "this machine has no energy counter that can be read"
    if key == "accuracy_drop" and evidence.accuracy is None:
        return "no labelled rows were given (--data)"
    if key == "max_fallback" and evidence.placement is None:
        return "the backend cannot tell where the graph runs"
    return ""


def _judge_launches(key: str, limit: float, evidence: Evidence, judging: Judging) -> Check:
    if key == "peak_memory_mib":
        return judge_memory(limit, judging)
    launches = judging.records
    if key in PERCENTILES:
        return judge_sample(key, limit, run_sample(launches, PERCENTILES[key]), judging)
    if key == "cold_start_ms":
        return judge_sample(key, limit, cold_start_sample(launches), judging)
    if key == "energy_mj":
        return judge_sample(key, limit, energy_sample(launches), judging)
    check = judge_sample(key, limit, throughput_sample(launches, evidence.batch, evidence.streams), judging)
    streams = "one stream of runs" if evidence.streams == 1 else f"{evidence.streams} streams of runs"
    return dataclasses.replace(check, reason=f"{streams}; {check.reason}")


def _judge_fallback(limit: float, placement: Placement, evidence: Evidence) -> Check:
    found = fallback(placement, evidence.precision, evidence.device)
    if found is None:
        return _absent("max_fallback", limit, "the backend names no node that ran")
    outcome = Outcome.PASS if found.share <= limit + 1e-9 else Outcome.FAIL
    reason = f"share of {found.basis}, told by {placement.source}"
    if found.where:
        reason = f"{found.where} instead of {evidence.precision} on {evidence.device}; {reason}"
    return _exact("max_fallback", limit, found.share, outcome, reason, PLACEMENT)


def _exact(key: str, limit: float, value: float, outcome: Outcome, reason: str, method: str) -> Check:
    observed = Interval(estimate=value, low=value, high=value)
    unit = BUDGET_UNITS[key]
    return Check(
        key=key, limit=limit, unit=unit, outcome=outcome, observed=observed, reason=reason, method=method
    )


def _absent(key: str, limit: float, reason: str) -> Check:
    return Check(key=key, limit=limit, unit=BUDGET_UNITS[key], outcome=Outcome.NOT_MEASURED, reason=reason)


def overall_verdict(checks: Iterable[Check], golden: GoldenRecord | None = None) -> Outcome:
    """The worst of all: FAIL, then INCONCLUSIVE, then NOT_MEASURED; PASS only when all is proven.

    Goldens can only make it worse: without a limit nothing is proven, and the verdict is NOT_MEASURED.
    """
    outcomes = {check.outcome for check in checks} or {Outcome.NOT_MEASURED}
    if golden is not None:
        outcomes.add(golden.outcome)
    return next((outcome for outcome in _WORST_FIRST if outcome in outcomes), Outcome.NOT_MEASURED)


def decider(budget: Budget, evidence: Evidence, proof: Proof) -> Callable[[Sequence[LaunchRecord]], Decision]:
    """What `measure_launches` asks after each launch: are all limits that launches decide decided?"""
    limits = [item for item in budget_items(budget) if item[0] in LAUNCH_KEYS]
    limits = [(key, limit) for key, limit in limits if not _why_not_measured(key, evidence)]
    least = LEAST_LAUNCHES if limits else LAUNCHES_FOR_A_MEDIAN

    def decide(launches: Sequence[LaunchRecord]) -> Decision:
        seen = dataclasses.replace(evidence, launches=with_suspects(launches))
        judging = Judging(records=seen.launches, proof=proof, final=False, cores=evidence.cores)
        open_checks = [
            check
            for check in (_judge_launches(key, limit, seen, judging) for key, limit in limits)
            if check.outcome not in (Outcome.PASS, Outcome.FAIL) and not _why_not_measured(check.key, seen)
        ]
        text = ", ".join(_progress(check) for check in open_checks[:2])
        undecided = tuple(check.key for check in open_checks)
        return Decision(done=not undecided and len(launches) >= least, undecided=undecided, text=text)

    return decide


def _progress(check: Check) -> str:
    if check.observed is None or check.limit is None:
        return check.key
    low, high = (_short(bound) for bound in (check.observed.low, check.observed.high))
    return f"{check.key} {low}..{high} against {check.limit:g} {check.unit}"


def _short(bound: float | None) -> str:
    return "?" if bound is None else f"{bound:.4g}"


def figures(evidence: Evidence, proof: Proof) -> Figures:
    """Percentiles, cold start, throughput, memory and energy with their one-sided bounds."""
    rules = rules_of(proof, final=True)
    marked = with_suspects(evidence.launches)
    p50, p90, p99 = (run_sample(marked, percentile).interval(rules) for percentile in PERCENTILES.values())
    return Figures(
        latency_p50_ms=p50,
        latency_p90_ms=p90,
        latency_p99_ms=p99,
        cold_start_ms=cold_start_sample(marked).interval(rules),
        peak_memory_mib=highest_memory(marked, proof),
        steady_memory_mib=median_steady_memory(marked),
        throughput=throughput_sample(marked, evidence.batch, evidence.streams).interval(rules),
        energy_mj=energy_sample(marked).interval(rules),
    )


def method_sentences(checks: Sequence[Check], proof: Proof) -> tuple[str, ...]:
    """The statistics that were used, in one sentence each, for `ReportTable.method`."""
    used = [word for word in METHODS if any(check.method == word for check in checks)]
    if not used:
        return ()
    head = f"each limit is judged on its own at {proof.confidence:.4g} confidence, one-sided"
    return (head, *(METHODS[word] for word in used))


def measurement_notes(evidence: Evidence) -> tuple[str, ...]:
    """What a reader must know about how the figures were taken, for `ReportTable.notes`."""
    notes = list(disturbance_notes(with_suspects(evidence.launches)))
    if evidence.mismatches:
        notes.insert(0, f"measured on a machine that is not the target: {'; '.join(evidence.mismatches)}")
    if evidence.overlap:
        notes.append(f"{evidence.overlap} judging rows also calibrated or chose the recipe")
    return tuple(notes)
