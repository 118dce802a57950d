"""Calibration rows that are a model's own inputs: a .npz file, or a folder of them.

Arrays carry the names of the inputs; their first axis counts rows. Rows of different lengths need a file
each, or an array could not hold them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.errors import DataError
from edgekit.files.npz import ArrayHeader, read_headers, read_npz_rows
from edgekit.files.tables import nearest
from edgekit.values import ModelTable
from edgekit_runtime.errors import InputError
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.signatures import check_feeds
from edgekit_runtime.values import TensorSpec

_SUFFIX = ".npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedRow:
    """One run's inputs. number: of the row in the data, from 1; digest: of the inputs."""

    number: int
    feeds: Feeds
    digest: str


def is_feeds(path: Path) -> bool:
    """Whether a data path is inputs of the model, rather than rows that its processor reads."""
    try:
        found = path.iterdir() if path.is_dir() else (path,)
        return any(entry.suffix.lower() == _SUFFIX for entry in found)
    except OSError:  # whoever reads it says why it cannot be read
        return False


def count_feeds(path: Path, table: ModelTable) -> int:
    """How many rows there are. Their names, types and sizes are checked, their numbers are not read.

    Raises DataError.
    """
    return sum(_checked(file, table) for file in _files(path))


def read_feed_rows(path: Path, table: ModelTable) -> Iterator[FeedRow]:
    """Every row, one in memory at a time. Raises DataError naming the file, the row and the input."""
    number = 0
    for file in _files(path):
        _checked(file, table)
        for place, arrays in enumerate(read_npz_rows(file), start=1):
            number += 1
            feeds = {
                spec.name: _converted(f"{file}: row {place}", spec, arrays[spec.name])
                for spec in table.signature.inputs
            }
            _check(f"{file}: row {place}", table, feeds)
            yield FeedRow(number=number, feeds=feeds, digest=feeds_digest(feeds))


def feeds_digest(feeds: Feeds) -> str:
    """Digest of what a run is given."""
    digest = hashlib.sha256()
    for name in sorted(feeds):
        digest.update(f"{name} {feeds[name].dtype} {feeds[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(feeds[name]).tobytes())
    return f"sha256:{digest.hexdigest()}"


def _files(path: Path) -> tuple[Path, ...]:
    if not path.is_dir():
        return (path,)
    found = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    stray = next((entry for entry in found if entry.suffix.lower() != _SUFFIX), None)
    if stray is not None:
        raise DataError(
            f"{stray} is no {_SUFFIX} file, and others in {path} are",
            hint="keep one kind of file in a folder",
        )
    return tuple(found)


def _checked(file: Path, table: ModelTable) -> int:
    """How many rows a file has, whose arrays are the model's inputs."""
    headers = read_headers(file)
    specs = {spec.name: spec for spec in table.signature.inputs}
    for name in headers:
        if name not in specs:
            raise DataError(f"{file}: the model has no input {name!r}", hint=nearest(name, specs))
    for name, spec in specs.items():
        if name not in headers:
            raise DataError(
                f"{file}: holds no array {name!r}", hint=f"the model takes {', '.join(specs)}: give them all"
            )
        _check_header(f"{file}: array {name!r}", spec, headers[name])
    counts = {name: header.rows for name, header in headers.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(f"{file}: its arrays have different numbers of rows: {told}", hint="cut them alike")
    return next(iter(counts.values()))


def _check_header(where: str, spec: TensorSpec, header: ArrayHeader) -> None:
    rank, wanted = len(spec.shape), np.dtype(spec.dtype)
    # the input's own first axis counts rows where one run may be one of them, else an axis before it does
    counts = rank > 0 and (spec.shape[0] == 1 or isinstance(spec.shape[0], str))
    if len(header.shape) != rank + 1 and not (counts and len(header.shape) == rank):
        shown = ", ".join(["rows", *map(str, spec.shape[1:] if counts else spec.shape)])
        raise DataError(
            f"{where} has the shape {list(header.shape)}, and the model takes [{shown}]",
            hint="the first axis counts rows; each row is what the model gets for one input",
        )
    kinds = {"i": "iu", "u": "iu", "f": "f", "b": "b"}
    if header.dtype.kind not in kinds.get(wanted.kind, ""):
        raise DataError(
            f"{where} holds {header.dtype}, and the model takes {spec.dtype}",
            hint="prepare rows as the model's processor does, and give what it gives",
        )


def _converted(where: str, spec: TensorSpec, value: Array) -> Array:
    """The row in the input's own type and with its batch of one, every number finite and as it was."""
    made = value.reshape((1, *value.shape)) if value.ndim == len(spec.shape) - 1 else value
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        kind = "NaN" if np.isnan(value).any() else "infinity"
        raise DataError(f"{where}, input {spec.name!r} holds {kind}", hint="take the row out, or mend it")
    with np.errstate(over="ignore"):
        turned = made.astype(spec.dtype)
    if value.dtype.kind == "f":
        fits = bool(np.isfinite(turned).all())
    else:
        fits = bool(np.array_equal(turned, made))
    if not fits:
        raise DataError(
            f"{where}, input {spec.name!r} holds numbers that {spec.dtype} cannot hold", hint="mend the row"
        )
    return turned


def _check(where: str, table: ModelTable, feeds: Mapping[str, Array]) -> None:
    try:
        check_feeds(table.signature, feeds)
    except InputError as problem:
        hint = problem.hint or "rows must have the sizes that the model was exported for"
        raise DataError(f"{where}: {problem.message}", hint=hint) from problem
    for spec in table.signature.inputs:
        for axis, size in zip(spec.shape, feeds[spec.name].shape, strict=True):
            low, high = table.axes.get(str(axis), (1, None))
            if size < low or (high is not None and size > high):
                raise DataError(
                    f"{where}, input {spec.name!r}: {axis} is {size}, and the model takes {low} to "
                    f"{high or 'any'}",
                    hint="cut the row, or export the model for that size",
                )
