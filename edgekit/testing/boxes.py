"""Directories that a backend works in while it is tested, and what changed in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Box:
    """A fresh place for one compile: the model's directory, and a private one around the workdir."""

    root: Path

    @property
    def models(self) -> Path:
        """Holds the ONNX file and its external data, nothing else."""
        return self.root / "model"

    @property
    def workdir(self) -> Path:
        """The only directory that a compiler may write in."""
        return self.root / "private" / "work"

    @property
    def calibration(self) -> Path:
        """Feeds for lower precisions."""
        return self.root / "calibration"

    def files(self) -> tuple[str, ...]:
        """Everything below the workdir that is no directory, relative to it."""
        found = (path for path in self.workdir.rglob("*") if path.is_symlink() or not path.is_dir())
        return tuple(sorted(path.relative_to(self.workdir).as_posix() for path in found))


class House:
    """Everything that the worker under test takes for the world: home, current directory, boxes."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._boxes = 0
        for directory in (self.here, self.home, self._temporary):
            directory.mkdir()

    @property
    def here(self) -> Path:
        """The worker's current directory while sessions run."""
        return self._root / "current-directory"

    @property
    def home(self) -> Path:
        """Where caches of ill-bred libraries go."""
        return self._root / "home"

    @property
    def _temporary(self) -> Path:
        return self._root / "tmp"

    def environment(self) -> dict[str, str]:
        """Variables that make a worker live here."""
        temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self._temporary))
        cache = {"XDG_CACHE_HOME": str(self.home / ".cache"), "PYTHONDONTWRITEBYTECODE": "1"}
        return {**dict.fromkeys(("HOME", "USERPROFILE"), str(self.home)), **cache, **temporary}

    def box(self) -> Box:
        """A new box."""
        self._boxes += 1
        box = Box(self._root / "boxes" / f"{self._boxes:03d}")
        box.models.mkdir(parents=True)
        box.workdir.mkdir(parents=True)
        return box

    @contextmanager
    def watched(self, *leaving_out: Path) -> Iterator[list[str]]:
        """A list that holds, when the block has ended, what changed in the house meanwhile.

        Temporary files are everyone's right and are left out.
        """
        found: list[str] = []
        out = (*leaving_out, self._temporary)
        before = snapshot(self._root, out)
        yield found
        found += changes(before, snapshot(self._root, out))


def snapshot(directory: Path, leaving_out: tuple[Path, ...] = ()) -> dict[str, str]:
    """Every path below `directory` with a digest of its content."""
    found: dict[str, str] = {}
    for path in sorted(directory.rglob("*")):
        if not any(path == out or out in path.parents for out in leaving_out):
            found[path.relative_to(directory).as_posix()] = _digest(path)
    return found


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Paths that appeared, vanished or changed, in words."""
    words = [f"{path} (new)" for path in now if path not in before]
    words += [f"{path} (gone)" for path in before if path not in now]
    words += [f"{path} (changed)" for path in now if path in before and now[path] != before[path]]
    return sorted(words)


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if path.is_dir():
        return "directory"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "special"
