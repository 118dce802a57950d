"""GGUF files: recognised, and refused with the reason. What they hold today serves no exported task."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from edgekit.errors import SourceError

_MAGIC = b"GGUF"
_ARCHITECTURE = "general.architecture"
#: Bytes of a metadata value by its type number; 8 is a string, 9 an array.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_MOST_KEYS, _LONGEST_NAME = 100_000, 65_535
#: Encoders and encoder-decoders that llama.cpp writes; anything else is a causal language model.
_OTHERS = {
    "t5": "text2text-generation",
    "t5encoder": "feature-extraction",
    "umt5": "text2text-generation",
    "bert": "sentence-embedding",
    "nomic-bert": "sentence-embedding",
    "clip": "image embedding",
}


def refuse_gguf(path: Path) -> SourceError:
    """The error that says what the file is and why it is not exported."""
    architecture = read_architecture(path)
    task = _OTHERS.get(architecture, "text-generation")
    return SourceError(
        f"{path}: a GGUF file of architecture {architecture!r} serves {task}, and {task} is not exported yet"
        + " from GGUF files" * (architecture in _OTHERS),
        hint="a classifier or encoder is exported from its transformers folder, which GGUF files come from",
    )


def read_architecture(path: Path) -> str:
    """The architecture a GGUF file names. Raises SourceError for files that are cut off or are none."""
    with path.open("rb") as stream:
        try:
            return _find(stream)
        except (struct.error, UnicodeDecodeError, _Damaged) as problem:
            raise SourceError(
                f"{path}: damaged or truncated, or no GGUF file: {problem}", hint="get the file again"
            ) from None


class _Damaged(ValueError):
    """The bytes are not what the format says."""


def _find(stream: BinaryIO) -> str:
    if stream.read(4) != _MAGIC:
        raise _Damaged("it does not begin with GGUF")
    version, _, keys = struct.unpack("<IQQ", _take(stream, 20))
    if version not in (2, 3):
        raise _Damaged(f"version {version} is not known")
    for _ in range(min(keys, _MOST_KEYS)):
        name = _text(stream)
        (kind,) = struct.unpack("<I", _take(stream, 4))
        if name == _ARCHITECTURE and kind == _STRING:
            return _text(stream)
        _skip(stream, kind)
    raise _Damaged(f"it has no {_ARCHITECTURE}")


def _take(stream: BinaryIO, size: int) -> bytes:
    found = stream.read(size)
    if len(found) != size:
        raise _Damaged("it ends inside its header")
    return found


def _text(stream: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", _take(stream, 8))
    if length > _LONGEST_NAME:
        raise _Damaged(f"a name of {length} bytes")
    return _take(stream, length).decode("utf-8")


def _skip(stream: BinaryIO, kind: int) -> None:
    if kind in _SIZES:
        _take(stream, _SIZES[kind])
    elif kind == _STRING:
        (length,) = struct.unpack("<Q", _take(stream, 8))
        stream.seek(length, 1)
    elif kind == _ARRAY:
        inner, count = struct.unpack("<IQ", _take(stream, 12))
        if inner in _SIZES:
            stream.seek(_SIZES[inner] * count, 1)
            return
        if inner != _STRING:
            raise _Damaged(f"an array of values of type {inner}")
        for _ in range(count):  # a count that is a lie meets the end of the file
            _skip(stream, inner)
            if not stream.peek(1):  # type: ignore[attr-defined]
                raise _Damaged("it ends inside an array")
    else:
        raise _Damaged(f"a value of unknown type {kind}")
