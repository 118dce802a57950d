"""What validate measures and concludes, and the event that observers get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from edgekit.values.calibration import CalibrationReport
from edgekit_runtime.values import Machine, OperatorTime, Placement


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
    assumption: what must be true of the machine for the outcome to hold, beyond exchangeable launches;
    printed beside the outcome, "" when there is nothing.
    """

    key: str
    limit: float | None
    unit: str
    outcome: Outcome
    observed: Interval | None = None
    reason: str = ""
    method: str = ""
    assumption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchConditions:
    """The machine during one launch; None where the system does not tell.

    load: 1-minute load average before the launch; running: tasks that could run, the worker's own
    included; steal_share: CPU time that a hypervisor took, of the launch's wall time;
    pressure_share: part of the launch in which some task waited for a CPU;
    involuntary: involuntary context switches of the worker; mhz: of the cores, their mean;
    celsius: the hottest zone; throttled: times a core was slowed for its heat during the launch.
    """

    load: float | None = None
    running: int | None = None
    steal_share: float | None = None
    pressure_share: float | None = None
    involuntary: int | None = None
    mhz: float | None = None
    celsius: float | None = None
    throttled: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRecord:
    """One fresh worker process. Times in ms; wait_ms: run-queue wait of each run.

    cpu_ms and wait_ms are empty, and memory is None, where the system does not tell them.
    disturbed[i]: the run's reading cannot be trusted as undisturbed.
    settled: whether the warm-up came to rest, None when it was too short to tell;
    drift: its last block's median over the one before, less 1.
    cold_parts_ms: what the cold start consists of; seconds: the whole launch, all work included;
    began_s: seconds since the first launch began.
    shape: per run, which of `ReportTable.shapes` it had; empty when there is one shape.
    steady_mib: growth over the import once the runs are done (PSS where told, else RSS).
    samples_per_second: of the streams phase; energy_mj: of one run, all that ran on the machine included.
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
    began_s: float = 0.0
    drift: float | None = None
    shape: tuple[int, ...] = ()
    steady_mib: float | None = None
    samples_per_second: float | None = None
    streams_disturbed: bool = False
    energy_mj: float | None = None
    conditions: LaunchConditions = LaunchConditions()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedRow:
    """A row on which artifact and exported model answer differently.

    number: position in the data file, from 1; text: the row itself, only with `include_rows`.
    """

    number: int
    label: str
    model: str
    artifact: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyRecord:
    """Paired accuracy of artifact and exported model on the same rows.

    artifact, model: the metric; higher_is_better: its direction.
    lost: rows only the exported model answered right; gained: rows only the artifact did; both None for
    a metric that is no count of right rows. flips: rows whose answer changed.
    drop: the metric's drop in points (x100) with one-sided bounds; method: the word of its statistics.
    changed: the first rows that changed their answer.
    """

    metric: str
    rows: int
    artifact: float
    model: float
    lost: int | None
    gained: int | None
    flips: int
    max_logit_distance: float
    higher_is_better: bool = True
    drop: Interval | None = None
    method: str = "paired-score"
    changed: tuple[ChangedRow, ...] = ()


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
class HeatRecord:
    """The heat-up before the first launch: the model ran without a pause for `seconds`.

    windows_ms: median latency of successive windows of equal length; first and last tell the slow-down.
    """

    seconds: float
    windows_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedRecord:
    """How many tokens one run generated, over inputs like those that were timed: latency hangs on it.

    runs: how many were counted. Of a batch, as many as its longest answer has.
    """

    runs: int
    least: int
    median: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What quantizing one group of nodes alone costs, and what it saves.

    error: of the outputs, as a share of their size; flips: tune rows with another answer; saved_ms: of one
    launch's median, may be negative.
    """

    group: str
    nodes: int
    error: float
    flips: int
    saved_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """The `report` table: what validate found. method: the statistics, in one sentence each.

    artifact_digest: over its files; artifact_manifest: of its manifest.json, and so of how it is run.
    workload: the shape, or the largest of `shapes`; shapes: the mix when the workload is one;
    workload_source: "shape", "shapes", or "data" (the lengths of the given rows); streams: concurrent ones.
    operators: the costliest, with their share of a run. reproduce: the command that made the report.
    generated: None for a model that generates nothing. sensitivity: of the groups of nodes that could be
    quantized, the costliest first; kept_high: the groups that were not. calibration: what the rows were like
    that the artifact was calibrated on.
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
    steady_memory_mib: Interval | None = None
    throughput: Interval | None = None
    energy_mj: Interval | None = None
    shapes: tuple[Mapping[str, int], ...] = ()
    workload_source: str = "shape"
    streams: int = 1
    heat: HeatRecord | None = None
    generated: GeneratedRecord | None = None
    operators: tuple[OperatorTime, ...] = ()
    calibration: CalibrationReport | None = None
    sensitivity: tuple[Sensitivity, ...] = ()
    kept_high: tuple[str, ...] = ()
    reproduce: str = ""
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
