"""Energy counters, on recorded trees."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_runtime.energy import EnergyMeter

RANGE = 262_143_328_850


def zone(root: Path, zone: str, name: str, energy: int | str, span: int | str = RANGE) -> Path:
    folder = root / "sys/class/powercap" / zone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    (folder / "max_energy_range_uj").write_text(f"{span}\n")
    return root


def test_packages_add_up_and_their_parts_do_not_count_again(tmp_path: Path) -> None:
    for name, domain in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:1", "package-1"),
        ("intel-rapl:2", "psys"),
        ("intel-rapl-mmio:0", "package-0"),
    ):
        zone(tmp_path, name, domain, 1_000)
    meter = EnergyMeter(tmp_path)
    assert meter.used_mj() == 0
    for name, domain in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:2", "psys")):
        zone(tmp_path, name, domain, 501_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 251_000)
    assert meter.used_mj() == 750.0


@settings(deadline=None)
@given(start=st.integers(0, RANGE), used=st.integers(0, RANGE - 1))
def test_a_counter_that_passed_its_end_is_followed(start: int, used: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = zone(Path(folder), "intel-rapl:0", "package-0", start)
        meter = EnergyMeter(root)
        now = start + used if start + used <= RANGE else start + used - RANGE
        zone(root, "intel-rapl:0", "package-0", now)
        assert meter.used_mj() == used / 1e3


def test_no_counters_are_no_figure_and_not_zero(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path).used_mj() is None
    zone(tmp_path, "intel-rapl:0", "psys", 5)
    assert EnergyMeter(tmp_path).used_mj() is None


def test_one_package_that_cannot_be_read_leaves_no_figure(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 100)
    zone(tmp_path, "intel-rapl:1", "package-1", 100)
    meter = EnergyMeter(tmp_path)
    (tmp_path / "sys/class/powercap/intel-rapl:1/energy_uj").unlink()
    assert meter.used_mj() is None
    assert EnergyMeter(tmp_path).used_mj() is None


@pytest.mark.parametrize("span", ["", "garbage", "50"])
def test_a_counter_that_went_back_without_a_known_end_is_no_figure(tmp_path: Path, span: str) -> None:
    meter = EnergyMeter(zone(tmp_path, "intel-rapl:0", "package-0", 100, span))
    zone(tmp_path, "intel-rapl:0", "package-0", 99, span)
    assert meter.used_mj() is None


@pytest.mark.parametrize("energy", ["", "garbage", "-5", "1.5"])
def test_a_spoilt_counter_is_no_figure(tmp_path: Path, energy: str) -> None:
    assert EnergyMeter(zone(tmp_path, "intel-rapl:0", "package-0", energy)).used_mj() is None
