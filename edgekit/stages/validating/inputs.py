"""What an artifact is timed on: its workload's shape, a mix of shapes, or the rows of a data file."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.measuring.inputs import feeds_count, lengths_note, median_sizes, mixed_feeds, sizes_of
from edgekit.stages.answers.asking import Asker
from edgekit.targets import WorkloadShapes
from edgekit.targets.workloads import DATA
from edgekit.tasks import Row, load_task
from edgekit.values import ModelTable
from edgekit_runtime.goldens import read_goldens
from edgekit_runtime.session import Feeds
from edgekit_runtime.values import Signature

#: Different inputs in one launch, so that no cache of inputs or results can help.
FEEDS_PER_LAUNCH = 16
#: Inputs of one launch are held in memory twice and cross a pipe.
_MOST_BYTES = 256 << 20
_LEAST_ROWS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The model that the artifact was made from, and the artifact's own signature."""

    path: Path
    table: ModelTable
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuringInputs:
    """Feeds for launches. launch: number -> feeds; typical: at which placement and operators are read.

    workload: the shape, the largest of a mix, or the rows' median sizes; shapes: the mix, empty without;
    source: "shape", "shapes" or "data"; batch: samples in a run, of a mix their mean, rounded down.
    """

    launch: Callable[[int], Sequence[Feeds]]
    typical: Feeds
    workload: Mapping[str, int]
    source: str
    shapes: tuple[Mapping[str, int], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def mix(self) -> int:
        """How many shapes the feeds of a launch have in turn."""
        return max(1, len(self.shapes))

    @property
    def batch(self) -> int:
        """Samples in one run."""
        sizes = [shape.get("batch", 1) for shape in self.shapes or (self.workload,)]
        return max(1, sum(sizes) // len(sizes))


def shaped_inputs(model: Model, found: WorkloadShapes, seed: int) -> MeasuringInputs:
    """Feeds at one shape or a mix, fresh for each launch, drawn from what the goldens hold."""
    examples = [golden.feeds for golden in read_goldens(model.path / "golden")]
    shapes = found.shapes
    count = feeds_count(model.signature, shapes, most=FEEDS_PER_LAUNCH, limit=_MOST_BYTES)

    def launch(number: int) -> Sequence[Feeds]:
        return mixed_feeds(model.signature, shapes, examples, count=count, seed=launch_seed(seed, number))

    return MeasuringInputs(
        launch=launch,
        typical=launch(0)[shapes.index(found.largest)],
        workload=found.largest,
        source=found.source,
        shapes=shapes if len(shapes) > 1 else (),
    )


def row_inputs(model: Model, rows: Sequence[Row], seed: int, count: int) -> MeasuringInputs:
    """Real rows, `count` runs for each launch, drawn with replacement, unpadded. A row that the task puts
    to the model by several runs counts as several.

    Raises UsageError for fewer than two different rows, DataError for one that is no input.
    """
    if len({row.digest for row in rows}) < _LEAST_ROWS:
        raise UsageError(
            f"a workload as in data needs at least {_LEAST_ROWS} different rows, so that runs do not repeat",
            hint="give more rows by --data, or a shape such as --workload sequence=128",
        )
    asker = Asker(load_task(model.table.task), model.table.labels, model.path / "processor", model.signature)
    entries = [(row, entry) for row in rows for entry in asker.entries(row)]

    def launch(number: int) -> Sequence[Feeds]:
        drawn = random.Random(launch_seed(seed, number)).choices(entries, k=count)
        return [asker.prepared(row, entry).feeds for row, entry in drawn]

    sizes = [sizes_of(model.signature, asker.prepared(row, entry).feeds) for row, entry in entries]
    middle = sorted(range(len(entries)), key=lambda index: tuple(sizes[index].values()))[len(entries) // 2]
    return MeasuringInputs(
        launch=launch,
        typical=asker.prepared(*entries[middle]).feeds,
        workload=median_sizes(sizes),
        source=DATA,
        notes=(lengths_note(sizes),) if any(sizes) else (),
    )


def launch_seed(seed: int, number: int) -> int:
    """A seed for each launch of each seed."""
    return seed * 1_000_003 + number
