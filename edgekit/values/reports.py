"""What validate measures and concludes, and the event that observers get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from edgekit_runtime.values import Machine, Placement


class Outcome(StrEnum):
    """What a budget check says. Only PASS is a proof that the budget is kept."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_MEASURED = "NOT_MEASURED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its one-sided bounds at the report's confidence; None when unbounded."""

    estimate: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One budget key judged. reason says why it is not PASS, or on what a PASS rests.

    method: the word of the statistics used; `ReportTable.method` explains each word.
    """

    key: str
    limit: float | None
    unit: str
    outcome: Outcome
    observed: Interval | None = None
    reason: str = ""
    method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRecord:
    """One fresh worker process. Times in ms; wait_ms: run-queue wait of each run.

    cpu_ms and wait_ms are empty, and memory is None, where the system does not tell them.
    disturbed[i]: the run's reading cannot be trusted as undisturbed.
    settled: whether the warm-up came to rest, None when it was too short to tell.
    cold_parts_ms: what the cold start consists of; seconds: the whole launch, all work included.
    """

    cold_start_ms: float
    latency_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    wait_ms: tuple[float, ...]
    disturbed: tuple[bool, ...]
    control_ms: float
    baseline_mib: float | None
    peak_mib: float | None
    settled: bool | None = None
    cold_disturbed: bool = False
    cold_parts_ms: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyRecord:
    """Paired accuracy of artifact and exported model on the same rows. Metrics in [0, 1].

    lost: rows only the exported model answered right; gained: rows only the artifact did;
    flips: rows whose prediction changed.
    """

    metric: str
    rows: int
    artifact: float
    model: float
    lost: int
    gained: int
    flips: int
    max_logit_distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRecord:
    """The artifact against the recorded outputs of the original."""

    cases: int
    agreeing: int
    max_abs_error: float
    min_cosine: float
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """The `report` table: what validate found. method: the statistics, in one sentence each.

    artifact_digest: over its files; artifact_manifest: of its manifest.json, and so of how it is run.
    """

    artifact_digest: str
    artifact_manifest: str = ""
    artifact_name: str
    backend: str
    precision: str
    verdict: Outcome
    confidence: float
    checks: tuple[Check, ...]
    machine: Machine
    machine_is_target: bool
    target_name: str
    workload: Mapping[str, int]
    threads: int
    artifact_mib: float
    golden: GoldenRecord | None = None
    accuracy: AccuracyRecord | None = None
    placement: Placement | None = None
    latency_p50_ms: Interval | None = None
    latency_p90_ms: Interval | None = None
    latency_p99_ms: Interval | None = None
    cold_start_ms: Interval | None = None
    peak_memory_mib: Interval | None = None
    launches: tuple[LaunchRecord, ...] = ()
    method: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEvent:
    """What observers of `edgekit_stage_finished` get. output: the directory that was written."""

    stage: str
    output: Path
    seconds: float
    up_to_date: bool
    verdict: Outcome | None = None
