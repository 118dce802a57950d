"""The file list of a manifest: which files there are, how big, and their sha256.

Paths in it are relative, with "/" between parts, and mean the same file on every system.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgekit_runtime.errors import DigestMismatch, ManifestError

MANIFEST = "manifest.json"

_CHUNK = 1 << 20
_MAX_PATH = 1024
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_DEVICE_NAMES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file. path: relative, "/" between parts; sha256: 64 hex digits, no prefix."""

    path: str
    size: int
    sha256: str


def safe_relative(path: str) -> PurePosixPath:
    """`path` when it stays below its directory on every system, else `ManifestError`."""
    problem = _path_problem(path)
    if problem:
        raise ManifestError(
            f"the path {path!r} is refused: {problem}",
            hint="paths in a manifest are relative, with '/' between their parts, and never lead outside",
        )
    return PurePosixPath(path)


def path_key(path: str) -> str:
    """Equal for two paths that some file system takes for the same file (case, composed accents)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def check_entries(entries: Sequence[FileEntry]) -> None:
    """Refuse unsafe paths, impossible sizes and hashes, and two entries for one file."""
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for entry in entries:
        pure = safe_relative(entry.path)
        if entry.size < 0:
            raise ManifestError(f"{entry.path}: the size {entry.size} is negative")
        if not _SHA256.match(entry.sha256):
            raise ManifestError(f"{entry.path}: {entry.sha256!r} is not a sha256 of 64 hex digits")
        key = path_key(entry.path)
        if key in seen:
            raise ManifestError(f"{entry.path!r} and {seen[key]!r} name the same file")
        seen[key] = entry.path
        folders.update((path_key(str(parent)), entry.path) for parent in pure.parents[:-1])
    for key, path in seen.items():
        if key in folders:
            raise ManifestError(f"{path!r} is a file, but {folders[key]!r} lies below it")


def list_files(directory: Path, skip: Iterable[str] = (MANIFEST,)) -> tuple[FileEntry, ...]:
    """Every file below `directory` but those in `skip`, sorted by path and hashed.

    Symbolic links, sockets and other things that are not plain files raise `ManifestError`.
    """
    skipped = frozenset(skip)
    entries = tuple(file_entry(directory, path) for path in sorted(_walk(directory)) if path not in skipped)
    check_entries(entries)
    return entries


def file_entry(directory: Path, path: str) -> FileEntry:
    """Size and sha256 of the file `path` below `directory`."""
    digest = hashlib.sha256()
    size = 0
    target = directory / safe_relative(path)
    try:
        with target.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as exc:
        raise ManifestError(f"{target} cannot be read: {exc.strerror or exc}") from exc
    return FileEntry(path=path, size=size, sha256=digest.hexdigest())


def files_digest(entries: Iterable[FileEntry]) -> str:
    """One digest for a set of files: "sha256:" over "sha256 size path" lines, sorted by path."""
    lines = (f"{entry.sha256} {entry.size} {entry.path}\n" for entry in sorted(entries, key=lambda e: e.path))
    return "sha256:" + hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()


def verify_files(directory: Path, entries: Sequence[FileEntry], skip: Iterable[str] = (MANIFEST,)) -> None:
    """Raise `DigestMismatch` naming the first file that is missing, extra, resized or changed."""
    check_entries(entries)
    skipped = frozenset(skip)
    found = {path for path in _walk(directory) if path not in skipped}
    for entry in sorted(entries, key=lambda e: e.path):
        if entry.path not in found:
            raise _mismatch(directory, entry.path, "is missing")
        size = (directory / entry.path).stat().st_size
        if size != entry.size:
            raise _mismatch(directory, entry.path, f"has {size} bytes, the manifest says {entry.size}")
    for path in sorted(found - {entry.path for entry in entries}):
        raise _mismatch(directory, path, "is not in the manifest")
    for entry in sorted(entries, key=lambda e: e.path):
        if file_entry(directory, entry.path).sha256 != entry.sha256:
            raise _mismatch(directory, entry.path, "was changed: its sha256 is not the one in the manifest")


def _mismatch(directory: Path, path: str, what: str) -> DigestMismatch:
    return DigestMismatch(
        f"{directory / path} {what}",
        hint=f"{directory} was changed after it was written; make it again",
    )


def _walk(directory: Path) -> list[str]:
    """Relative paths of all plain files; anything else than files and directories is refused."""
    if directory.is_symlink() or not directory.is_dir():
        raise ManifestError(f"{directory} is not a directory")
    found: list[str] = []
    pending = [directory]
    while pending:
        current = pending.pop()
        try:
            with os.scandir(current) as children:
                nodes = [(Path(node.path), node.stat(follow_symlinks=False).st_mode) for node in children]
        except OSError as exc:
            raise ManifestError(f"{current} cannot be read: {exc.strerror or exc}") from exc
        for path, mode in nodes:
            if stat.S_ISDIR(mode):
                pending.append(path)
            elif stat.S_ISREG(mode):
                found.append(path.relative_to(directory).as_posix())
            else:
                what = "a symbolic link" if stat.S_ISLNK(mode) else "not a plain file"
                raise ManifestError(f"{path} is {what}", hint="replace it by the file itself")
    return found


def _path_problem(path: str) -> str:
    checks = (
        (not path, "it is empty"),
        (len(path) > _MAX_PATH, f"it is longer than {_MAX_PATH} characters"),
        ("\\" in path, "it holds a backslash"),
        (path.startswith("/"), "it is absolute"),
        (":" in path, "it holds a colon (a drive letter or stream on Windows)"),
        (any(ord(char) < 32 or ord(char) == 127 for char in path), "it holds a control character"),
        (any("\ud800" <= char <= "\udfff" for char in path), "its name is not valid text"),
    )
    for failed, problem in checks:
        if failed:
            return problem
    return next(filter(None, map(_part_problem, path.split("/"))), "")


def _part_problem(part: str) -> str:
    if part == "..":
        return "it leads outside by '..'"
    if part in ("", "."):
        return "it holds an empty part or '.'"
    if part != part.rstrip(". "):
        return f"{part!r} ends in a dot or space"
    if _DEVICE_NAMES.match(part):
        return f"{part!r} is a device name on Windows"
    return ""
