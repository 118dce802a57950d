"""Calibration and test rows: from the user's file to feeds, through the model's own processor."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from edgekit.files.digests import file_digest, value_digest
from edgekit.stages.asking import Asker
from edgekit.stages.common import path_input
from edgekit.tasks import Mapped, Task, load_task
from edgekit.tasks.data import media_files, read_rows
from edgekit.values import InputEntry, ModelTable
from edgekit_runtime.feeds import write_feeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How calibration rows are drawn: at most `rows`, by `seed`, from a file with these names."""

    rows: int
    seed: int
    mapped: Mapped


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRows:
    """feeds: a directory that `read_feeds` reads, or None; digests: one per row used."""

    feeds: Path | None
    digests: tuple[str, ...]


def data_input(role: str, path: Path, task: Task, mapped: Mapped, *, need_label: bool) -> InputEntry:
    """Digest of a data file or folder, and of the images, recordings and masks that the file names."""
    entry = path_input(role, path)
    media = media_files(path, task=task, mapped=mapped, need_label=need_label)
    if not media:
        return entry
    digest = value_digest([entry.digest, *(file_digest(file) for file in media)])
    return InputEntry(role=role, digest=digest, path=entry.path)


def read_calibration(
    file: Path | None, model: Path, table: ModelTable, draw: Draw, scratch: Path
) -> CalibrationRows:
    """Draw calibration rows by seed and write the feeds of their runs, nearly always one a row, below
    `scratch`."""
    if file is None:
        return CalibrationRows(feeds=None, digests=())
    task = load_task(table.task)
    rows = read_rows(file, task=task, labels=table.labels, mapped=draw.mapped, need_label=False)
    if len(rows) > draw.rows:
        rows = tuple(random.Random(draw.seed).sample(rows, draw.rows))
    asker = Asker(task, table.labels, model / "processor", table.signature)
    write_feeds(scratch, (run.feeds for row in rows for run in asker.runs(row)))
    return CalibrationRows(feeds=scratch, digests=tuple(row.digest for row in rows))
