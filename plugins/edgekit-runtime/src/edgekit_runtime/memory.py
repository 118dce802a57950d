"""Memory of the worker's process tree, in MiB.

The peak is the sum of each process's own highest resident size, so it is never below the true peak
of the tree, and may be above it when the processes peaked at different moments. Steady growth is
what is resident now: proportional size (PSS) counts a page that processes share once in all.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

_MIB = 1024.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Growth at its highest is `peak_mib - baseline_mib`. None where the system does not tell.

    source: "VmHWM" (reset at the baseline), "VmHWM-unreset" (may include what importing the engine
    took for a moment, so it can only be too high), "ru_maxrss", or "".
    steady_mib: growth since the baseline of what is resident now; below zero when memory was given back.
    steady_source: "PSS", else "RSS" (shared pages count in every process), or "" with no figure.
    """

    baseline_mib: float | None
    peak_mib: float | None
    source: str
    steady_mib: float | None = None
    steady_source: str = ""


class MemoryMeter:
    """Made once the engine is imported; asked after the work."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = root / "proc"
        self._reset = _reset_peak(self._proc)
        self._ended = _ended_children()
        self.baseline_mib = current_mib(root)
        self._steady = _resident(self._proc)

    def use(self) -> MemoryUse:
        """Baseline and peak since then."""
        peak = tree_mib("VmHWM", self._proc)
        if peak is not None:
            source = "VmHWM" if self._reset else "VmHWM-unreset"
        else:
            peak, source = _usage_mib("self"), "ru_maxrss"
        if peak is None:
            return MemoryUse(baseline_mib=None, peak_mib=None, source="")
        steady, steady_source = self._steady_growth()
        return MemoryUse(
            baseline_mib=self.baseline_mib,
            peak_mib=peak + self._ended_since(),
            source=source,
            steady_mib=steady,
            steady_source=steady_source,
        )

    def _steady_growth(self) -> tuple[float | None, str]:
        """Growth in the best measure that could be read both times, and its name."""
        now = _resident(self._proc)
        for source in ("PSS", "RSS"):
            if source in self._steady and source in now:
                return now[source] - self._steady[source], source
        return None, ""

    def _ended_since(self) -> float:
        """Highest resident size of any child, when one has ended since the baseline; else 0."""
        now = _ended_children()
        return now[0] if now != self._ended else 0.0


def current_mib(root: Path = Path("/")) -> float | None:
    """Resident size of the process tree now; the peak so far where only that is told; else None."""
    now = tree_mib("VmRSS", root / "proc")
    return now if now is not None else _usage_mib("self")


def tree_mib(field: str, proc: Path) -> float | None:
    """`field` of /proc/PID/status summed over this process and its descendants; None without procfs."""
    own = _status_kib(proc / "self" / "status", field)
    if own is None:
        return None
    total = own
    for pid in _descendants(os.getpid(), proc):
        total += _status_kib(proc / str(pid) / "status", field) or 0
    return total / _MIB


def _resident(proc: Path) -> dict[str, float]:
    """What is resident in the process tree now, in each measure that can be read."""
    readings = {"PSS": _tree_pss_mib(proc), "RSS": tree_mib("VmRSS", proc)}
    return {source: value for source, value in readings.items() if value is not None}


def _tree_pss_mib(proc: Path) -> float | None:
    """PSS of this process and its descendants; None when a living one does not tell."""
    total = 0
    for pid in ("self", *_descendants(os.getpid(), proc)):
        try:
            text = (proc / str(pid) / "smaps_rollup").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            if pid == "self":
                return None
            continue  # it has ended meanwhile
        except OSError:
            return None
        found = _field_kib(text, "Pss")
        if found is None:
            return None
        total += found
    return total / _MIB


def _descendants(pid: int, proc: Path) -> list[int]:
    """Living children of `pid`, their children, and so on."""
    found: list[int] = []
    pending = [pid]
    while pending:
        children = _children(pending.pop(), proc)
        found.extend(children)
        pending.extend(children)
    return found


def _children(pid: int, proc: Path) -> list[int]:
    """Children of every thread of `pid`. Needs no scan of all processes where the kernel lists them."""
    found: list[int] = []
    listed = False
    for path in (proc / str(pid) / "task").glob("*/children"):
        try:
            found.extend(int(word) for word in path.read_text().split())
            listed = True
        except OSError:
            continue
    return found if listed else _children_by_scan(pid, proc)


def _children_by_scan(pid: int, proc: Path) -> list[int]:
    found = []
    for path in proc.glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if len(fields) > 1 and fields[1] == str(pid):
            found.append(int(path.parent.name))
    return found


def _status_kib(path: Path, field: str) -> int | None:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return None
    return _field_kib(text, field)


def _field_kib(text: str, field: str) -> int | None:
    for line in text.splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return None


def _reset_peak(proc: Path) -> bool:
    """Set VmHWM back to the present size. False where the kernel does not offer it."""
    before = _status_kib(proc / "self" / "status", "VmHWM")
    try:
        with open(proc / "self" / "clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return False
    return before is not None


def _usage_mib(who: str) -> float | None:
    """Highest resident size by getrusage: bytes on macOS, KiB elsewhere. None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    whose = resource.RUSAGE_SELF if who == "self" else resource.RUSAGE_CHILDREN
    unit = _MIB * 1024 if sys.platform == "darwin" else _MIB
    return resource.getrusage(whose).ru_maxrss / unit


def _ended_children() -> tuple[float, float, int]:
    """Highest resident size of any child that has ended, and figures that grow with each one."""
    if sys.platform == "win32":
        return 0.0, 0.0, 0
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return _usage_mib("children") or 0.0, usage.ru_utime + usage.ru_stime, usage.ru_minflt
