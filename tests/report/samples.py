"""Reports for tests: real launches' shape, made-up numbers, judged by the real judge."""

from __future__ import annotations

import dataclasses

import numpy as np

from edgekit.files.manifests import Manifest
from edgekit.measuring.disturbance import with_suspects
from edgekit.measuring.verdict import (
    Evidence,
    figures,
    judge,
    measurement_notes,
    method_sentences,
    overall_verdict,
)
from edgekit.values import (
    AccuracyRecord,
    Budget,
    GoldenRecord,
    InputEntry,
    LaunchRecord,
    Outcome,
    ReportTable,
)
from edgekit_runtime.values import Machine, Placement, PlacementRow

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
PLACEMENT = Placement(
    rows=(
        PlacementRow(precision="int8", device="cpu", nodes=74, time_share=0.93),
        PlacementRow(precision="fp32", device="cpu", nodes=121, time_share=0.07),
    ),
    source="the engine's profiler",
)
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


def launches(count: int = 50, runs: int = 40, seed: int = 0) -> tuple[LaunchRecord, ...]:
    """Launches of a model of about 10 ms, a few runs disturbed."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        latency = 10.0 * np.exp(0.04 * generator.standard_normal() + 0.02 * generator.standard_normal(runs))
        disturbed = generator.random(runs) < 0.02
        latency = np.where(disturbed, latency * generator.uniform(1.1, 2.0, runs), latency)
        made.append(
            LaunchRecord(
                cold_start_ms=float(generator.normal(700, 25)),
                latency_ms=tuple(np.round(latency, 4).tolist()),
                cpu_ms=tuple(np.round(latency, 4).tolist()),
                wait_ms=tuple(np.where(disturbed, 1.0, 0.0).tolist()),
                disturbed=tuple(bool(mark) for mark in disturbed),
                control_ms=2.0,
                baseline_mib=60.0,
                peak_mib=60.0 + float(generator.normal(110, 2)),
                settled=True,
                cold_parts_ms={"start": 200.0, "import": 300.0, "open": 150.0, "first run": 50.0},
                seconds=1.4,
            )
        )
    return tuple(made)


def report(
    budget: Budget = BUDGET, made: tuple[LaunchRecord, ...] | None = None, name: str = "kiosk"
) -> Manifest:
    """A whole report, judged as `validate` judges."""
    evidence = Evidence(
        precision="int8",
        launches=launches() if made is None else made,
        artifact_mib=22.7,
        placement=PLACEMENT,
        accuracy=ACCURACY,
    )
    checks = judge(budget, evidence, 0.99)
    found = figures(evidence.launches, 0.99)
    golden = GoldenRecord(cases=8, agreeing=8, max_abs_error=0.02, min_cosine=0.9991, outcome=Outcome.PASS)
    table = ReportTable(
        artifact_digest="sha256:" + "ab" * 32,
        artifact_name=name,
        backend="example",
        precision="int8",
        verdict=overall_verdict(checks, golden),
        confidence=0.99,
        checks=checks,
        machine=MACHINE,
        machine_is_target=True,
        target_name="this-machine",
        workload={"batch": 1, "sequence": 128},
        threads=1,
        artifact_mib=22.7,
        golden=golden,
        accuracy=ACCURACY,
        placement=PLACEMENT,
        latency_p50_ms=found.latency_p50_ms,
        latency_p90_ms=found.latency_p90_ms,
        latency_p99_ms=found.latency_p99_ms,
        cold_start_ms=found.cold_start_ms,
        peak_memory_mib=found.peak_memory_mib,
        launches=with_suspects(evidence.launches),
        method=method_sentences(checks, 0.99),
        notes=measurement_notes(evidence),
    )
    return manifest_of(table)


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
