"""Reports for tests: the shape of real launches, made-up numbers, outcomes by plain arithmetic.

How outcomes are proven is no matter of the formats: tests/measuring and tests/stages hold that.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from edgekit.files.manifests import Manifest
from edgekit.targets.budgets import BUDGET_UNITS, budget_items
from edgekit.values import (
    AccuracyRecord,
    Budget,
    CalibrationReport,
    ChangedRow,
    Check,
    GoldenRecord,
    HeatRecord,
    InputEntry,
    Interval,
    LaunchConditions,
    LaunchRecord,
    Lengths,
    Outcome,
    RangeRow,
    ReportTable,
    Sensitivity,
)
from edgekit_runtime.values import Machine, OperatorTime, Placement, PlacementRow

MACHINE = Machine(
    arch="x86_64",
    system="Linux",
    cpu="Example CPU 3000 & Sons",
    isa=("avx2", "avx512_vnni"),
    cores=4,
    usable_cores=2.5,
    memory_mib=7900,
    governor="performance",
    python="3.11.9",
)
ACCURACY = AccuracyRecord(
    metric="accuracy",
    rows=872,
    artifact=0.901,
    model=0.904,
    lost=9,
    gained=6,
    flips=15,
    max_logit_distance=0.41,
)
WORD_ERRORS = AccuracyRecord(
    metric="word error rate",
    rows=260,
    artifact=0.1142,
    model=0.1101,
    lost=None,
    gained=None,
    flips=31,
    max_logit_distance=1.7,
    higher_is_better=False,
    drop=Interval(estimate=0.41, low=-0.12, high=0.97),
)
PLACEMENT = Placement(
    rows=(
        PlacementRow(precision="int8", device="cpu", nodes=74, time_share=0.93),
        PlacementRow(precision="fp32", device="cpu", nodes=121, time_share=0.07),
    ),
    source="the engine's profiler",
)
GOLDEN = GoldenRecord(cases=8, agreeing=8, max_abs_error=0.02, min_cosine=0.9991, outcome=Outcome.PASS)
BUDGET = Budget(
    latency_p50_ms=12,
    latency_p90_ms=13,
    latency_p99_ms=16,
    cold_start_ms=900,
    throughput_min=60,
    peak_memory_mib=150,
    artifact_mib=30,
    accuracy_drop=1.0,
    max_fallback=0.1,
    energy_mj=50,
)
SHAPES = tuple({"batch": 1, "sequence": length} for length in (16, 48, 128))
METHOD = (
    "each limit is judged on its own at 0.99 confidence, one-sided",
    "launch-bets: the claim is on the share of runs over the limit in a random launch",
)
#: What the made-up statistics say where launches do not.
_FOUND = {
    "cold_start_ms": Interval(estimate=700.0, low=688.0, high=713.0),
    "throughput_min": Interval(estimate=98.0, low=95.0, high=101.0),
    "peak_memory_mib": Interval(estimate=114.5, low=114.5, high=114.5),
    "artifact_mib": Interval(estimate=22.7, low=22.7, high=22.7),
    "accuracy_drop": Interval(estimate=0.344, low=-0.9, high=1.6),
    "max_fallback": Interval(estimate=0.07, low=0.07, high=0.07),
}
_PERCENTILES = {"latency_p50_ms": 0.5, "latency_p90_ms": 0.9, "latency_p99_ms": 0.99}


def launches(
    count: int = 50, runs: int = 40, seed: int = 0, disturbed_share: float = 0.02
) -> tuple[LaunchRecord, ...]:
    """Launches of a model of about 10 ms, a few runs disturbed."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(count):
        latency = 10.0 * np.exp(0.04 * generator.standard_normal() + 0.02 * generator.standard_normal(runs))
        disturbed = generator.random(runs) < disturbed_share
        latency = np.where(disturbed, latency * generator.uniform(1.1, 2.0, runs), latency)
        made.append(
            LaunchRecord(
                cold_start_ms=float(generator.normal(700, 25)),
                latency_ms=tuple(np.round(latency, 4).tolist()),
                cpu_ms=tuple(np.round(latency, 4).tolist()),
                wait_ms=tuple(np.where(disturbed, 1.0, 0.0).tolist()),
                disturbed=tuple(bool(mark) for mark in disturbed),
                control_ms=2.0 + float(disturbed.mean()),
                baseline_mib=60.0,
                peak_mib=60.0 + float(generator.normal(110, 2)),
                settled=True,
                cold_parts_ms={"start": 200.0, "import": 300.0, "open": 150.0, "first run": 50.0},
                seconds=1.4,
                began_s=1.4 * number,
            )
        )
    return tuple(made)


