"""Arrays of .npz files, row by row: nothing is unpickled, and no array is ever held whole.

A .npz file is a zip archive of .npy files. Both come from anywhere, so that every size is checked before
anything of that size is read, and an archive that expands without end costs time only.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from edgekit.errors import DataError
from edgekit_runtime.session import Array

#: One row of one array; the inputs of edge models are some MiB.
MOST_ROW_BYTES = 1 << 30
_SUFFIX = ".npy"
#: What numpy writes. Other methods of zip would need other libraries to expand.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HINT = "write it with numpy.savez(path, **arrays)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayHeader:
    """What a .npy file says of its array before its numbers come. rows: the size of its first axis."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def rows(self) -> int:
        """How many rows the array has."""
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def read_headers(path: Path) -> Mapping[str, ArrayHeader]:
    """The arrays in a .npz file by name; their numbers are not read.

    Raises DataError for a file that is damaged, and for arrays of objects, of no rows or of huge ones.
    """
    with _opened(path) as archive, ExitStack() as streams:
        return {name: header for name, (header, _) in _members(path, archive, streams).items()}


def read_npz_rows(path: Path) -> Iterator[dict[str, Array]]:
    """Row by row, the part of each array with that number, without the axis that counts rows.

    All arrays must have as many rows as the shortest of them. Raises DataError as `read_headers`, and where
    the file ends early.
    """
    with _opened(path) as archive, ExitStack() as streams:
        members = _members(path, archive, streams)
        for number in range(min((header.rows for header, _ in members.values()), default=0)):
            yield {name: _row(path, name, number, *member) for name, member in members.items()}
        for _, stream in members.values():
            stream.read(1)  # at the end of a member its checksum is compared


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as problem:
        raise DataError(f"{path}: is no .npz file, or a damaged one: {problem}", hint=_HINT) from None
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}", hint="the file must exist and be readable") from None


def _members(
    path: Path, archive: zipfile.ZipFile, streams: ExitStack
) -> dict[str, tuple[ArrayHeader, IO[bytes]]]:
    """Each array's header, and its open file, which stands where the numbers begin."""
    found: dict[str, tuple[ArrayHeader, IO[bytes]]] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(_SUFFIX)
        if name == info.filename or name in found or info.compress_type not in _METHODS:
            raise DataError(f"{path}: holds {info.filename!r}, which numpy does not write so", hint=_HINT)
        stream = streams.enter_context(archive.open(info))
        found[name] = (_header(f"{path}: array {name!r}", info, stream), stream)
    if not found:
        raise DataError(f"{path}: holds no arrays", hint=_HINT)
    return found


def _header(where: str, info: zipfile.ZipInfo, stream: IO[bytes]) -> ArrayHeader:
    try:
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, by_columns, dtype = read(stream)
    except (ValueError, KeyError, SyntaxError, tokenize.TokenError, RecursionError) as problem:
        reason = str(problem).partition("\n")[0] or type(problem).__name__
        raise DataError(f"{where} is no .npy file, or a damaged one: {reason}", hint=_HINT) from None
    if dtype.hasobject or dtype.kind not in "biuf" or dtype.names:
        what = "pickled objects, which are never read" if dtype.hasobject else str(dtype)
        raise DataError(f"{where} holds {what}, not plain numbers", hint="give arrays of one number type")
    header = ArrayHeader(shape=tuple(shape), dtype=dtype)
    if not shape or min(shape) < 1:
        raise DataError(f"{where} has the shape {list(shape)}, so no rows", hint="its first axis counts rows")
    if by_columns:
        raise DataError(f"{where} is stored by columns", hint="numpy.ascontiguousarray(array) turns it")
    if header.row_bytes > MOST_ROW_BYTES:
        hint = "the first axis counts rows; a row holds what the model gets for one input"
        raise DataError(f"{where} has rows of {header.row_bytes:,} bytes", hint=hint)
    if info.file_size - stream.tell() != header.rows * header.row_bytes:
        raise DataError(f"{where} is damaged: its shape {list(shape)} does not fit its size", hint=_HINT)
    return header


def _row(path: Path, name: str, number: int, header: ArrayHeader, stream: IO[bytes]) -> Array:
    data = stream.read(header.row_bytes)
    if len(data) != header.row_bytes:
        raise DataError(f"{path}: array {name!r} ends in row {number + 1}", hint=_HINT)
    return np.frombuffer(data, header.dtype).reshape(header.shape[1:])
