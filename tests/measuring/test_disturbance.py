"""Signs of disturbance: each used where it can be read, none invented where it cannot."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgekit.measuring.disturbance import (
    disturbed_runs,
    read_pressure,
    slow_controls,
    under_pressure,
    waited_too_long,
    with_suspects,
)
from tests.measuring.records import launch


def test_a_run_that_waited_over_two_percent_is_disturbed() -> None:
    assert disturbed_runs([10, 10], [10, 10], [0.19, 0.21], one_thread=True) == (False, True)


def test_a_single_threaded_run_with_little_cpu_time_is_disturbed() -> None:
    assert disturbed_runs([10, 10], [9.5, 8.0], [0, 0], one_thread=True) == (False, True)
    assert disturbed_runs([10, 10], [9.5, 8.0], [0, 0], one_thread=False) == (False, False)


def test_readings_that_are_not_there_mark_nothing() -> None:
    assert disturbed_runs([10, 10], [], [], one_thread=True) == (False, False)
    assert not waited_too_long(dataclasses.replace(launch(), wait_ms=()))


def test_the_block_as_a_whole_waited_when_its_sum_did() -> None:
    assert waited_too_long(launch(wait=0.3))
    assert not waited_too_long(launch(wait=0.1))


def test_launches_with_a_slow_control_computation_are_suspect_as_a_whole() -> None:
    launches = [launch(control=control) for control in (2.0, 2.1, 2.2, 2.0, 3.0)]
    assert slow_controls(launches) == (False, False, False, False, True)
    marked = with_suspects(launches)
    assert all(marked[4].disturbed) and marked[4].cold_disturbed
    assert not any(marked[0].disturbed)
    assert with_suspects(marked) == marked


def test_two_launches_say_nothing_about_which_machine_state_is_the_slow_one() -> None:
    assert slow_controls([launch(control=2.0), launch(control=9.0)]) == (False, False)


def test_pressure_is_read_where_the_kernel_tells_it(tmp_path: Path) -> None:
    assert read_pressure(tmp_path) is None
    file = tmp_path / "proc/pressure/cpu"
    file.parent.mkdir(parents=True)
    file.write_text("some avg10=0.01 avg60=3.27 avg300=7.00 total=49903077\nfull total=0\n")
    assert read_pressure(tmp_path) == pytest.approx(49.903077)
    file.write_text("nonsense\n")
    assert read_pressure(tmp_path) is None


def test_pressure_counts_only_when_both_readings_are_there() -> None:
    assert under_pressure(1.0, 1.2, 1.0)
    assert not under_pressure(1.0, 1.05, 1.0)
    assert not under_pressure(None, 5.0, 1.0)