def told(made: tuple[LaunchRecord, ...], seed: int = 0) -> tuple[LaunchRecord, ...]:
    """The launches on a machine that tells all about itself, running a mix of three shapes."""
    generator = np.random.default_rng(seed)
    full = []
    for record in made:
        shape = generator.integers(0, len(SHAPES), len(record.latency_ms))
        factor = np.array([0.4, 0.7, 1.0])[shape]
        conditions = LaunchConditions(
            load=round(float(generator.gamma(2.0, 0.4)), 2),
            running=int(generator.integers(1, 5)),
            steal_share=round(float(generator.exponential(0.01)), 4),
            pressure_share=round(float(np.mean(record.disturbed)), 4),
            involuntary=int(generator.integers(0, 40)),
            mhz=round(float(generator.normal(2600, 90)), 0),
            celsius=round(float(generator.normal(61, 2)), 1),
            throttled=int(generator.random() < 0.05),
        )
        full.append(
            dataclasses.replace(
                record,
                latency_ms=tuple(np.round(np.array(record.latency_ms) * factor, 4).tolist()),
                shape=tuple(int(each) for each in shape),
                drift=round(float(generator.normal(0, 0.01)), 4),
                steady_mib=round(104 + float(generator.normal(0, 1)), 2),
                samples_per_second=round(float(generator.normal(98, 2)), 2),
                energy_mj=round(float(generator.normal(61, 2)), 2),
                conditions=conditions,
            )
        )
    return tuple(full)


def percentile(made: tuple[LaunchRecord, ...], share: float) -> Interval | None:
    """Of all runs, with bounds as wide as such measurements have; a p99 of few launches has no upper one."""
    values = [value for record in made for value in record.latency_ms]
    if not values:
        return None
    estimate = float(np.quantile(values, share))
    bounded = len(made) * (1.0 - share) >= 4.0
    return Interval(
        estimate=round(estimate, 2),
        low=round(0.97 * estimate, 2),
        high=round(1.03 * estimate, 2) if bounded else None,
    )


def judged(key: str, limit: float, made: tuple[LaunchRecord, ...]) -> Check:
    """One limit judged by the bounds alone."""
    found = percentile(made, _PERCENTILES[key]) if key in _PERCENTILES else _FOUND.get(key)
    unit, method = BUDGET_UNITS[key], "launch-bets" if key in _PERCENTILES else "exact"
    if found is None:
        reason = "no energy counter is read" if key == "energy_mj" else "no launch was measured"
        return Check(key=key, limit=limit, unit=unit, outcome=Outcome.NOT_MEASURED, reason=reason)
    sign = -1.0 if key.endswith("_min") else 1.0
    bounds = [None if bound is None else sign * bound for bound in (found.low, found.high)]
    worst, best = (bounds[1], bounds[0]) if sign > 0 else (bounds[0], bounds[1])
    if worst is not None and worst <= sign * limit:
        outcome, reason = Outcome.PASS, f"{len(made)} launches"
    elif best is not None and best > sign * limit:
        outcome, reason = Outcome.FAIL, f"{len(made)} launches"
    else:
        outcome = Outcome.INCONCLUSIVE
        reason = f"in {len(made)} launches neither is shown; about 12 more launches would prove PASS"
    return Check(
        key=key, limit=limit, unit=unit, outcome=outcome, observed=found, reason=reason, method=method
    )


def overall(checks: tuple[Check, ...]) -> Outcome:
    worst = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.NOT_MEASURED, Outcome.PASS)
    outcomes = {check.outcome for check in checks}
    return next((outcome for outcome in worst if outcome in outcomes), Outcome.NOT_MEASURED)


