"""A device kind for tests: a worker on this machine that must not see what lies here.

`board:DIRECTORY` runs workers with that directory as their HOME and TMPDIR. All that goes to them is written
down, and they write down the files that they open from Python. `?edgekit=1.0&system=Board` are what such a
worker claims: the version of a distribution ("" for none), the name of its system. In DIRECTORY/site lie
distributions that only it has.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from edgekit import discovery
from edgekit.devices import WorkerPipe
from edgekit.devices.local import WORKER, module_path, start_pipe

SCHEME = "board"

_PLUGIN = f"""
from edgekit.api import DeviceKind, hookimpl
from tests.boards import open_board


@hookimpl
def edgekit_device_kinds():
    return [DeviceKind(scheme={SCHEME!r}, factory=f"{{__name__}}:open_board")]
"""

#: Read by the worker's Python before anything else: notes every path that is opened, listed or removed.
_WATCH = """
import os, sys
def _note(event, args):
    if event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.chdir"):
        if args and isinstance(args[0], (str, bytes)) and _note.busy is False:
            _note.busy = True
            try:
                os.write(_note.file, os.fsencode(args[0]) + b"\\n")
            finally:
                _note.busy = False
_note.busy = False
_note.file = os.open(os.environ["EDGEKIT_TEST_OPENED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
sys.addaudithook(_note)

import platform, urllib.parse
from importlib import metadata
CLAIMS = dict(urllib.parse.parse_qsl(os.environ["EDGEKIT_TEST_CLAIMS"], keep_blank_values=True))
platform.python_version = lambda: "3.99.0"
if "system" in CLAIMS:
    platform.system = lambda: CLAIMS["system"]
def version(name, real=metadata.version):
    if CLAIMS.get(name, "x") == "":
        raise metadata.PackageNotFoundError(name)
    return CLAIMS.get(name) or real(name)
metadata.version = version
"""
#: The Python that such a worker claims to be, so that its machine is known in a manifest.
PYTHON = "3.99.0"


class Board:
    """Workers of another machine, as far as they can tell. `shares_files` is not said: they do not."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        directory, _, self._claims = uri.partition(":")[2].partition("?")
        self.home = Path(directory)

    def start_worker(self, environment: Mapping[str, str]) -> WorkerPipe:
        temporary, watch, site = (self.home / name for name in ("tmp", "watch", "site"))
        for directory in (temporary, watch, site):
            directory.mkdir(parents=True, exist_ok=True)
        with (self.home / "environments.txt").open("a") as stream:
            stream.write(f"{dict(environment)}\n")
        (watch / "sitecustomize.py").write_text(_WATCH)
        own = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(temporary),
            "PYTHONPATH": os.pathsep.join((str(watch), str(site), module_path())),
            "PYTHONDONTWRITEBYTECODE": "1",
            "EDGEKIT_TEST_OPENED": str(self.home / "opened.txt"),
            "EDGEKIT_TEST_CLAIMS": self._claims,
        }
        pipe = start_pipe([sys.executable, "-P", "-m", WORKER], {**own, **environment})
        pipe.stdin = cast(BinaryIO, _Overheard(pipe.stdin, self.home / "sent.bin"))
        return pipe


class _Overheard:
    """A stream whose bytes are written down as they go."""

    def __init__(self, stream: BinaryIO, record: Path) -> None:
        self._stream = stream
        self._record = record

    def write(self, piece: bytes) -> int:
        written = self._stream.write(piece)
        with self._record.open("ab") as record:
            record.write(piece[:written])
        return written

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


def open_board(uri: str) -> Board:
    """The factory of the device kind."""
    return Board(uri)


@dataclass(frozen=True, slots=True)
class BoardPlace:
    """A board that is at hand."""

    home: Path

    @property
    def uri(self) -> str:
        return f"{SCHEME}:{self.home}"

    def told(self) -> str:
        """Everything that the host sent to its workers, and the environments it asked for."""
        sent, environments = self.home / "sent.bin", self.home / "environments.txt"
        return sent.read_bytes().decode("utf-8", "replace") + environments.read_text()

    def opened(self) -> list[str]:
        """Every path that the board's workers opened from Python."""
        log = self.home / "opened.txt"
        return log.read_text().splitlines() if log.exists() else []

    def left(self) -> list[str]:
        """What lies in its temporary directory."""
        return sorted(path.name for path in (self.home / "tmp").glob("edgekit-*"))


@contextmanager
def board_plugged_in(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Iterator[BoardPlace]:
    """Register the device kind as a plugin does; the board's own directory is below `directory`."""
    folder = directory / "board-plugin"
    information = folder / "boards-0.1.dist-info"
    information.mkdir(parents=True)
    (folder / "edgekit_test_boards.py").write_text(_PLUGIN)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: boards\nVersion: 0.1\n")
    (information / "entry_points.txt").write_text("[edgekit.plugins]\nboards = edgekit_test_boards\n")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    discovery._plugins.cache_clear()
    home = directory / "board"
    (home / "tmp").mkdir(parents=True)
    try:
        yield BoardPlace(home)
    finally:
        discovery._plugins.cache_clear()
        sys.modules.pop("edgekit_test_boards", None)
