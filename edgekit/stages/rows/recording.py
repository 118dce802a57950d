"""What each part of a model sees while the whole answers calibration rows, written as feeds of that part.

The parts run in the reference backend, in fp32. Of each row some runs of a part are kept, drawn alike from
all positions of the answer; it is written before the next one begins, so memory hangs on one row's size only.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.files.graphs import PIPELINE_FILE, Graph
from edgekit.host.reference import open_reference_parts
from edgekit.stages.common import OnProgress
from edgekit_runtime.errors import ManifestError
from edgekit_runtime.feeds import pack
from edgekit_runtime.pipelines import EncoderDecoder, read_pipeline
from edgekit_runtime.session import Array, Feeds, Session
from edgekit_runtime.values import OperatorTime, Placement, Signature

#: Runs of one part that are kept of a row.
RUNS_PER_ROW = 4
#: Files of one part's feeds on the disk, all rows together.
MOST_BYTES = 2 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Feeds of one part. runs: that it made; kept: of them, on the disk; of: for each of those, which of the
    whole's runs it was part of, from 0."""

    directory: Path
    runs: int
    kept: int
    of: tuple[int, ...]


class RunRecorder:
    """Keeps some runs of one part as feeds in `directory`: at most RUNS_PER_ROW of a row, drawn by seed.

    rows: how many are to come; where their runs would take over MOST_BYTES, fewer of each row are kept,
    and then only every n-th row.
    """

    def __init__(self, directory: Path, rows: int, seed: int) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.runs = 0
        self.kept = 0
        self.of: list[int] = []
        self._rows = rows
        self._random = random.Random(seed)
        self._row = 0
        self._every, self._most = 1, 0
        self._seen = 0
        self._drawn: list[tuple[int, dict[str, Array]]] = []

    def take(self, feeds: Feeds) -> None:
        """A run of the row that is being answered."""
        if not self._most:
            self._settle(sum(value.nbytes for value in feeds.values()))
        self.runs += 1
        if self._row % self._every:
            return
        place = self._seen if self._seen < self._most else self._random.randrange(self._seen + 1)
        if place < self._most:  # the n-th run replaces one of k with a chance of k in n: all are as likely
            copy = {name: np.array(value) for name, value in feeds.items()}
            self._drawn[place : place + 1] = [(self._seen, copy)]
        self._seen += 1

    def end_row(self) -> None:
        """Write what was drawn of the row, in the order it ran."""
        for _, feeds in sorted(self._drawn, key=lambda drawn: drawn[0]):
            (self.directory / f"{self.kept:06d}.safetensors").write_bytes(pack(feeds))
            self.kept += 1
            self.of.append(self._row)
        self._row += 1
        self._seen = 0
        self._drawn = []

    def _settle(self, run_bytes: int) -> None:
        affordable = MOST_BYTES // max(1, run_bytes * self._rows)
        self._most = min(RUNS_PER_ROW, max(1, affordable))
        self._every = 1 if affordable else -(-run_bytes * self._rows // MOST_BYTES)


class RecordedSession:
    """A session that tells a recorder what it is run on."""

    def __init__(self, session: Session, recorder: RunRecorder) -> None:
        self._session = session
        self._recorder = recorder

    @property
    def signature(self) -> Signature:
        """Of the session within."""
        return self._session.signature

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """One inference, recorded."""
        self._recorder.take(feeds)
        return self._session.run(feeds)

    def placement(self) -> Placement:
        """Of the session within."""
        return self._session.placement()

    def profile(self) -> tuple[OperatorTime, ...]:
        """Of the session within."""
        return self._session.profile()

    def close(self) -> None:
        """Close the session within."""
        self._session.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The rows that the whole answers. count: how many there are; feeds: theirs, one after another."""

    count: int
    feeds: Iterable[Feeds]


def record_parts(
    graphs: tuple[Graph, ...],
    model: Path,
    rows: Answered,
    seed: int,
    scratch: Path,
    on_progress: OnProgress,
) -> Mapping[str, Recorded]:
    """Let the whole of the model directory `model` answer every row and keep what each part saw, below
    `scratch` by part. Raises ManifestError for a model of several graphs without its pipeline.json."""
    pipeline = read_pipeline(model)
    if pipeline is None:
        raise ManifestError(f"{model / PIPELINE_FILE} is missing", hint="export the model again")
    recorders = {
        graph.part: RunRecorder(scratch / graph.part, rows.count, seed + number)
        for number, graph in enumerate(graphs)
    }
    with open_reference_parts(graphs) as sessions:
        parts = {part: RecordedSession(session, recorders[part]) for part, session in sessions.items()}
        whole = EncoderDecoder(parts, pipeline)
        for number, feeds in enumerate(rows.feeds, start=1):
            whole.run(feeds)
            for recorder in recorders.values():
                recorder.end_row()
            on_progress(number, rows.count, "answering the calibration rows")
    return {
        part: Recorded(
            directory=recorder.directory, runs=recorder.runs, kept=recorder.kept, of=tuple(recorder.of)
        )
        for part, recorder in recorders.items()
    }