def report(
    budget: Budget = BUDGET, made: tuple[LaunchRecord, ...] | None = None, name: str = "kiosk"
) -> Manifest:
    """A report with the fields that every report has had from the first."""
    made = launches() if made is None else made
    checks = tuple(judged(key, limit, made) for key, limit in budget_items(budget))
    disturbed, runs = sum(sum(record.disturbed) for record in made), sum(len(r.latency_ms) for r in made)
    note = f"{disturbed} of {runs} runs were disturbed; they count as over a limit for PASS "
    note += "and as under it for FAIL"
    return manifest_of(
        ReportTable(
            artifact_digest="sha256:" + "ab" * 32,
            artifact_name=name,
            backend="example",
            precision="int8",
            verdict=overall(checks),
            confidence=0.99,
            checks=checks,
            machine=MACHINE,
            machine_is_target=True,
            target_name="this-machine",
            workload={"batch": 1, "sequence": 128},
            threads=1,
            artifact_mib=22.7,
            golden=GOLDEN,
            accuracy=ACCURACY,
            placement=PLACEMENT,
            latency_p50_ms=percentile(made, 0.5),
            latency_p90_ms=percentile(made, 0.9),
            latency_p99_ms=percentile(made, 0.99),
            cold_start_ms=_FOUND["cold_start_ms"],
            peak_memory_mib=_FOUND["peak_memory_mib"],
            launches=made,
            method=METHOD if checks else (),
            notes=(note,) if disturbed else (),
        )
    )


def rich(count: int = 60, runs: int = 50, rows: int = 15, texts: bool = False) -> Manifest:
    """A report that tells everything a report can tell."""
    made = told(launches(count, runs))
    plain = report(BUDGET, made)
    checks = tuple(
        dataclasses.replace(
            check,
            outcome=Outcome.PASS,
            observed=Interval(estimate=10.9, low=10.2, high=12.4),
            reason="60 launches",
            method="launch-effects",
            assumption="the launches' medians are spread like a normal distribution around one mean",
        )
        if check.key == "latency_p99_ms"
        else check
        for check in (plain.report.checks if plain.report else ())
    )
    accuracy = dataclasses.replace(
        ACCURACY,
        rows=max(872, rows),
        flips=rows,
        drop=Interval(estimate=0.344, low=-0.9, high=1.6),
        changed=changed_rows(rows, texts),
    )
    return changed(
        plain,
        checks=checks,
        accuracy=accuracy,
        throughput=Interval(estimate=98.0, low=95.0, high=101.0),
        steady_memory_mib=Interval(estimate=104.2, low=103.8, high=104.9),
        energy_mj=Interval(estimate=61.2, low=60.1, high=62.5),
        workload={"batch": 1, "sequence": 128},
        shapes=SHAPES,
        workload_source="shapes",
        streams=4,
        heat=HeatRecord(seconds=60.0, windows_ms=(10.2, 10.4, 10.9, 11.6, 12.0, 12.1)),
        calibration=calibration(),
        sensitivity=sensitivity(),
        kept_high=(sensitivity()[0].group,),
        operators=operators(),
        reproduce="edgekit validate build/kiosk --data test.jsonl --target ./kiosk.toml --confidence 0.99",
    )


def calibration() -> CalibrationReport:
    """Of rows with an odd one among them."""
    return CalibrationReport(
        rows=300,
        given=5400,
        repeated=2,
        lengths={"sequence": Lengths(least=6, lower=17, median=23, upper=31, most=53, workload=(128,))},
        classes={"negative": 161, "positive": 139},
        padding=0.0,
        ranges=38,
        range_rows=(
            RangeRow(row=217, ranges=14, tensor="/encoder/layer.3/Add", width=82.5, width_without=21.04),
        ),
        warnings=("the longest row has sequence 53, not half of the workload's 128",),
    )


