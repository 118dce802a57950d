"""Labelled rows from JSON lines and CSV, checked against what the task and the model know.

Every refusal names the file, the row's number and the column: a row that is skipped or guessed at
would be a wrong measurement.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import DataError
from edgekit.files.digests import value_digest
from edgekit.files.tables import nearest
from edgekit.tasks.base import Column, Mapped, Row, Task

#: A value of a data file: JSON scalars; CSV gives only strings.
Cell = str | int | float | bool | None
JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*JSON_LINES, ".csv")
_LINE_HINT = 'one object a line, such as {"text": "…", "label": "…"}'


def read_rows(
    path: Path,
    *,
    task: Task,
    labels: Sequence[str],
    mapped: Mapped | None = None,
    need_label: bool = True,
) -> tuple[Row, ...]:
    """Every row of `path`, in order.

    labels: the model's, in class order. A label may be one of them, or its class number. With
    `need_label=False` (calibration) the label column is not read.
    Raises DataError naming file, row and column.
    """
    mapped = mapped or Mapped()
    if not task.columns:
        raise DataError(
            f"{path}: a model of task {task.name!r} cannot be judged on rows", hint="leave out the file"
        )
    columns = [column for column in task.columns if need_label or not column.label]
    names = _column_names(columns, task, mapped)
    words = _Words(labels=labels, renamed=mapped.labels)
    rows = []
    for number, record in _records(path):
        where = f"{path}: row {number}"
        rows.append(_row(where, number, _cells(where, record, names), words))
    if not rows:
        raise DataError(f"{path}: holds no rows", hint=f"a row has the columns {_column_list(columns)}")
    return tuple(rows)


# --- columns and labels ---------------------------------------------------------------------------


def _column_names(columns: Sequence[Column], task: Task, mapped: Mapped) -> dict[Column, str]:
    known = {column.name for column in task.columns}
    for name in mapped.columns:
        if name not in known:
            raise DataError(
                f"--columns: task {task.name!r} has no column {name!r}", hint=nearest(name, known)
            )
    return {column: mapped.columns.get(column.name, column.name) for column in columns}


def _cells(where: str, record: Mapping[str, Cell], names: Mapping[Column, str]) -> dict[Column, Cell]:
    """The task's columns of one record; optional ones only when they are there."""
    cells: dict[Column, Cell] = {}
    for column, name in names.items():
        if name in record:
            cells[column] = record[name]
        elif column.required or name != column.name:
            hint = f"{nearest(name, record)} Map it with --columns {column.name}=NAME"
            raise DataError(f"{where} has no column {name!r}", hint=hint)
    return cells


def _row(where: str, number: int, cells: Mapping[Column, Cell], words: _Words) -> Row:
    values: dict[str, str] = {}
    label: str | None = None
    for column, cell in cells.items():
        if column.label:
            label = words.translate(where, column.name, cell)
        elif isinstance(cell, str):
            values[column.name] = _unicode(cell, f"{where}, column {column.name!r}")
        elif cell is not None or column.required:  # an optional column may be left open
            found = "nothing" if cell is None else f"{type(cell).__name__} {cell!r}"
            raise DataError(f"{where}, column {column.name!r} holds {found}, not text", hint="give a string")
    return Row(number=number, values=values, digest=value_digest(values), label=label)


def _unicode(text: str, where: str) -> str:
    """JSON can write half of a surrogate pair, which is no character and which no tokenizer takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as problem:
        raise DataError(
            f"{where} holds half a character at position {problem.start}",
            hint="write the file again as UTF-8",
        ) from None
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """The model's labels, and the user's words for them."""

    labels: Sequence[str]
    renamed: Mapping[str, str]

    def translate(self, where: str, column: str, cell: Cell) -> str:
        """The model's label that the cell means: through --labels, by its name, or by its number."""
        if cell is None or isinstance(cell, float) or cell == "":
            found = "nothing" if cell in (None, "") else repr(cell)
            raise DataError(f"{where}, column {column!r} holds {found}, not a label", hint=self._hint())
        word = str(cell).lower() if isinstance(cell, bool) else str(cell).strip()
        if self.renamed:
            if word not in self.renamed:
                hint = f"it maps {', '.join(self.renamed)}; add {word!r} to it"
                raise DataError(f"{where} has the label {word!r}, which --labels does not map", hint=hint)
            word = self.renamed[word]
        if word in self.labels:
            return word
        if word.isascii() and word.isdecimal() and int(word) < len(self.labels):
            return self.labels[int(word)]
        raise DataError(f"{where} has the label {word!r}, which the model does not know", hint=self._hint())

    def _hint(self) -> str:
        shown = ", ".join(self.labels[:20]) + (", …" if len(self.labels) > 20 else "")
        return f"the model's labels: {shown}. Map yours with --labels YOURS=MODELS"


def _column_list(columns: Sequence[Column]) -> str:
    return ", ".join(column.name if column.required else f"{column.name} (optional)" for column in columns)


# --- files ------------------------------------------------------------------------------------------


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Cell]]]:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise DataError(f"{path}: rows are read from {known}, not {suffix or 'this'}", hint="convert it")
    reader = _json_lines if suffix in JSON_LINES else _csv_rows
    try:
        yield from reader(path)
    except UnicodeDecodeError as problem:
        raise DataError(
            f"{path}: not UTF-8: byte 0x{problem.object[problem.start]:02x} cannot be read",
            hint=f"convert it, for example with `iconv -f latin1 -t utf-8 {path.name}`",
        ) from None
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}", hint="the file must exist and be readable") from None


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Cell]]]:
    number = 0
    with path.open(encoding="utf-8-sig", newline="\n") as stream:
        for line_number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            number += 1
            where = f"{path}: row {number} (line {line_number})"
            try:
                record = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as problem:
                reason = problem.msg if isinstance(problem, json.JSONDecodeError) else "nested too deeply"
                raise DataError(f"{where} is not JSON: {reason}", hint=_LINE_HINT) from None
            if not isinstance(record, dict):
                raise DataError(f"{where} is a {type(record).__name__}, not an object", hint=_LINE_HINT)
            yield number, record


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Cell]]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = next(reader, [])
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise DataError(f"{path}: the header names {twice[0]!r} twice", hint="rename one of them")
            for number, fields in enumerate((fields for fields in reader if fields), start=1):
                if len(fields) != len(header):
                    where = f"{path}: row {number} (line {reader.line_num})"
                    raise DataError(
                        f"{where} has {len(fields)} fields, the header has {len(header)}",
                        hint="quote texts that hold commas or line breaks",
                    )
                yield number, dict(zip(header, fields, strict=True))
        except csv.Error as problem:
            where = f"{path}: line {reader.line_num}"
            raise DataError(f"{where} is not CSV: {problem}", hint="quote the texts") from None
