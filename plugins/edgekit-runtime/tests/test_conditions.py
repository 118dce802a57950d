"""The machine's state, read from recorded trees of files and from this machine."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_runtime.codec import from_json, to_json
from edgekit_runtime.conditions import Conditions, read_conditions

LAPTOP = {
    "proc/loadavg": "0.52 0.58 0.59 3/1275 40513\n",
    "proc/stat": "cpu  84 12 33 9100 20 0 4 250 0 0\ncpu0 42 6 16 4550 10 0 2 125 0 0\nintr 55\n",
    "proc/pressure/cpu": (
        "some avg10=1.20 avg60=0.80 avg300=0.40 total=2500000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n"
    ),
    "proc/cpuinfo": "processor\t: 0\ncpu MHz\t\t: 900.0\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1400000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2600000\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "2\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "5\n",
    "sys/class/thermal/thermal_zone0/temp": "27800\n",
    "sys/class/thermal/thermal_zone1/temp": "61500\n",
    "sys/class/hwmon/hwmon0/temp1_input": "99000\n",
}
#: What each file that may be missing or spoilt takes with it.
TOLD_BY = {
    "proc/loadavg": {"load", "running"},
    "proc/stat": {"steal_s"},
    "proc/pressure/cpu": {"pressure_s"},
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": set(),
}
#: Read from the running process, not from the tree.
LIVE = {"at_s", "involuntary"}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def told(conditions: Conditions) -> set[str]:
    names = {field.name for field in fields(conditions)} - LIVE
    return {name for name in names if getattr(conditions, name) is not None}


def test_a_laptop_tells_everything(tmp_path: Path) -> None:
    read = read_conditions(tree(tmp_path, LAPTOP))
    assert (read.load, read.running) == (0.52, 3)
    assert read.pressure_s == 2.5
    assert read.mhz == 2000.0
    assert read.celsius == 61.5
    assert read.throttled == 7


@pytest.mark.skipif(sys.platform == "win32", reason="no clock ticks there")
def test_steal_is_in_seconds(tmp_path: Path) -> None:
    import os

    read = read_conditions(tree(tmp_path, LAPTOP))
    assert read.steal_s == 250 / os.sysconf("SC_CLK_TCK")


def test_without_cpufreq_the_frequency_is_that_of_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = "processor\t: 0\ncpu MHz\t\t: 2600.0\n\nprocessor\t: 1\ncpu MHz\t\t: 3000.0\n"
    assert read_conditions(tree(tmp_path, {"proc/cpuinfo": cpuinfo})).mhz == 2800.0
    stopped = {"sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "0\n"}
    assert read_conditions(tree(tmp_path, stopped)).mhz == 2800.0


def test_without_thermal_zones_the_monitoring_chips_are_read(tmp_path: Path) -> None:
    chips = {"sys/class/hwmon/hwmon0/temp1_input": "45000", "sys/class/hwmon/hwmon1/temp2_input": "52250"}
    assert read_conditions(tree(tmp_path, chips)).celsius == 52.25


def test_a_sensor_that_is_switched_off_is_no_temperature(tmp_path: Path) -> None:
    zones = {"sys/class/thermal/thermal_zone0/temp": "-274000", "sys/class/thermal/thermal_zone1/temp": "n/a"}
    assert read_conditions(tree(tmp_path, zones)).celsius is None


def test_an_empty_tree_tells_nothing_and_never_zero(tmp_path: Path) -> None:
    assert told(read_conditions(tmp_path)) == set()


@pytest.mark.parametrize("name", sorted(TOLD_BY))
@pytest.mark.parametrize("text", [None, "", "\n", "garbage", "cpu", "some total=", "nan 1 inf nan/1 1", "\0"])
def test_a_missing_or_spoilt_file_takes_only_its_own_figures_away(
    tmp_path: Path, name: str, text: str | None
) -> None:
    everything = told(read_conditions(tree(tmp_path, LAPTOP)))
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text)
    assert everything - told(read_conditions(tmp_path)) == TOLD_BY[name]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(LAPTOP)), st.binary(max_size=200)))
def test_no_bytes_make_it_fail_and_what_it_reads_survives_the_wire(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        read = read_conditions(Path(folder))
    assert from_json(Conditions, to_json(read)) == read


def test_this_machines_counters_only_grow() -> None:
    before, after = read_conditions(), read_conditions()
    assert after.at_s >= before.at_s
    for name in ("steal_s", "pressure_s", "involuntary", "throttled"):
        first, second = getattr(before, name), getattr(after, name)
        assert (first is None) == (second is None)
        assert first is None or second >= first


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no load average")
def test_this_machine_tells_its_load() -> None:
    read = read_conditions()
    assert read.load is not None
    assert read.involuntary is not None
