"""What a GGUF file says of itself, read with every length checked against the file, and none of its weights.

The format: "GGUF", version, number of tensors, number of keys; the keys with their values; of each tensor
its name, sizes (the fastest first), type and offset; then, aligned, the weights. All little-endian
(github.com/ggml-org/ggml, docs/gguf.md).
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgekit.errors import SourceError

ARCHITECTURE = "general.architecture"
_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
#: `struct` words of a metadata value by its type number; 8 is a string, 9 an array.
_WORDS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: Type of a tensor -> its name, numbers in a block, and bytes of a block (ggml.h, ggml-common.h).
TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
}
_LONGEST_NAME = 65_535
_MOST_SIZES = 4
_ALIGNMENT = 32
#: Files that are cut off are the usual ones: a download that stopped.
_AGAIN = "get the file again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """shape: in torch's order; kind: the name of its type; bytes: in the file."""

    shape: tuple[int, ...]
    kind: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """keys: metadata, arrays as tuples; tensors: by name, each of them wholly in the file."""

    path: Path
    keys: Mapping[str, object]
    tensors: Mapping[str, Tensor]

    @property
    def architecture(self) -> str:
        """Its word for the kind of model."""
        return self.text(ARCHITECTURE)

    def text(self, key: str) -> str:
        """A text of the metadata, "" when it is not there. Raises SourceError for another kind of value."""
        found = self.keys.get(key, "")
        if not isinstance(found, str):
            raise self.damaged(f"{key} is no text")
        return found

    def whole(self, key: str) -> int:
        """A number above 0 of the model's own metadata. Raises SourceError."""
        name = f"{self.architecture}.{key}"
        found = self.keys.get(name)
        if not isinstance(found, int) or isinstance(found, bool) or found < 1:
            raise self.damaged(f"{name} is {'missing' if found is None else repr(found)[:40]}")
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, () when it is not there. Raises SourceError for another kind of value."""
        found = self.keys.get(key, ())
        if not isinstance(found, tuple) or not all(isinstance(each, str) for each in found):
            raise self.damaged(f"{key} is no list of texts")
        return found

    def kinds(self) -> tuple[str, ...]:
        """Types of its tensors, the most bytes first."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors.values():
            sizes[tensor.kind] += tensor.bytes
        return tuple(kind for kind, _ in sizes.most_common())

    def damaged(self, why: str) -> SourceError:
        """The error for a file that contradicts itself."""
        return SourceError(f"{self.path}: damaged, or no model: {why}", hint=_AGAIN)


def read_header(path: Path) -> Header:
    """Raises SourceError for a file that is cut off, lies about its lengths, or is none of GGUF."""
    try:
        with path.open("rb") as stream:
            keys, tensors = _Reader(stream, path.stat().st_size).read()
    except (_Damaged, UnicodeDecodeError) as problem:
        raise SourceError(f"{path}: damaged or truncated, or no GGUF file: {problem}", hint=_AGAIN) from None
    header = Header(path=path, keys=keys, tensors=tensors)
    if not header.architecture:
        raise header.damaged(f"it has no {ARCHITECTURE}")
    return header


class _Damaged(ValueError):
    """The bytes are not what the format says."""


class _Reader:
    """Reads on from where it is; every length is held against what is left of the file."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size

    def read(self) -> tuple[dict[str, object], dict[str, Tensor]]:
        if self._stream.read(4) != _MAGIC:
            raise _Damaged("it does not begin with GGUF")
        version, tensors, keys = self._numbers("IQQ")
        if version not in _VERSIONS:
            raise _Damaged(f"version {version} is not known")
        found: dict[str, object] = {}
        for _ in range(int(keys)):  # a count that is a lie meets the end of the file
            name = self._text(_LONGEST_NAME)
            (kind,) = self._numbers("I")
            found[name] = self._value(int(kind))
        table = [self._tensor() for _ in range(self._possible(int(tensors), 24))]
        alignment = found.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise _Damaged("general.alignment is no number")
        start = math.ceil(self._stream.tell() / alignment) * alignment
        for name, tensor, offset in table:
            if start + offset + tensor.bytes > self._size:
                raise _Damaged(f"the weight {name!r} ends behind the end of the file")
        held = {name: tensor for name, tensor, _ in table}
        if len(held) != len(table):
            raise _Damaged("a weight is there twice")
        return found, held

    def _left(self) -> int:
        return self._size - self._stream.tell()

    def _possible(self, count: int, least: int) -> int:
        """The count, when so many things of at least so many bytes can follow."""
        if count * least > self._left():
            raise _Damaged(f"it ends before {count} entries that it promises")
        return count

    def _numbers(self, words: str) -> tuple[float, ...]:
        size = struct.calcsize(f"<{words}")
        found = self._stream.read(size)
        if len(found) != size:
            raise _Damaged("it ends inside its header")
        return struct.unpack(f"<{words}", found)

    def _text(self, longest: int | None = None) -> str:
        length = int(self._numbers("Q")[0])
        if length > (self._left() if longest is None else longest):
            raise _Damaged(f"a text of {length} bytes")
        found = self._stream.read(length)
        if len(found) != length:
            raise _Damaged("it ends inside its header")
        return found.decode("utf-8")

    def _value(self, kind: int) -> object:
        if kind in _WORDS:
            return self._numbers(_WORDS[kind])[0]
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise _Damaged(f"a value of unknown type {kind}")
        inner, length = (int(number) for number in self._numbers("IQ"))
        if inner in _WORDS:
            word = _WORDS[inner]
            return self._numbers(f"{self._possible(length, struct.calcsize(word))}{word}")
        if inner != _STRING:
            raise _Damaged(f"an array of values of type {inner}")
        return tuple(self._text() for _ in range(self._possible(length, 8)))

    def _tensor(self) -> tuple[str, Tensor, int]:
        name = self._text(_LONGEST_NAME)
        rank = int(self._numbers("I")[0])
        if rank > _MOST_SIZES:
            raise _Damaged(f"the weight {name!r} has {rank} axes")
        shape = tuple(int(size) for size in reversed(self._numbers(f"{rank}Q")))
        kind, offset = (int(number) for number in self._numbers("IQ"))
        if kind not in TYPES:
            raise _Damaged(f"the weight {name!r} is of type {kind}, which is not known")
        word, block, size = TYPES[kind]
        count = math.prod(shape)
        if shape and shape[-1] % block:
            raise _Damaged(f"the weight {name!r} has rows of {shape[-1]}, and {word} holds {block} at once")
        return name, Tensor(shape=shape, kind=word, bytes=count // block * size), offset
