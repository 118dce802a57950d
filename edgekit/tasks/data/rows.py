"""Records to rows: the task's columns of each, checked one by one and against one another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.errors import DataError, UsageError
from edgekit.files.digests import file_digest, value_digest
from edgekit.files.tables import nearest
from edgekit.tasks.base import (
    ANSWER,
    AUDIO,
    BOXES,
    IMAGE,
    LABEL,
    LABELS,
    MASK,
    TAGS,
    TEXT,
    Column,
    Mapped,
    Row,
    Task,
    Value,
)
from edgekit.tasks.data.cells import READERS, Source, media
from edgekit.tasks.data.embedded import embedded_bytes
from edgekit.tasks.data.files import Record, file_records
from edgekit.tasks.data.folders import folder_records
from edgekit.tasks.data.masks import image_size

#: What --labels is about, and what names files.
_OF_LABELS, _OF_FILES = (LABEL, LABELS, TAGS, BOXES), (IMAGE, AUDIO, MASK)
_Cells = Mapping[Column, object]


def read_rows(
    path: Path,
    *,
    task: Task,
    labels: Sequence[str],
    mapped: Mapped | None = None,
    need_label: bool = True,
) -> tuple[Row, ...]:
    """Every row of `path`, in order; as `each_row`, all of them in memory."""
    return tuple(each_row(path, task=task, labels=labels, mapped=mapped, need_label=need_label))


def each_row(
    path: Path,
    *,
    task: Task,
    labels: Sequence[str],
    mapped: Mapped | None = None,
    need_label: bool = True,
) -> Iterator[Row]:
    """The rows of `path` one after another: of a .jsonl, .csv or .parquet file, or of a folder with a folder
    for each class.

    labels: the model's, in class order. A label may be one of them, or its class number. With
    `need_label=False` (calibration) the label column is not read.
    Raises DataError naming file, row and column.
    """
    mapped = mapped or Mapped()
    if not task.columns:
        raise DataError(
            f"{path}: a model of task {task.name!r} cannot be judged on rows",
            hint="leave out the file; --calibration takes the model's inputs as .npz",
        )
    columns = [column for column in task.columns if need_label or not column.label]
    if mapped.labels and need_label and not any(column.holds in _OF_LABELS for column in columns):
        raise DataError(f"--labels: rows of task {task.name!r} hold no labels", hint="leave it out")
    names = _column_names(columns, task, mapped)
    folder = _folder(path)
    found = 0
    for record in _records(path, task, mapped, need_label, tuple(names.values())):
        source = Source(folder=folder, plain=record.plain, labels=labels, renamed=mapped.labels)
        yield _row(record, names, source)
        found += 1
    if not found:
        raise DataError(f"{path}: holds no rows", hint=f"a row has the columns {_column_list(columns)}")


def count_rows(path: Path, *, task: Task, mapped: Mapped) -> int:
    """How many rows `each_row` would give, which are not looked at. Raises DataError."""
    names = [mapped.columns.get(column.name, column.name) for column in task.columns]
    return sum(1 for _ in _records(path, task, mapped, need_label=False, columns=names[:1]))


def media_files(
    path: Path, *, task: Task, mapped: Mapped | None = None, need_label: bool = True
) -> tuple[Path, ...]:
    """The files that the rows of a data file name, in their order: they are part of the data. Those that
    lie inside it are not among them.

    Raises DataError for one that does not exist.
    """
    mapped = mapped or Mapped()
    columns = [
        column for column in task.columns if column.holds in _OF_FILES and (need_label or not column.label)
    ]
    if not columns or path.is_dir():
        return ()
    names = {column: mapped.columns.get(column.name, column.name) for column in columns}
    source = Source(folder=_folder(path), plain=False, labels=(), renamed={})
    return tuple(
        media(f"{record.where}, column {name!r}", record.cells[name], source)
        for record in _records(path, task, mapped, need_label=False, columns=tuple(names.values()))
        for name in names.values()
        if record.cells.get(name) and embedded_bytes(record.cells[name]) is None
    )


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _records(
    path: Path, task: Task, mapped: Mapped, need_label: bool, columns: Collection[str]
) -> Iterator[Record]:
    if path.is_dir():
        return folder_records(path, task, mapped.columns, need_label)
    return file_records(path, columns)


def _column_names(columns: Sequence[Column], task: Task, mapped: Mapped) -> dict[Column, str]:
    known = {column.name for column in task.columns}
    for name in mapped.columns:
        if name not in known:
            raise DataError(
                f"--columns: task {task.name!r} has no column {name!r}", hint=nearest(name, known)
            )
    return {column: mapped.columns.get(column.name, column.name) for column in columns}


def _column_list(columns: Sequence[Column]) -> str:
    return ", ".join(column.name if column.required else f"{column.name} (optional)" for column in columns)


# --- one row ------------------------------------------------------------------------------------------


def _row(record: Record, names: Mapping[Column, str], source: Source) -> Row:
    cells = _cells(record, names)
    values: dict[str, Value] = {}
    for column, cell in cells.items():
        if not column.label:
            values[column.name] = READERS[column.holds](_at(record, names[column]), cell, source)
    truth = None
    for column, cell in cells.items():
        if column.label:
            where = _at(record, names[column])
            truth = READERS[column.holds](where, cell, source)
            _check_about(where, column, truth, values)
    digested = {name: _digested(record.where, value) for name, value in values.items()}
    return Row(number=record.number, values=values, digest=value_digest(digested), truth=truth)


def _cells(record: Record, names: Mapping[Column, str]) -> _Cells:
    """The task's columns of one record; optional ones only where they are not left open."""
    cells: dict[Column, object] = {}
    for column, name in names.items():
        if name in record.cells:
            cell = record.cells[name]
            is_open = cell is None or (record.plain and cell == "" and column.holds != TEXT)
            if column.required or not is_open:
                cells[column] = cell
        elif column.required or name != column.name:
            hint = f"{nearest(name, record.names or record.cells)} Map it with --columns {column.name}=NAME"
            raise DataError(f"{record.where} has no column {name!r}", hint=hint)
    return cells