def sensitivity() -> tuple[Sensitivity, ...]:
    """Of one group that was put back and two that were not."""
    costs = (
        ("encoder.layer.#.output.dense/MatMul", 6, 0.213, 31, 0.41),
        ("encoder.layer.#.attention.self.query/MatMul", 6, 0.009, 1, 0.22),
        ("classifier/Gemm", 1, 0.004, 0, -0.01),
    )
    return tuple(
        Sensitivity(group=group, nodes=nodes, error=error, flips=flips, saved_ms=saved)
        for group, nodes, error, flips, saved in costs
    )


def operators(count: int = 14) -> tuple[OperatorTime, ...]:
    """Operators of an encoder, the costliest first."""
    kinds = ("MatMul", "MatMul", "Softmax", "LayerNormalization", "Gelu")
    return tuple(
        OperatorTime(
            name=f"/encoder/layer.{number}/attention/self/query/{kinds[number % 5]}",
            op_type=kinds[number % 5],
            precision="int8" if number % 5 < 2 else "fp32",
            device="cpu",
            share=0.19 * 0.8**number,
        )
        for number in range(count)
    )


def changed_rows(count: int, texts: bool) -> tuple[ChangedRow, ...]:
    answers = ("negative", "positive")
    text = "the film is long, and its second half, which nobody cut, is longer still"
    return tuple(
        ChangedRow(
            number=7 * number + 3,
            label=answers[number % 2],
            model=answers[number % 3 % 2],
            artifact=answers[1 - number % 3 % 2],
            text=text if texts else "",
        )
        for number in range(count)
    )


def passing() -> Manifest:
    """Every limit proven, one of them under a model's assumption."""
    full = rich(texts=True)
    kept = tuple(
        check for check in (full.report.checks if full.report else ()) if check.outcome is Outcome.PASS
    )
    return changed(full, checks=kept, verdict=Outcome.PASS)


def failing() -> Manifest:
    """Too slow, and the answers differ from the exported model's."""
    golden = dataclasses.replace(GOLDEN, agreeing=6, outcome=Outcome.FAIL, reason="2 of 8 cases differ")
    full = report(Budget(latency_p50_ms=8, latency_p90_ms=9, throughput_min=120, artifact_mib=30))
    return changed(full, golden=golden, accuracy=WORD_ERRORS, machine_is_target=True)


def disturbed() -> Manifest:
    """A machine that was so busy that nothing could be decided."""
    made = (*launches(12, 50), *launches(30, 50, seed=1, disturbed_share=0.7), *launches(18, 50, seed=2))
    full = report(Budget(latency_p50_ms=10.2, latency_p90_ms=40, latency_p99_ms=45), told_plain(made))
    return changed(full, notes=(*(full.report.notes if full.report else ()), "the machine was busy"))


def told_plain(made: tuple[LaunchRecord, ...]) -> tuple[LaunchRecord, ...]:
    """One shape; the machine tells its load, and the time a hypervisor took for every other launch."""
    return tuple(
        dataclasses.replace(
            record,
            conditions=LaunchConditions(
                load=round(0.4 + 5 * float(np.mean(record.disturbed)), 2),
                steal_share=round(0.2 * float(np.mean(record.disturbed)), 4) if number % 2 else None,
            ),
        )
        for number, record in enumerate(made)
    )


def bare() -> Manifest:
    """Nothing but a verdict."""
    return changed(
        report(Budget(), ()),
        golden=None,
        accuracy=None,
        placement=None,
        cold_start_ms=None,
        peak_memory_mib=None,
        workload={},
    )


def manifest_of(table: ReportTable) -> Manifest:
    """The table in a manifest."""
    return Manifest(
        schema=1,
        kind="report",
        name=f"{table.artifact_name}.report",
        created="2026-01-02T03:04:05+00:00",
        edgekit="0.1.0",
        inputs=(InputEntry(role="artifact", digest="sha256:" + "ab" * 32, path="../kiosk"),),
        files=(),
        digest="sha256:" + "00" * 32,
        report=table,
    )


def changed(manifest: Manifest, **changes: object) -> Manifest:
    """The report with some fields of its table changed."""
    if manifest.report is None:
        raise ValueError("not a report")
    return manifest_of(dataclasses.replace(manifest.report, **changes))  # type: ignore[arg-type]
