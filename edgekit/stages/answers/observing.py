"""What validate sees of an artifact before the clock starts: goldens, placement, operators, accuracy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.devices.base import Device
from edgekit.discovery import load_backend
from edgekit.host.client import WorkerClient
from edgekit.host.sessions import RemoteSession, open_remote
from edgekit.stages.answers.generated import count_generated
from edgekit.stages.answers.golden import check_goldens, goldens_not_measured
from edgekit.stages.answers.judging import JudgingOptions, judge_rows
from edgekit.stages.common import OnProgress
from edgekit.tasks import Row
from edgekit.values import (
    AccuracyRecord,
    ArtifactTable,
    GeneratedRecord,
    GoldenRecord,
    ModelTable,
    RunSettings,
)
from edgekit_runtime.errors import HardwareMissing
from edgekit_runtime.session import Feeds
from edgekit_runtime.values import OperatorTime, Placement

#: Operators that a report names.
COSTLIEST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An artifact, the model it was made from, and where and how it is run."""

    artifact: Path
    table: ArtifactTable
    model: Path
    model_table: ModelTable
    run: RunSettings
    device: Device

    def open(self, worker: WorkerClient) -> RemoteSession:
        """Open the artifact in a worker of its device."""
        return open_remote(worker, self.artifact, self.table.backend, self.table.precision, self.run)

    def worker(self) -> WorkerClient:
        """A fresh worker on the device, its threads pinned."""
        return WorkerClient(self.device, threads=self.run.threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedInputs:
    """What runs are timed on. typical: of the workload's shape; some: as one launch has them."""

    typical: Feeds
    some: Sequence[Feeds] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was seen. accuracy is None without rows; placement None when the backend cannot tell.

    operators: the costliest ones of a run at the workload's shape, empty when the backend cannot tell;
    generated: of a model that generates, how many tokens;
    cold_seconds, run_seconds: a cold start and a later run, for what a launch will take;
    unopened: what the device lacks to open the artifact at all, "" when it was opened.
    """

    golden: GoldenRecord
    placement: Placement | None
    accuracy: AccuracyRecord | None
    operators: tuple[OperatorTime, ...] = ()
    generated: GeneratedRecord | None = None
    cold_seconds: float = 0.0
    run_seconds: float = 0.0
    unopened: str = ""


def observe(
    subject: Subject,
    rows: Sequence[Row],
    timed: TimedInputs,
    how: JudgingOptions,
    on_progress: OnProgress,
) -> Observed:
    """Run goldens and rows through the artifact, and the rows through the exported model too."""
    workload = timed.typical
    capabilities = load_backend(subject.table.backend).capabilities
    begin = time.perf_counter()
    with subject.worker() as worker, subject.open(worker) as session:
        session.run(workload)
        cold = time.perf_counter() - begin
        on_progress(0, 0, "comparing with the goldens")
        golden = check_goldens(session, subject.model, subject.model_table, subject.table.precision)
        generated = count_generated(session, session.signature, timed.some)
        begin = time.perf_counter()
        session.run(workload)  # placement and profile are of the inputs last used, and hang on their shape
        run = time.perf_counter() - begin
        placement = session.placement() if "placement" in capabilities else None
        operators = session.profile() if "profile" in capabilities else ()
        accuracy = judge_rows(subject, session, rows, how, on_progress) if rows else None
    return Observed(
        golden=golden,
        placement=placement,
        accuracy=accuracy,
        operators=operators[:COSTLIEST],
        generated=generated,
        cold_seconds=cold,
        run_seconds=run,
    )


def observe_answers(
    subject: Subject, rows: Sequence[Row], how: JudgingOptions, on_progress: OnProgress
) -> Observed:
    """Goldens and rows alone, for a device whose times say nothing: placement and operators are timed too."""
    with subject.worker() as worker, subject.open(worker) as session:
        on_progress(0, 0, "comparing with the goldens")
        golden = check_goldens(session, subject.model, subject.model_table, subject.table.precision)
        accuracy = judge_rows(subject, session, rows, how, on_progress) if rows else None
    return Observed(golden=golden, placement=None, accuracy=accuracy)


def unopened(missing: HardwareMissing) -> Observed:
    """What is known of an artifact on a device that lacks what its engine runs on: nothing."""
    golden = goldens_not_measured(missing.message)
    return Observed(golden=golden, placement=None, accuracy=None, unopened=missing.message)
