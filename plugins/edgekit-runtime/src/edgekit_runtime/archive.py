"""A zip file from a stranger, read without trusting a byte of it.

Everything its table of contents says is checked before an entry is touched; reading an entry never
yields more than it declared. Nothing is ever extracted by `zipfile` itself.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from edgekit_runtime.errors import EdgekitError, ManifestError, PackageError
from edgekit_runtime.manifests import path_key, safe_relative

CHUNK = 1 << 20

_AGAIN = "copy or download the file again"
_CRAFTED = "no edgekit wrote this file; do not use it"
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR_SIZE = 20
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCAL_HEADER_SIZE = 30
_FLAG_ENCRYPTED = 0x1 | 0x40 | 0x2000
_MAX_CONTENTS = 64 << 20
_RATIO_FREE = 1 << 20  # small entries may be as compressible as they like
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# What `zipfile` raises for bytes that are no proper archive; found by flipping bytes, see the tests.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    OverflowError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a package may weigh at most. Sizes in bytes; ratio: unpacked by packed size."""

    entries: int = 10_000
    total: int = 16 << 30
    manifest: int = 8 << 20
    ratio: int = 200


class Archive:
    """An opened archive whose table of contents has been checked. A context manager."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._stream = _open(path)
        try:
            _check_frame(self._stream, path, limits)
            with _damaged(path):
                self._zip = zipfile.ZipFile(self._stream)
            entries = self._zip.infolist()
            _check_contents(entries, path, limits)
            _check_layout(entries, path, self._zip.start_dir)
        except BaseException:
            self._stream.close()
            raise
        self._entries = {entry.orig_filename: entry for entry in entries}

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._stream.close()

    def sizes(self) -> dict[str, int]:
        """Every entry's path and declared size, in the archive's order."""
        return {name: entry.file_size for name, entry in self._entries.items()}

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of an entry; `PackageError` as soon as they differ from what it declares."""
        entry = self._entries[name]
        where = f"{self._path}: {name}"
        count = 0
        with _damaged(where):
            stream = self._zip.open(entry)
        with stream:
            while True:
                with _damaged(where):
                    chunk = stream.read(CHUNK)
                if not chunk:
                    break
                count += len(chunk)
                if count > entry.file_size:
                    raise PackageError(f"{where} unpacks to more than the size it declares", hint=_CRAFTED)
                yield chunk
        if count != entry.file_size:
            raise PackageError(
                f"{where} unpacks to {count} bytes, it declares {entry.file_size}", hint=_AGAIN
            )

    def read(self, name: str) -> bytes:
        """All bytes of an entry."""
        return b"".join(self.chunks(name))


@contextmanager
def _damaged(where: object) -> Iterator[None]:
    try:
        yield
    except EdgekitError:
        raise
    except _ZIP_ERRORS as exc:
        raise PackageError(f"{where} is damaged: {exc or type(exc).__name__}", hint=_AGAIN) from exc


def _open(path: Path) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise PackageError(f"{path} is not a file", hint="give the path of an .edgekit file")
        return path.open("rb")
    except FileNotFoundError as exc:
        raise PackageError(f"{path}: there is no such file", hint="check the path") from exc
    except (OSError, ValueError) as exc:
        raise PackageError(f"{path} cannot be read: {exc}") from exc


def _check_frame(stream: BinaryIO, path: Path, limits: Limits) -> None:
    """Begin, end, and size of the table of contents, before `zipfile` reads all of that into memory."""
    size = stream.seek(0, 2)
    stream.seek(0)
    if size == 0:
        raise PackageError(f"{path} is empty", hint=_AGAIN)
    if stream.read(4) != b"PK\x03\x04":
        raise PackageError(f"{path} is not an .edgekit file", hint="a package is a zip archive, this is not")
    tail = _tail(stream, size, _END.size)
    if tail[:4] != b"PK\x05\x06" or tail[-2:] != b"\0\0":
        if b"PK\x05\x06" in _tail(stream, size, 1 << 16)[: -_END.size + 4]:
            raise PackageError(f"{path} has bytes after its end", hint=_CRAFTED)
        raise PackageError(f"{path} is truncated: its table of contents is missing", hint=_AGAIN)
    count, contents = _END.unpack(tail)[4:6]
    tail64 = _tail(stream, size, _END64.size + _END64_LOCATOR_SIZE + _END.size)
    if tail64[_END64.size :].startswith(b"PK\x06\x07") and tail64.startswith(b"PK\x06\x06"):
        count, contents = _END64.unpack(tail64[: _END64.size])[7:9]
    if count > limits.entries:
        raise PackageError(f"{path} has {count} entries, more than {limits.entries}", hint=_CRAFTED)
    if contents > min(size, _MAX_CONTENTS):
        raise PackageError(f"{path}: its table of contents claims {contents} bytes", hint=_CRAFTED)


