"""Calibration and test rows: from the user's file to feeds, through the model's own processor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.errors import DataError
from edgekit.files.digests import file_digest, value_digest
from edgekit.files.graphs import Graph
from edgekit.measuring.inputs import lengths_text
from edgekit.stages.answers.asking import Asker
from edgekit.stages.common import OnProgress, path_input, quiet
from edgekit.stages.rows.calibration_report import (
    Known,
    Statistics,
    calibration_report,
    off_scale,
    range_rows,
    wide_rows,
)
from edgekit.stages.rows.drawing import DifferentRows, drawn_places
from edgekit.stages.rows.feed_files import count_feeds, is_feeds, read_feed_rows
from edgekit.stages.rows.recording import Answered, record_parts
from edgekit.tasks import Column, Mapped, Row, Task, load_task
from edgekit.tasks.base import LABEL, LABELS, TAGS
from edgekit.tasks.data import count_rows, each_row, media_files
from edgekit.values import CalibrationReport, InputEntry, LearntRanges, ModelTable
from edgekit_runtime.feeds import write_feeds
from edgekit_runtime.goldens import read_goldens
from edgekit_runtime.session import Feeds

#: Right answers that are labels, which can be counted.
_COUNTED = (LABEL, LABELS, TAGS)
_NOT_KNOWN = (
    "calibrated on the model's own inputs: a test row among them cannot be recognised, so keep them apart"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How calibration rows are drawn: at most `rows`, by `seed`, from a file with these names. spare: at
    most so many other rows of it are kept, with their right answers where the file has them."""

    rows: int
    seed: int
    mapped: Mapped
    spare: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSource:
    """The model that is calibrated: its directory, its table and its graphs. workload: the shapes that the
    target promises."""

    model: Path
    table: ModelTable
    graphs: tuple[Graph, ...]
    workload: tuple[Mapping[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRows:
    """feeds: by part of the model ("" for a model of one graph) a directory that `read_feeds` reads, {}
    without rows; numbers: of the row of each of them in the file; digests: one per row used; notes: for the
    artifact's manifest; report: what the rows are like, and seen, what it was made from.

    spare: rows of the file that are not calibrated on, none twice; unlabelled: why they hold no right
    answers, "" where they do or none were asked for.
    """

    feeds: Mapping[str, Path] = field(default_factory=dict)
    numbers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    digests: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    report: CalibrationReport | None = None
    seen: Statistics | None = None
    spare: tuple[Row, ...] = ()
    unlabelled: str = ""

    def reported(self, learnt: LearntRanges | None, warnings: Sequence[str] = ()) -> CalibrationReport | None:
        """The report with the ranges that the backend learnt, and more warnings; None without rows."""
        if self.report is None:
            return None
        found = LearntRanges(count=0) if learnt is None else learnt
        rows = range_rows(found, self.numbers)
        return replace(
            self.report,
            ranges=found.count,
            range_rows=rows,
            warnings=(*self.report.warnings, *warnings, *wide_rows(rows, found.count)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    """Rows of a file. rows: in the order they were drawn; given: in the file."""

    rows: tuple[Row, ...]
    given: int
    spare: tuple[Row, ...]
    unlabelled: str = ""


def data_input(role: str, path: Path, task: Task, mapped: Mapped, *, need_label: bool) -> InputEntry:
    """Digest of a data file or folder, and of the images, recordings and masks that the file names."""
    entry = path_input(role, path)
    media = () if is_feeds(path) else media_files(path, task=task, mapped=mapped, need_label=need_label)
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
    if is_feeds(file):
        return _of_feeds(file, source, draw, scratch, on_progress)
    return _of_rows(file, source, draw, scratch, on_progress)


def _of_rows(
    file: Path, source: CalibrationSource, draw: Draw, scratch: Path, on_progress: OnProgress
) -> CalibrationRows:
    """From rows that the model's processor reads."""
    table = source.table
    task = load_task(table.task)
    drawn = _draw(file, source, task, draw)
    digests = tuple(row.digest for row in drawn.rows)
    if len(digests) > 1 and len(set(digests)) == 1:
        raise _alike(file, len(digests))
    asker = Asker(task, table.labels, source.model / "processor", table.signature)
    writer = _Writer(source, draw.seed, scratch)
    runs = ((row.number, run.feeds) for row in drawn.rows for run in asker.runs(row))
    made = writer.written(file, runs, len(drawn.rows), on_progress)
    label = _label_column(task)
    known = Known(
        rows=len(digests),
        given=drawn.given,
        distinct=len(set(digests)),
        classes=_classes(label, drawn.rows),
        labels=table.labels if label is not None and label.holds == LABEL else (),
        workload=source.workload,
    )
    return replace(
        made,
        digests=digests,
        notes=(_used(known, writer.seen), *made.notes),
        report=calibration_report(known, writer.seen),
        spare=drawn.spare,
        unlabelled=drawn.unlabelled,
    )


def _of_feeds(
    file: Path, source: CalibrationSource, draw: Draw, scratch: Path, on_progress: OnProgress
) -> CalibrationRows:
    """From a model's own inputs. All rows are read and checked, those drawn are kept."""
    given = count_feeds(file, source.table)
    places = set(drawn_places(given, draw.rows, draw.seed))
    digests: list[str] = []

    def runs() -> Iterator[tuple[int, Feeds]]:
        for row in read_feed_rows(file, source.table):
            if row.number - 1 in places:
                digests.append(row.digest)
                yield row.number, row.feeds

    writer = _Writer(source, draw.seed, scratch)
    made = writer.written(file, runs(), len(places), on_progress)
    known = Known(rows=len(digests), given=given, distinct=len(set(digests)), workload=source.workload)
    report = calibration_report(known, writer.seen)
    odd = off_scale(writer.seen, _goldens(source))
    return replace(
        made,
        digests=tuple(digests),
        notes=(_used(known, writer.seen), *made.notes, _NOT_KNOWN),
        report=replace(report, warnings=(*odd, *report.warnings)),
        unlabelled=f"{file.name} holds inputs, and no right answers",
    )


# --- drawing ------------------------------------------------------------------------------------------------


def _draw(file: Path, source: CalibrationSource, task: Task, draw: Draw) -> _Drawn:
    """With labels where the file has them: rows need none to be calibrated on."""
    label = _label_column(task)
    if label is not None and (draw.spare or label.holds in _COUNTED):
        try:
            return _read(file, source, task, draw, need_label=True)
        except DataError as problem:
            # what is wrong with more than the labels is raised again here
            return replace(_read(file, source, task, draw, need_label=False), unlabelled=problem.message)
    return _read(file, source, task, draw, need_label=False)


def _read(file: Path, source: CalibrationSource, task: Task, draw: Draw, *, need_label: bool) -> _Drawn:
    given = count_rows(file, task=task, mapped=draw.mapped)
    places = {place: turn for turn, place in enumerate(drawn_places(given, draw.rows, draw.seed))}
    drawn: dict[int, Row] = {}
    others = DifferentRows(draw.spare + len(places) if draw.spare else 0, draw.seed)
    rows = each_row(file, task=task, labels=source.table.labels, mapped=draw.mapped, need_label=need_label)
    for place, row in enumerate(rows):
        if place in places:
            drawn[places[place]] = row
        else:
            others.see(row)
    taken = tuple(drawn[turn] for turn in sorted(drawn))
    return _Drawn(rows=taken, given=given, spare=others.found(draw.spare, {row.digest for row in taken}))


def _label_column(task: Task) -> Column | None:
    return next((column for column in task.columns if column.label), None)


def _classes(label: Column | None, rows: Sequence[Row]) -> dict[str, int]:
    """How many rows, or words of them, have each label; {} where no labels were read."""
    if label is None or label.holds not in _COUNTED:
        return {}
    counts: Counter[str] = Counter()
    for row in rows:
        if row.truth is not None:
            counts.update([row.truth] if label.holds == LABEL else row.truth)
    return dict(counts.most_common())


# --- writing ------------------------------------------------------------------------------------------------


class _Writer:
    """Writes feeds below `scratch`, by part of the model, and looks at each of them once."""

    def __init__(self, source: CalibrationSource, seed: int, scratch: Path) -> None:
        self._source = source
        self._seed = seed
        self._scratch = scratch
        self.seen = Statistics(source.table.signature)
        self._numbers: list[int] = []

    def written(
        self, file: Path, runs: Iterator[tuple[int, Feeds]], rows: int, on_progress: OnProgress
    ) -> CalibrationRows:
        """runs: the number of the row that each is of, and its feeds. Raises DataError when all are alike."""
        made = self._by_part(self._watched(runs), rows, on_progress)
        if len(self.seen.sizes) > 1 and len(self.seen.digests) == 1:
            raise _alike(file, rows, " once they are the model's inputs")
        return made

    def _watched(self, runs: Iterator[tuple[int, Feeds]]) -> Iterator[Feeds]:
        for number, feeds in runs:
            self._numbers.append(number)
            self.seen.see(feeds)
            yield feeds

    def _by_part(self, runs: Iterator[Feeds], rows: int, on_progress: OnProgress) -> CalibrationRows:
        source, scratch = self._source, self._scratch
        if not source.table.parts:
            write_feeds(scratch, runs)
            return CalibrationRows(feeds={"": scratch}, numbers={"": tuple(self._numbers)}, seen=self.seen)
        answered = Answered(count=rows, feeds=runs)
        found = record_parts(source.graphs, source.model, answered, self._seed, scratch, on_progress)
        told = "; ".join(f"{part} on {each.kept:,} of {each.runs:,} runs" for part, each in found.items())
        return CalibrationRows(
            feeds={part: each.directory for part, each in found.items()},
            numbers={part: tuple(self._numbers[run] for run in each.of) for part, each in found.items()},
            notes=(f"calibrated by part: {told}",),
            seen=self.seen,
        )


def _goldens(source: CalibrationSource) -> Statistics:
    """What the model's recorded inputs are like."""
    found = Statistics(source.table.signature)
    for golden in read_goldens(source.model / "golden"):
        found.see(golden.feeds)
    return found


def _alike(file: Path, rows: int, when: str = "") -> DataError:
    return DataError(
        f"{file}: the {rows} calibration rows are all the same{when}, which tells nothing of other inputs",
        hint="give some hundred different rows that look like those in use",
    )


def _used(known: Known, seen: Statistics) -> str:
    rows = _rows(known.rows)
    if known.rows < known.given:
        rows = f"{known.rows:,} of {_rows(known.given)}, drawn by seed"
    lengths = lengths_text(seen.sizes)
    return f"calibrated on {rows}{f'; {lengths}' if lengths else ''}"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
