"""Records of JSON lines, CSV and parquet files, as they are written."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import DataError

JSON_LINES = (".jsonl", ".ndjson")
PARQUET = ".parquet"
SUFFIXES = (*JSON_LINES, ".csv", PARQUET)
_LINE_HINT = 'one object a line, such as {"text": "…", "label": "…"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """number: of the row, from 1; where: what an error calls it; cells: column of the file -> JSON
    value; plain: cells are texts whatever they stand for, as CSV has them; names: of all columns of the
    file, where cells are only some of them."""

    number: int
    where: str
    cells: Mapping[str, object]
    plain: bool
    names: Collection[str] = ()


def file_records(path: Path, columns: Collection[str] = ()) -> Iterator[Record]:
    """Every row of `path`, in order; blank lines are no rows. columns: those that are looked at, all when
    empty; a format that can leaves others on the disk. Raises DataError."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise DataError(f"{path}: rows are read from {known}, not {suffix or 'this'}", hint="convert it")
    try:
        if suffix == PARQUET:
            from edgekit.tasks.data.parquet import parquet_cells

            for number, (cells, names) in enumerate(parquet_cells(path, columns), start=1):
                where = f"{path}: row {number}"
                yield Record(number=number, where=where, cells=cells, plain=False, names=names)
        else:
            yield from _json_lines(path) if suffix in JSON_LINES else _csv_rows(path)
    except UnicodeDecodeError as problem:
        raise DataError(
            f"{path}: not UTF-8: byte 0x{problem.object[problem.start]:02x} cannot be read",
            hint=f"convert it, for example with `iconv -f latin1 -t utf-8 {path.name}`",
        ) from None
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}", hint="the file must exist and be readable") from None


def _json_lines(path: Path) -> Iterator[Record]:
    number = 0
    with path.open(encoding="utf-8-sig", newline="\n") as stream:
        for line_number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            number += 1
            where = f"{path}: row {number} (line {line_number})"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as problem:
                raise DataError(f"{where} is not JSON: {_reason(problem)}", hint=_LINE_HINT) from None
            if not isinstance(record, dict):
                raise DataError(f"{where} is a {type(record).__name__}, not an object", hint=_LINE_HINT)
            yield Record(number=number, where=f"{path}: row {number}", cells=record, plain=False)


def _reason(problem: ValueError | RecursionError) -> str:
    if isinstance(problem, json.JSONDecodeError):
        return problem.msg
    return (
        "nested too deeply" if isinstance(problem, RecursionError) else "it holds a number of too many digits"
    )


def _csv_rows(path: Path) -> Iterator[Record]:
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
                cells = dict(zip(header, fields, strict=True))
                yield Record(number=number, where=f"{path}: row {number}", cells=cells, plain=True)
        except csv.Error as problem:
            where = f"{path}: line {reader.line_num}"
            raise DataError(f"{where} is not CSV: {problem}", hint="quote the texts") from None
