"""Waiting for a quiet machine: only while it looks loaded, and never for long in all."""

from __future__ import annotations

import pytest

from edgekit.measuring.quiet import LOOK_SECONDS, Waiting, looks_loaded
from edgekit_runtime.conditions import Conditions


class Machine:
    """A machine in a made-up time: `running` tasks until second `quiet_at`, then one."""

    def __init__(
        self, running: int | None = 9, quiet_at: float = float("inf"), pressure: float = 0.0
    ) -> None:
        self.running, self.quiet_at, self.pressure = running, quiet_at, pressure
        self.seconds = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds

    def read(self) -> Conditions:
        loaded = self.seconds < self.quiet_at
        return Conditions(
            at_s=self.seconds,
            load=8.0,
            running=self.running if loaded else 1,
            pressure_s=self.pressure * min(self.seconds, self.quiet_at) if self.pressure else None,
        )

    def wait(self, allowed: float = 40.0, cores: float = 2) -> tuple[float, list[str]]:
        """What one wait took, and what was told."""
        told: list[str] = []
        return Waiting(cores=cores, allowed=allowed, sleep=self.sleep).wait(self.read, told.append), told


def test_a_machine_that_is_quiet_is_not_waited_for() -> None:
    machine = Machine(running=2)
    assert machine.wait() == (LOOK_SECONDS, [])


def test_a_machine_that_tells_nothing_is_not_waited_for() -> None:
    machine = Machine(running=None)
    assert machine.wait() == (LOOK_SECONDS, [])


def test_pauses_grow_until_the_machine_is_quiet_and_say_what_they_wait_for() -> None:
    machine = Machine(quiet_at=3.0)
    _, told = machine.wait()
    assert machine.pauses == [LOOK_SECONDS, 1.0, 2.0]
    assert told == ["waiting for a quiet machine: load 8 on 2 cores"] * 2


def test_tasks_that_wait_for_a_cpu_count_as_load_too() -> None:
    machine = Machine(running=None, pressure=0.5, quiet_at=1.0)
    _, told = machine.wait()
    assert machine.pauses == [LOOK_SECONDS, 1.0, 2.0] and len(told) == 2


def test_a_machine_that_stays_loaded_is_measured_after_four_pauses() -> None:
    machine = Machine()
    machine.wait()
    assert machine.pauses == [LOOK_SECONDS, 1.0, 2.0, 4.0, 8.0]


def test_all_waits_together_never_take_longer_than_allowed() -> None:
    machine = Machine()
    waiting = Waiting(cores=2, allowed=10.0, sleep=machine.sleep)
    for _ in range(20):
        waiting.wait(machine.read, lambda what: None)
    assert sum(machine.pauses) == pytest.approx(10.0)
    assert waiting.over


@pytest.mark.parametrize(
    ("now", "loaded"),
    [
        (Conditions(at_s=1.0, running=3), True),
        (Conditions(at_s=1.0, running=2), False),
        (Conditions(at_s=1.0), False),
        (Conditions(at_s=1.0, pressure_s=0.2), True),
        (Conditions(at_s=1.0, pressure_s=0.05), False),
    ],
)
def test_a_machine_looks_loaded_by_its_tasks_or_by_its_pressure(now: Conditions, loaded: bool) -> None:
    assert looks_loaded(Conditions(at_s=0.0, pressure_s=0.0), now, 2) is loaded
