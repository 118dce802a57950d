"""What validate sees of an artifact before the clock starts: goldens, placement, accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.devices.base import Device
from edgekit.discovery import load_backend
from edgekit.host.client import WorkerClient
from edgekit.host.reference import open_reference
from edgekit.host.sessions import RemoteSession, open_remote
from edgekit.measuring.accuracy import logit_distance, paired_accuracy
from edgekit.stages.common import OnProgress
from edgekit.stages.golden import check_goldens
from edgekit.tasks import Row, load_task
from edgekit.values import AccuracyRecord, ArtifactTable, GoldenRecord, ModelTable, RunSettings
from edgekit_runtime.processors import load_processor
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.values import Placement

_CHUNK = 64


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
class Observed:
    """What was seen. accuracy is None without rows; placement None when the backend cannot tell."""

    golden: GoldenRecord
    placement: Placement | None
    accuracy: AccuracyRecord | None


def observe(subject: Subject, rows: Sequence[Row], workload: Feeds, on_progress: OnProgress) -> Observed:
    """Run goldens and rows through the artifact, and the rows through the exported model too."""
    spec = load_backend(subject.table.backend)
    with subject.worker() as worker, subject.open(worker) as session:
        on_progress(0, 0, "comparing with the goldens")
        golden = check_goldens(session, subject.model, subject.model_table, subject.table.precision)
        session.run(workload)  # placement is read on the inputs last used; its shares hang on their shape
        placement = session.placement() if "placement" in spec.capabilities else None
        accuracy = _accuracy(subject, session, rows, on_progress) if rows else None
    return Observed(golden=golden, placement=placement, accuracy=accuracy)


def _accuracy(
    subject: Subject, session: RemoteSession, rows: Sequence[Row], on_progress: OnProgress
) -> AccuracyRecord:
    """Both answer every row alone, unpadded, as a device would be asked."""
    task = load_task(subject.model_table.task)
    processor = load_processor(subject.model / "processor")
    labels = subject.model_table.labels
    answers: tuple[list[str], list[str]] = ([], [])
    distance = 0.0
    with open_reference(subject.model / "model.onnx", subject.model_table.signature) as reference:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            feeds = [task.feeds(processor, [row]) for row in chunk]
            outputs = (reference.run_many(feeds), session.run_many(feeds))
            for side, found in zip(answers, outputs, strict=True):
                side.extend(task.predictions(one, labels)[0] for one in found)
            distance = max(distance, _farthest(*outputs))
            on_progress(start + len(chunk), len(rows), "judging the test rows")
    model, artifact = answers
    return paired_accuracy(
        task.correct(model, rows),
        task.correct(artifact, rows),
        flips=sum(before != after for before, after in zip(model, artifact, strict=True)),
        metric=task.metric,
        max_logit_distance=distance,
    )


def _farthest(model: list[dict[str, Array]], artifact: list[dict[str, Array]]) -> float:
    return max(logit_distance(one, other) for one, other in zip(model, artifact, strict=True))
