"""Calibration and test rows: from the user's file to feeds, through the model's own processor."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.errors import DataError
from edgekit.files.digests import file_digest, value_digest
from edgekit.files.graphs import Graph
from edgekit.measuring.inputs import lengths_text, sizes_of
from edgekit.stages.asking import Asker
from edgekit.stages.common import OnProgress, path_input, quiet
from edgekit.stages.recording import Answered, record_parts
from edgekit.tasks import Mapped, Row, Task, load_task
from edgekit.tasks.data import media_files, read_rows
from edgekit.values import InputEntry, ModelTable
from edgekit_runtime.feeds import write_feeds
from edgekit_runtime.session import Feeds

_BATCH = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How calibration rows are drawn: at most `rows`, by `seed`, from a file with these names."""

    rows: int
    seed: int
    mapped: Mapped


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSource:
    """The model that is calibrated: its directory, its table and its graphs."""

    model: Path
    table: ModelTable
    graphs: tuple[Graph, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRows:
    """feeds: by part of the model ("" for a model of one graph) a directory that `read_feeds` reads, {}
    without rows; digests: one per row used; notes: what they are like, for the artifact's manifest."""

    feeds: Mapping[str, Path] = field(default_factory=dict)
    digests: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def data_input(role: str, path: Path, task: Task, mapped: Mapped, *, need_label: bool) -> InputEntry:
    """Digest of a data file or folder, and of the images, recordings and masks that the file names."""
    entry = path_input(role, path)
    media = media_files(path, task=task, mapped=mapped, need_label=need_label)
    if not media:
        return entry
    digest = value_digest([entry.digest, *(file_digest(file) for file in media)])
    return InputEntry(role=role, digest=digest, path=entry.path)


def read_calibration(
    file: Path | None,
    source: CalibrationSource,
    draw: Draw,
    scratch: Path,
    on_progress: OnProgress = quiet,
) -> CalibrationRows:
    """Draw calibration rows by seed and write the feeds of their runs, nearly always one a row, below
    `scratch`, a run at a time. Of a model of several graphs, each part gets what it sees of them.

    Raises DataError for rows that cannot be read or are all the same.
    """
    if file is None:
        return CalibrationRows()
    table = source.table
    task = load_task(table.task)
    rows = read_rows(file, task=task, labels=table.labels, mapped=draw.mapped, need_label=False)
    given = len(rows)
    if given > draw.rows:
        rows = tuple(random.Random(draw.seed).sample(rows, draw.rows))
    _refuse_alike(file, rows)
    asker = Asker(task, table.labels, source.model / "processor", table.signature)
    sizes: list[dict[str, int]] = []

    def runs() -> Iterator[Feeds]:
        for row in rows:
            for run in asker.runs(row):
                sizes.append(sizes_of(table.signature, run.feeds))
                yield run.feeds

    feeds, kept = _written(source, runs(), len(rows), draw.seed, scratch, on_progress)
    return CalibrationRows(
        feeds=feeds,
        digests=tuple(row.digest for row in rows),
        notes=(_used(len(rows), given, sizes), *kept, *_repeated(rows)),
    )


def _written(
    source: CalibrationSource,
    runs: Iterator[Feeds],
    count: int,
    seed: int,
    scratch: Path,
    on_progress: OnProgress,
) -> tuple[Mapping[str, Path], tuple[str, ...]]:
    """The feeds of each part, and what to say of them."""
    if not source.table.parts:
        write_feeds(scratch, runs)
        return {"": scratch}, ()
    answered = Answered(count=count, feeds=runs)
    found = record_parts(source.graphs, source.model, answered, seed, scratch, on_progress)
    parts = "; ".join(f"{part} on {each.kept:,} of {each.runs:,} runs" for part, each in found.items())
    return {part: each.directory for part, each in found.items()}, (f"calibrated by part: {parts}",)


def _refuse_alike(file: Path, rows: Sequence[Row]) -> None:
    if len(rows) > 1 and len({row.digest for row in rows}) == 1:
        raise DataError(
            f"{file}: the {len(rows)} calibration rows are all the same, which tells nothing of other inputs",
            hint="give some hundred different rows that look like those in use",
        )


def _used(used: int, given: int, sizes: Sequence[Mapping[str, int]]) -> str:
    rows = _rows(used) if used == given else f"{used:,} of {_rows(given)}, drawn by seed"
    lengths = lengths_text([{axis: size for axis, size in row.items() if axis != _BATCH} for row in sizes])
    return f"calibrated on {rows}{f'; {lengths}' if lengths else ''}"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _repeated(rows: Sequence[Row]) -> tuple[str, ...]:
    again = len(rows) - len({row.digest for row in rows})
    if not again:
        return ()
    return (f"calibration: {again:,} of the {len(rows):,} rows repeat another one and teach nothing new",)
