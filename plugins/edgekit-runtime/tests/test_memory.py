"""Memory readings, on this machine and on recorded trees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit_runtime import memory
from edgekit_runtime.memory import MemoryMeter, current_mib

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads procfs")


@linux
def test_a_peak_that_is_over_is_still_seen_and_one_before_the_baseline_is_not() -> None:
    np.ones(200 << 17)
    meter = MemoryMeter()
    np.ones(100 << 17)
    use = meter.use()
    assert use.baseline_mib is not None
    assert use.peak_mib is not None
    growth = use.peak_mib - use.baseline_mib
    assert growth >= 95
    if use.source == "VmHWM":
        assert growth <= 120


@linux
def test_children_that_live_and_children_that_ended_both_count() -> None:
    code = "b = b'x' * (60 << 20); print(len(b), flush=True); input()"
    meter = MemoryMeter()
    before = meter.use().peak_mib
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        living = meter.use().peak_mib
        child.communicate(b"\n")
    ended = meter.use().peak_mib
    assert before is not None
    assert living is not None
    assert ended is not None
    assert living - before >= 60
    assert ended - before >= 60


@linux
def test_grandchildren_count() -> None:
    inner = "b = b'x' * (60 << 20); print(len(b), flush=True); input()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    before = current_mib()
    with subprocess.Popen([sys.executable, "-c", outer], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        after = current_mib()
        child.communicate(b"\n")
    assert before is not None
    assert after is not None
    assert after - before >= 60


def test_without_procfs_the_systems_own_peak_is_used(tmp_path: Path) -> None:
    use = MemoryMeter(tmp_path).use()
    if sys.platform == "win32":
        assert use.peak_mib is None
    else:
        assert use.source == "ru_maxrss"
        assert use.peak_mib is not None
        assert use.peak_mib > 10


def test_a_system_that_tells_nothing_gives_none_and_never_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_usage_mib", lambda who: None)
    use = MemoryMeter(tmp_path).use()
    assert (use.baseline_mib, use.peak_mib, use.source) == (None, None, "")


def test_a_peak_that_cannot_be_reset_is_said_to_be_so(tmp_path: Path) -> None:
    status = tmp_path / "proc/self/status"
    status.parent.mkdir(parents=True)
    status.write_text("Name:\tx\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\n")
    (tmp_path / "proc/self/clear_refs").mkdir()  # cannot be opened for writing, even by root
    use = MemoryMeter(tmp_path).use()
    assert use.source == "VmHWM-unreset"
    assert use.baseline_mib == 100.0
    assert use.peak_mib == 200.0


def test_children_are_found_by_scanning_where_the_kernel_does_not_list_them(tmp_path: Path) -> None:
    for pid, parent in ((10, 1), (11, 10), (12, 11), (13, 1)):
        directory = tmp_path / "proc" / str(pid)
        directory.mkdir(parents=True)
        (directory / "stat").write_text(f"{pid} (a name) with) S {parent} 1 1 0\n")
    assert sorted(memory._descendants(10, tmp_path / "proc")) == [11, 12]


# --- steady growth ------------------------------------------------------------------------------------


@linux
def test_steady_growth_is_what_stays_and_not_what_was_given_back() -> None:
    meter = MemoryMeter()
    kept = np.ones(60 << 17)
    np.ones(120 << 17)
    use = meter.use()
    assert use.steady_mib is not None
    assert use.peak_mib is not None
    assert use.baseline_mib is not None
    assert 55 <= use.steady_mib <= 80
    assert use.peak_mib - use.baseline_mib >= 175
    del kept
    after = meter.use().steady_mib
    assert after is not None
    assert after <= use.steady_mib - 55


@linux
def test_steady_growth_counts_living_children_and_not_those_that_ended() -> None:
    code = "b = b'x' * (60 << 20); print(len(b), flush=True); input()"
    meter = MemoryMeter()
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        living = meter.use().steady_mib
        child.communicate(b"\n")
    ended = meter.use().steady_mib
    assert living is not None
    assert ended is not None
    assert living >= 60
    assert ended <= living - 55


def recorded(
    root: Path, rss_mib: int, pss_mib: int | None, child: tuple[int, int | None] | None = None
) -> Path:
    """A tree in which this process (and perhaps a child) has these sizes; PSS None: not readable."""
    for pid, sizes in (("self", (rss_mib, pss_mib)), ("77", child)):
        if sizes is None:
            continue
        folder = root / "proc" / pid
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "status").write_text(f"VmHWM:\t{sizes[0] * 1024} kB\nVmRSS:\t{sizes[0] * 1024} kB\n")
        rollup = folder / "smaps_rollup"
        if sizes[1] is None:
            rollup.unlink(missing_ok=True)
        else:
            rollup.write_text(f"0-f ---p 0 00:00 0 [rollup]\nRss: 1 kB\nPss:   {sizes[1] * 1024} kB\n")
    if child is not None:
        task = root / "proc" / str(os.getpid()) / "task" / "1"
        task.mkdir(parents=True, exist_ok=True)
        (task / "children").write_text("77 ")
    return root


def test_shared_pages_count_once_where_the_system_tells_them(tmp_path: Path) -> None:
    meter = MemoryMeter(recorded(tmp_path, 100, 80))
    recorded(tmp_path, 150, 100, child=(150, 90))
    use = meter.use()
    assert (use.steady_mib, use.steady_source) == (110.0, "PSS")


def test_without_proportional_sizes_the_resident_size_is_used_for_both_readings(tmp_path: Path) -> None:
    meter = MemoryMeter(recorded(tmp_path, 100, None))
    recorded(tmp_path, 150, 120)
    use = meter.use()
    assert (use.steady_mib, use.steady_source) == (50.0, "RSS")


def test_a_living_child_that_does_not_tell_its_proportional_size_is_not_left_out(tmp_path: Path) -> None:
    meter = MemoryMeter(recorded(tmp_path, 100, 80))
    recorded(tmp_path, 110, 85, child=(40, 30))
    rollup = tmp_path / "proc/77/smaps_rollup"
    rollup.unlink()
    rollup.mkdir()  # cannot be read, even by root
    use = meter.use()
    assert (use.steady_mib, use.steady_source) == (50.0, "RSS")


def test_a_system_without_procfs_tells_a_peak_and_no_steady_size(tmp_path: Path) -> None:
    use = MemoryMeter(tmp_path).use()
    assert (use.steady_mib, use.steady_source) == (None, "")
