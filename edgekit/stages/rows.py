"""Calibration and test rows: from the user's file to feeds, through the model's own processor."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from edgekit.tasks import Mapped, load_task
from edgekit.tasks.data import read_rows
from edgekit.values import ModelTable
from edgekit_runtime.feeds import write_feeds
from edgekit_runtime.processors import load_processor


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


def read_calibration(
    file: Path | None, model: Path, table: ModelTable, draw: Draw, scratch: Path
) -> CalibrationRows:
    """Draw calibration rows by seed, one feed per row, written below `scratch`."""
    if file is None:
        return CalibrationRows(feeds=None, digests=())
    task = load_task(table.task)
    rows = read_rows(file, task=task, labels=table.labels, mapped=draw.mapped, need_label=False)
    if len(rows) > draw.rows:
        rows = tuple(random.Random(draw.seed).sample(rows, draw.rows))
    processor = load_processor(model / "processor")
    write_feeds(scratch, (task.feeds(processor, [row]) for row in rows))
    return CalibrationRows(feeds=scratch, digests=tuple(row.digest for row in rows))