def _tail(stream: BinaryIO, size: int, length: int) -> bytes:
    stream.seek(max(0, size - length))
    return stream.read(length)


def _check_contents(entries: list[zipfile.ZipInfo], path: Path, limits: Limits) -> None:
    if len(entries) > limits.entries:
        raise PackageError(f"{path} has {len(entries)} entries, more than {limits.entries}", hint=_CRAFTED)
    seen: dict[str, str] = {}
    for entry in entries:
        name = entry.orig_filename
        problem = _entry_problem(entry, limits)
        if problem:
            raise PackageError(f"{path}: the entry {name!r} {problem}", hint=_CRAFTED)
        key = path_key(name)
        if key in seen:
            raise PackageError(f"{path}: {name!r} and {seen[key]!r} are the same file", hint=_CRAFTED)
        seen[key] = name
    total = sum(entry.file_size for entry in entries)
    if total > limits.total:
        raise PackageError(f"{path} would unpack to {total} bytes, more than {limits.total}", hint=_CRAFTED)
    if _ratio_exceeded(total, sum(entry.compress_size for entry in entries), limits):
        raise PackageError(f"{path} would unpack to over {limits.ratio} times its size", hint=_CRAFTED)


def _entry_problem(entry: zipfile.ZipInfo, limits: Limits) -> str:
    mode = entry.external_attr >> 16
    checks = (
        (_name_problem(entry), _name_problem(entry)),
        (stat.S_ISLNK(mode), "is a symbolic link"),
        (stat.S_IFMT(mode) not in (0, stat.S_IFREG), "is not a plain file"),
        (entry.flag_bits & _FLAG_ENCRYPTED, "is encrypted"),
        (entry.compress_type not in _COMPRESSIONS, f"uses the compression {entry.compress_type}"),
        (
            entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size,
            "is stored, yet its packed and unpacked sizes differ",
        ),
        (
            _ratio_exceeded(entry.file_size, entry.compress_size, limits),
            f"would unpack to over {limits.ratio} times its size",
        ),
    )
    return next((problem for failed, problem in checks if failed), "")


def _name_problem(entry: zipfile.ZipInfo) -> str:
    if entry.orig_filename.endswith("/"):
        return "is a directory"
    try:
        safe_relative(entry.orig_filename)
    except ManifestError as exc:
        return "is refused" + exc.message.partition(" is refused")[2]
    return ""


def _ratio_exceeded(unpacked: int, packed: int, limits: Limits) -> bool:
    return unpacked > _RATIO_FREE + limits.ratio * packed


def _check_layout(entries: list[zipfile.ZipInfo], path: Path, contents: int) -> None:
    """Entries one after the other from the first byte to the table of contents, none inside another."""
    end = 0
    for entry in sorted(entries, key=lambda e: e.header_offset):
        if end == 0 and entry.header_offset != 0:
            raise PackageError(f"{path} has bytes before its first entry", hint=_CRAFTED)
        if entry.header_offset < end:
            raise PackageError(f"{path}: the entry {entry.orig_filename!r} overlaps another", hint=_CRAFTED)
        end = entry.header_offset + _LOCAL_HEADER_SIZE + len(entry.orig_filename) + entry.compress_size
    if end > contents:
        raise PackageError(f"{path}: entries overlap the table of contents", hint=_CRAFTED)
