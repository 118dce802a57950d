"""Energy of the CPU packages, from the counters of Linux's powercap (RAPL).

The counters are the machine's: whatever else ran on it is included.
"""

from __future__ import annotations

from pathlib import Path


class EnergyMeter:
    """Counts from the moment it is made. Reading needs the right to read `energy_uj` (often root only)."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._packages = _packages(root / "sys/class/powercap")
        self._start = self._read()

    def used_mj(self) -> float | None:
        """Millijoules of all packages since the meter was made; None when one cannot be read.

        A counter that went past its end is followed once: ask before that happens twice (many minutes).
        """
        now = self._read()
        if not self._start or not now:
            return None
        used = 0
        for package, before, after in zip(self._packages, self._start, now, strict=True):
            if after < before:
                span = _microjoules(package / "max_energy_range_uj")
                if span is None or span < before:
                    return None
                after += span
            used += after - before
        return used / 1e3

    def _read(self) -> list[int] | None:
        """The counter of each package; None when there is none, or one is not readable."""
        found = [_microjoules(package / "energy_uj") for package in self._packages]
        known = [value for value in found if value is not None]
        return known if known and len(known) == len(found) else None


def _packages(powercap: Path) -> list[Path]:
    """Whole packages: their cores and memory ("intel-rapl:0:1") are counted in them already."""
    zones = sorted(powercap.glob("intel-rapl:*"))
    return [zone for zone in zones if _text(zone / "name").startswith("package-")]


def _microjoules(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
