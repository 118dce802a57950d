"""A device that does not see this machine's files: what is opened or built there is brought there first.

One worker on it, which runs nothing, keeps a directory for as long as it is needed, so that every other
worker finds there what was brought once. The directory goes with that worker, however either end leaves.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edgekit.devices.base import Device, WorkerPipe, shares_files
from edgekit.host.client import OnProgress, WorkerClient
from edgekit.host.scratch import Scratch

_Stamp = frozenset[tuple[str, int, int, int]]


@dataclass(frozen=True, slots=True)
class _Placed:
    """What lies on the device under `name`. stamp: of the files when they were sent."""

    name: str
    stamp: _Stamp


class DeviceWithFiles:
    """`device` and a directory on it, from the first file brought there until `close`."""

    shares_files = False

    def __init__(self, device: Device) -> None:
        self.uri = device.uri
        self._device = device
        self._keeper: WorkerClient | None = None
        self._scratch: Scratch | None = None
        self._placed: dict[Path, _Placed] = {}
        self._built = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start_worker(self, environment: Mapping[str, str]) -> WorkerPipe:
        """A worker of the device itself."""
        return self._device.start_worker(environment)

    @property
    def scratch(self) -> Scratch:
        """The directory. Raises DeviceError when no worker starts there."""
        if self._scratch is None:
            self._keeper = WorkerClient(self._device)
            self._scratch = Scratch(self._keeper.__enter__())
        return self._scratch

    def close(self) -> None:
        """Let the directory go. Calling it twice is fine."""
        if self._keeper is not None:
            self._keeper.close()
        self._keeper = self._scratch = None
        self._placed.clear()

    def place(self, directory: Path, on_progress: OnProgress | None = None) -> str:
        """Where all files of the local `directory` lie on the device; brought there unless they are."""
        return self._place(directory.resolve(), _files(directory), on_progress)

    def place_model(self, model: Path, on_progress: OnProgress | None = None) -> str:
        """Where an ONNX file lies on the device, with the files of its weights beside it."""
        files = {path.name: path for path in sorted(model.parent.glob(f"{model.name}*"))}
        return f"{self._place(model.resolve(), files, on_progress)}/{model.name}"

    def room_for_build(self) -> str:
        """The name of a free directory. The one given out before is removed: its files were fetched."""
        if self._built:
            self.scratch.remove(self._built)
        self._built = _name("build")
        return self._built

    def _place(self, key: Path, files: Mapping[str, Path], on_progress: OnProgress | None) -> str:
        stamp = _stamp(files)
        for path in [path for path in self._placed if path == key or not path.exists()]:
            if path == key and self._placed[path].stamp == stamp:
                return self.scratch.path(self._placed[path].name)
            self.scratch.remove(self._placed.pop(path).name)
        name = _name("files")
        self.scratch.send(name, files, on_progress)
        self._placed[key] = _Placed(name, stamp)
        return self.scratch.path(name)


@contextmanager
def bringing_files(device: Device) -> Iterator[Device]:
    """`device` itself where it sees this machine's files, else with a directory that files are brought to."""
    if shares_files(device) or isinstance(device, DeviceWithFiles):
        yield device
        return
    with DeviceWithFiles(device) as there:
        yield there


def device_path(worker: WorkerClient, directory: Path) -> str:
    """The local `directory` as `worker` opens it. Where nothing else brings files to its device, the worker
    takes them into a directory of its own."""
    device = worker.device
    if isinstance(device, DeviceWithFiles):
        return device.place(directory)
    if shares_files(device):
        return str(directory.resolve())
    scratch, name = Scratch(worker), _name("files")
    scratch.send(name, _files(directory))
    return scratch.path(name)


def _files(directory: Path) -> dict[str, Path]:
    found = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path for path in found}


def _stamp(files: Mapping[str, Path]) -> _Stamp:
    """What changes when one of the files is written again."""
    found = ((name, path.stat()) for name, path in files.items())
    return frozenset((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in found)


def _name(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(4)}"
