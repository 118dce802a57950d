"""Tensors as bytes and as files, always in the safetensors format: no pickle anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit_runtime.errors import InputError
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.values import DTYPES

#: A row's place in a name such as "000012/input_ids". Rows beyond a million just have more digits.
_ROW_DIGITS = 6


def pack(tensors: Mapping[str, Array]) -> bytes:
    """Named tensors as safetensors bytes. Raises `InputError` for what no model takes."""
    from safetensors.numpy import save

    return save({name: _plain(name, value) for name, value in tensors.items()})


def unpack(data: bytes) -> dict[str, Array]:
    """The tensors in `data`; they own their memory and may be written to."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            f"{len(data)} bytes are no safetensors data: {error}",
            hint="edgekit reads dtypes " + ", ".join(DTYPES),
        ) from error
    return {name: value if value.flags.writeable else value.copy() for name, value in tensors.items()}


def pack_many(rows: Sequence[Mapping[str, Array]]) -> bytes:
    """Several rows of named tensors in one safetensors block, named "000000/input_ids"."""
    flat: dict[str, Array] = {}
    for index, row in enumerate(rows):
        if not row:
            raise InputError(f"row {index} holds no tensor", hint="give every row at least one input")
        for name, value in row.items():
            flat[f"{index:0{_ROW_DIGITS}d}/{name}"] = value
    return pack(flat)


def unpack_many(data: bytes) -> list[dict[str, Array]]:
    """The rows of `pack_many`, in their order."""
    rows: dict[int, dict[str, Array]] = {}
    for key, value in unpack(data).items():
        index, slash, name = key.partition("/")
        if not slash or not index.isdecimal() or not name:
            raise InputError(f"tensor {key!r} is not named ROW/INPUT", hint="write rows with pack_many")
        rows.setdefault(int(index), {})[name] = value
    if sorted(rows) != list(range(len(rows))):
        raise InputError(f"rows are missing: {len(rows)} rows reach up to number {max(rows)}")
    return [rows[index] for index in range(len(rows))]


def write_feeds(directory: Path, rows: Iterable[Feeds]) -> int:
    """Write one NNNNNN.safetensors per row into `directory`; return how many. Holds one row at a time."""
    directory.mkdir(parents=True, exist_ok=True)
    count = 0
    for row in rows:
        if not row:
            raise InputError(f"row {count} holds no tensor", hint="give every row at least one input")
        path = directory / f"{count:0{_ROW_DIGITS}d}.safetensors"
        path.write_bytes(pack(row))
        count += 1
    return count


def read_feeds(directory: Path) -> Iterator[dict[str, Array]]:
    """The rows that `write_feeds` wrote, in order, one in memory at a time."""
    files = [path for path in directory.glob("*.safetensors") if path.stem.isdecimal()]
    if not files:
        raise InputError(
            f"{directory} holds no feeds",
            hint="feeds are files named 000000.safetensors, 000001.safetensors, ...",
        )
    return _rows(sorted(files, key=lambda path: int(path.stem)))


def _rows(files: Sequence[Path]) -> Iterator[dict[str, Array]]:
    for path in files:
        try:
            yield unpack(path.read_bytes())
        except InputError as error:
            raise InputError(f"{path}: {error.message}", hint=error.hint) from error


def _plain(name: str, value: Array) -> Array:
    """`value` in C order and native bytes; 0-d arrays stay 0-d."""
    if not isinstance(value, np.ndarray):
        raise InputError(f"tensor {name!r} is a {type(value).__name__}, not a numpy array")
    if name == "__metadata__" or not name:
        raise InputError(f"{name!r} cannot be a tensor's name")
    if value.dtype.name not in DTYPES:
        raise InputError(
            f"tensor {name!r} has dtype {value.dtype}",
            hint="edgekit moves dtypes " + ", ".join(DTYPES),
        )
    return np.asarray(value, dtype=value.dtype.newbyteorder("="), order="C")
