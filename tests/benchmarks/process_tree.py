"""What a command and all that it starts take: CPU and wall time, and memory at one moment together."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PAUSE = 0.02
_MIB = 2**20
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Of one run. cpu, wall: seconds, cpu of every process that has ended; peak_mib: the largest sum over
    its processes of resident memory, file pages among them (a page of two processes counts twice);
    written_mib: the most that lay in the watched folder at one moment, 0 when none is watched.
    """

    cpu: float
    wall: float
    peak_mib: float
    written_mib: float


def run_command(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, watched: Path | None = None
) -> Taken:
    """Run `command` to its end and watch it. Raises RuntimeError when it fails."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )
        watch = _Watch(child.pid, watched)
        watch.start()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        watch.stop()
        said.seek(0)
        if child.returncode:
            text = said.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}:\n{text[-4000:]}")
    return Taken(
        cpu=usage.ru_utime + usage.ru_stime,
        wall=time.perf_counter() - start,
        peak_mib=watch.peak / _MIB,
        written_mib=watch.written / _MIB,
    )


class _Watch(threading.Thread):
    """Reads the sizes of a process and its descendants every 20 ms, and those of the files of a folder."""

    def __init__(self, pid: int, folder: Path | None) -> None:
        super().__init__(daemon=True)
        self.peak = self.written = 0
        self._pid, self._folder = pid, folder
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(_PAUSE):
            self.peak = max(self.peak, sum(map(_resident, _family(self._pid))))
            if self._folder is not None:
                self.written = max(self.written, _stored(self._folder))

    def stop(self) -> None:
        self._done.set()
        self.join()


def _family(pid: int) -> Iterator[int]:
    """A process and its descendants, without those that have not become a program of their own yet:
    until then they show the memory of the parent.
    """
    yield pid
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(word) for task in tasks for word in (task / "children").read_text().split()]
    except OSError:  # it has ended
        return
    own = _read(pid, "cmdline"), _read(pid, "statm").split()[:1]
    for child in children:
        if (_read(child, "cmdline"), _read(child, "statm").split()[:1]) != own:
            yield from _family(child)


def _resident(pid: int) -> int:
    words = _read(pid, "statm").split()
    return int(words[1]) * _PAGE if words else 0


def _read(pid: int, name: str) -> bytes:
    """A file of /proc, empty where the process has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _stored(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:
            continue
    return total
