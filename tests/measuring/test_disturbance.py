"""Signs of disturbance: each used where it can be read, none invented where it cannot."""

from __future__ import annotations

import dataclasses

import pytest

from edgekit.measuring.disturbance import (
    disturbance_notes,
    disturbed_as_a_whole,
    disturbed_runs,
    slow_controls,
    under_pressure,
    waited_too_long,
    why_disturbed,
    with_suspects,
)
from edgekit.values import LaunchConditions, LaunchRecord
from tests.measuring.records import launch


def under(record: LaunchRecord | None = None, **conditions: float) -> LaunchRecord:
    """The launch, under these conditions of the machine."""
    return dataclasses.replace(record or launch(), conditions=LaunchConditions(**conditions))  # type: ignore[arg-type]


def test_a_run_that_waited_over_two_percent_is_disturbed() -> None:
    assert disturbed_runs([10, 10], [10, 10], [0.19, 0.21], one_thread=True) == (False, True)


def test_a_single_threaded_run_with_little_cpu_time_is_disturbed() -> None:
    assert disturbed_runs([10, 10], [9.5, 8.0], [0, 0], one_thread=True) == (False, True)
    assert disturbed_runs([10, 10], [9.5, 8.0], [0, 0], one_thread=False) == (False, False)


def test_readings_that_are_not_there_mark_nothing() -> None:
    assert disturbed_runs([10, 10], [], [], one_thread=True) == (False, False)
    assert not waited_too_long(dataclasses.replace(launch(), wait_ms=()))
    assert with_suspects([launch()]) == (launch(),)


def test_the_block_as_a_whole_waited_when_its_sum_did() -> None:
    assert waited_too_long(launch(wait=0.3))
    assert not waited_too_long(launch(wait=0.1))


def test_launches_with_a_slow_control_computation_are_suspect_as_a_whole() -> None:
    launches = [launch(control=control) for control in (2.0, 2.1, 2.2, 2.0, 3.0)]
    assert slow_controls(launches) == (False, False, False, False, True)
    marked = with_suspects(launches)
    assert all(marked[4].disturbed) and marked[4].cold_disturbed and marked[4].streams_disturbed
    assert not any(marked[0].disturbed)
    assert with_suspects(marked) == marked


def test_two_launches_say_nothing_about_which_machine_state_is_the_slow_one() -> None:
    assert slow_controls([launch(control=2.0), launch(control=9.0)]) == (False, False)


def test_a_launch_from_which_a_hypervisor_took_over_five_percent_is_suspect_as_a_whole() -> None:
    kept, stolen = with_suspects([under(steal_share=0.04), under(steal_share=0.06)])
    assert not any(kept.disturbed) and not kept.cold_disturbed
    assert all(stolen.disturbed) and stolen.cold_disturbed and stolen.streams_disturbed


@pytest.mark.parametrize(
    ("latest", "whole"),
    [
        (launch(disturbed=range(10)), False),
        (launch(disturbed=range(11)), True),
        (launch(control=3.0), True),
        (under(steal_share=0.06), True),
        (under(steal_share=0.04), False),
    ],
    ids=["half of its runs", "over half", "slow control", "much stolen", "little stolen"],
)
def test_a_launch_is_disturbed_as_a_whole_by_its_runs_its_machine_or_a_hypervisor(
    latest: LaunchRecord, whole: bool
) -> None:
    assert disturbed_as_a_whole([launch(), launch(), latest]) is whole
    assert not disturbed_as_a_whole([latest, launch(), launch()]), "only the latest launch counts"


def test_pressure_counts_only_when_both_readings_are_there() -> None:
    assert under_pressure(1.0, 1.2, 1.0)
    assert not under_pressure(1.0, 1.05, 1.0)
    assert not under_pressure(None, 5.0, 1.0)


def test_the_reason_names_the_load_beside_the_measurement() -> None:
    crowded = [under(running=10, load=1.0)] * 3
    assert why_disturbed(crowded, 2) == "load 9 on 2 cores"
    assert why_disturbed([under(load=9.0)] * 3, 2) == "load 9 on 2 cores"
    assert why_disturbed([under(load=2.1, running=3)] * 3, 2) == "", "the measured process is part of it"
    assert why_disturbed(crowded) == "", "a load is much or little only beside the cores"


def test_the_reason_names_pressure_only_when_runs_were_disturbed() -> None:
    assert why_disturbed([under(launch(disturbed=[1]), pressure_share=0.3)], 2) == (
        "tasks waited for a CPU in 30 % of the time"
    )
    assert why_disturbed([under(pressure_share=0.3)], 2) == ""


def test_the_reason_names_steal_heat_a_slow_machine_and_a_restless_model() -> None:
    assert why_disturbed([under(steal_share=0.055), under()], 2) == (
        "5.5 % of the time stolen by the hypervisor"
    )
    assert why_disturbed([under(throttled=2)], 2) == "throttled by heat"
    controls = [launch(control=control) for control in (2.0, 2.0, 2.0, 3.2)]
    assert why_disturbed(controls, 2) == "the control computation was 1.6 times slower"
    restless = dataclasses.replace(launch(settled=False), drift=0.12)
    assert why_disturbed([restless], 2) == "the warm-up never came to rest (drift +12 %)"
    assert why_disturbed([launch(settled=False)], 2) == "the warm-up never came to rest"


def test_there_is_no_reason_where_nothing_was_recorded() -> None:
    assert why_disturbed([], 2) == ""
    assert why_disturbed([launch(), launch()], 2) == ""


def test_notes_tell_each_sign_and_what_could_not_be_read() -> None:
    assert disturbance_notes([]) == ()
    assert disturbance_notes([launch()]) == ()
    blind = dataclasses.replace(launch(settled=None), wait_ms=())
    assert disturbance_notes([blind]) == (
        "disturbance not readable: this system tells no run-queue waits of every run",
        "some warm-ups were too short to tell whether the model had come to rest",
    )
    seen = disturbance_notes(
        [under(launch(disturbed=[0]), steal_share=0.5, throttled=1), launch(settled=False)]
    )
    assert seen == (
        "1 of 40 runs were disturbed; they count as over a limit for PASS and as under it for FAIL",
        "a hypervisor took over 5 % of the time in 1 of 2 launches",
        "a CPU was slowed for its heat in 1 of 2 launches",
        "the warm-up never came to rest in 1 of 2 launches",
    )


def test_other_work_on_the_cores_makes_a_whole_launch_suspect() -> None:
    """Runs beside busy tasks are slower through shared caches, without ever waiting themselves."""
    busy = dataclasses.replace(launch(), conditions=LaunchConditions(pressure_share=0.5))
    quiet = dataclasses.replace(launch(), conditions=LaunchConditions(pressure_share=0.02))
    streams = dataclasses.replace(busy, samples_per_second=100.0)
    marked = with_suspects([busy, quiet, streams])
    assert [all(one.disturbed) for one in marked] == [True, False, False]
