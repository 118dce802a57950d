"""The state of the machine at one moment: load, steal, pressure, frequency, heat.

Counters (steal_s, pressure_s, involuntary, throttled) only grow: subtract an earlier reading.

This module has its worker function itself and imports little: a host reads the conditions before it
opens a session, and what that loaded would be missing from the cold start.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgekit_runtime.calls import Call, Reply, worker_function
from edgekit_runtime.codec import to_json

#: Sensors outside this range (degrees Celsius) are switched off or measure something else.
_COLDEST, _HOTTEST = -60.0, 200.0
_STEAL_FIELD = 8
_CLOCK_TICKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """One reading; None where the system does not tell.

    at_s: the machine's monotonic clock, in seconds, comparable with readings of the same machine only.
    load: 1-minute load average. running: tasks that can run, the reader included.
    steal_s: CPU seconds that a hypervisor gave to others, summed over the CPUs.
    pressure_s: seconds in which some task waited for a CPU. involuntary: context switches that this
    process did not ask for. mhz: frequency of the CPUs, their mean. celsius: the hottest sensor.
    throttled: times that a CPU was slowed for its heat, summed over the CPUs.
    """

    at_s: float
    load: float | None = None
    running: int | None = None
    steal_s: float | None = None
    pressure_s: float | None = None
    involuntary: int | None = None
    mhz: float | None = None
    celsius: float | None = None
    throttled: int | None = None


def read_conditions(root: Path = Path("/")) -> Conditions:
    """The machine whose file system begins at `root`, now. Never raises for what it cannot read."""
    loadavg = _words(root / "proc/loadavg")
    return Conditions(
        at_s=time.monotonic(),
        load=_load(loadavg, root),
        running=_running(loadavg),
        steal_s=_steal_s(root),
        pressure_s=_pressure_s(root),
        involuntary=_involuntary(),
        mhz=_mhz(root),
        celsius=_celsius(root),
        throttled=_throttled(root),
    )


@worker_function
def conditions(call: Call) -> Reply:
    """{} -> the conditions of the worker's machine, now."""
    return Reply(to_json(read_conditions()))


def _load(loadavg: list[str], root: Path) -> float | None:
    if loadavg:
        return _number(loadavg[0])
    if root != Path("/") or not hasattr(os, "getloadavg"):
        return None
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _running(loadavg: list[str]) -> int | None:
    """The 4th field is "runnable/all"."""
    runnable = loadavg[3].partition("/")[0] if len(loadavg) > 3 else ""
    return int(runnable) if runnable.isdecimal() else None


def _steal_s(root: Path) -> float | None:
    """The 8th counter of the first line of /proc/stat, in clock ticks."""
    for line in _text(root / "proc/stat").splitlines():
        words = line.split()
        if words and words[0] == "cpu":
            ticks = _number(words[_STEAL_FIELD]) if len(words) > _STEAL_FIELD else None
            return None if ticks is None else ticks / _ticks_per_second()
    return None


def _ticks_per_second() -> int:
    if sys.platform == "win32":
        return _CLOCK_TICKS
    try:
        return os.sysconf("SC_CLK_TCK")
    except (ValueError, OSError):
        return _CLOCK_TICKS


def _pressure_s(root: Path) -> float | None:
    """`total=` of the line "some", in microseconds."""
    for line in _text(root / "proc/pressure/cpu").splitlines():
        kind, *words = line.split() or [""]
        for word in words:
            if kind == "some" and word.startswith("total="):
                total = _number(word.removeprefix("total="))
                return None if total is None else total / 1e6
    return None


def _involuntary() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _mhz(root: Path) -> float | None:
    """From cpufreq (kHz); where there is none, from /proc/cpuinfo (MHz, x86 only)."""
    scaling = _figures((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    found = [kilohertz / 1e3 for kilohertz in scaling]
    if not any(found):
        lines = (line.partition(":") for line in _text(root / "proc/cpuinfo").splitlines())
        told = [_number(value) for key, _, value in lines if key.strip() == "cpu MHz"]
        found = [value for value in told if value is not None]
    running = [value for value in found if value > 0]
    return sum(running) / len(running) if running else None


def _celsius(root: Path) -> float | None:
    """Thermal zones; where there is none, the monitoring chips. Both tell millidegrees."""
    for folder, pattern in (("thermal", "thermal_zone*/temp"), ("hwmon", "hwmon*/temp*_input")):
        degrees = [value / 1e3 for value in _figures((root / "sys/class" / folder).glob(pattern))]
        plausible = [value for value in degrees if _COLDEST < value < _HOTTEST]
        if plausible:
            return max(plausible)
    return None


def _throttled(root: Path) -> int | None:
    cpus = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = _figures(cpus)
    return int(sum(counts)) if counts else None


def _figures(paths: Iterable[Path]) -> list[float]:
    """The number in each file that holds one."""
    numbers = (_number(_text(path)) for path in paths)
    return [number for number in numbers if number is not None]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