def _at(record: Record, name: str) -> str:
    return f"{record.where}, column {name!r}"


def _digested(where: str, value: Value) -> object:
    """What a row is recognised by: of a file what it holds, not where it lies."""
    if not isinstance(value, Path):
        return value
    try:
        return file_digest(value)
    except UsageError as problem:
        raise DataError(f"{where} names {problem.message}", hint=problem.hint) from None


# --- a right answer and the input that it is about --------------------------------------------------------


def _check_about(where: str, column: Column, truth: Any, values: Mapping[str, Value]) -> None:
    if column.of in values and column.holds in _ABOUT:
        problem = _ABOUT[column.holds](truth, values[column.of])
        if problem:
            raise DataError(f"{where} {problem}", hint=f"it is about the column {column.of!r}: {column.help}")


def _tags_problem(truth: Sequence[str], words: Value) -> str:
    count = len(words) if isinstance(words, tuple) else 1
    return "" if len(truth) == count else f"holds {len(truth)} tags for {count} words"


def _choice_problem(truth: str, choices: Value) -> str:
    listed = choices if isinstance(choices, tuple) else (str(choices),)
    if len(set(listed)) < len(listed):
        return "chooses among words of which one is given twice"
    return "" if truth in listed else f"holds {truth!r}, which is none of {', '.join(map(repr, listed))}"


def _mask_problem(truth: Any, image: Value) -> str:
    size = image_size(image) if isinstance(image, Path) else None
    if size is None or size == truth.shape:
        return ""
    sizes = [f"{width} x {height}" for height, width in (truth.shape, size)]
    return f"holds a mask of {sizes[0]} pixels for an image of {sizes[1]}"


_ABOUT: Mapping[str, Callable[[Any, Value], str]] = {
    TAGS: _tags_problem,
    ANSWER: _choice_problem,
    MASK: _mask_problem,
}
