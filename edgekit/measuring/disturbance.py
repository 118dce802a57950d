"""Which readings something else on the machine may have spoilt.

A disturbed reading is never dropped. It counts as over the limit when PASS is asked and as under it
when FAIL is asked, so marking one reading too many can cost a decision but never make a wrong one.

Signs, each used where the system gives it:
* run-queue wait: the run's threads stood runnable without a CPU for over 2 % of the run;
* CPU beside wall time: a single-threaded run on the CPU was blocked for over 10 % of the run;
* pressure (`/proc/pressure/cpu`): for periods without run-queue waits, such as the cold start;
* the control computation: a launch in which it took 1.25 times as long as in the quick launches;
* a warm-up that never came to rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgekit.values import LaunchRecord

WAIT_SHARE = 0.02
CPU_SHARE = 0.90
PRESSURE_SHARE = 0.10
CONTROL_RATIO = 1.25
_CONTROLS_NEEDED = 3


def disturbed_runs(
    wall: Sequence[float], cpu: Sequence[float], wait: Sequence[float], *, one_thread: bool
) -> tuple[bool, ...]:
    """Per run, whether its wait or its CPU time gives it away; empty readings are not used.

    one_thread: the run computes on one CPU thread, so that its CPU time should be its wall time.
    """
    waited = [w > WAIT_SHARE * t for w, t in zip(wait, wall, strict=True)] if wait else [False] * len(wall)
    blocked = [c < CPU_SHARE * t for c, t in zip(cpu, wall, strict=True)] if cpu and one_thread else waited
    return tuple(a or b for a, b in zip(waited, blocked, strict=True))


def waited_too_long(record: LaunchRecord) -> bool:
    """The launch's runs taken as one long run: over 2 % of it was spent in the run queue."""
    return bool(record.wait_ms) and sum(record.wait_ms) > WAIT_SHARE * sum(record.latency_ms)


def with_suspects(launches: Sequence[LaunchRecord]) -> tuple[LaunchRecord, ...]:
    """The launches with every run marked where the launch as a whole is suspect.

    That is a slow control computation (against the quick quarter of all launches) or a warm-up that
    never came to rest. Marking twice changes nothing.
    """
    slow = slow_controls(launches)
    marked = []
    for record, suspect in zip(launches, slow, strict=True):
        if suspect or record.settled is False:
            everything = (True,) * len(record.latency_ms)
            cold = record.cold_disturbed or suspect
            record = dataclasses.replace(record, disturbed=everything, cold_disturbed=cold)
        marked.append(record)
    return tuple(marked)


def slow_controls(launches: Sequence[LaunchRecord]) -> tuple[bool, ...]:
    """Per launch, whether the machine itself was slow. With under three launches nothing is known."""
    controls = sorted(record.control_ms for record in launches)
    if len(controls) < _CONTROLS_NEEDED:
        return (False,) * len(launches)
    quick = controls[len(controls) // 4]
    return tuple(record.control_ms > CONTROL_RATIO * quick for record in launches)


def read_pressure(root: Path = Path("/")) -> float | None:
    """Seconds so far in which some task of this machine waited for a CPU; None when not told."""
    try:
        lines = (root / "proc/pressure/cpu").read_text("ascii").splitlines()
        some = next(line for line in lines if line.startswith("some "))
        total = next(word for word in some.split() if word.startswith("total="))
        return int(total.removeprefix("total=")) / 1e6
    except (OSError, ValueError, StopIteration):
        return None


def under_pressure(before: float | None, after: float | None, seconds: float) -> bool:
    """Whether tasks waited for a CPU in over 10 % of a period; False when that is not told."""
    return before is not None and after is not None and after - before > PRESSURE_SHARE * seconds


def disturbance_notes(launches: Sequence[LaunchRecord]) -> tuple[str, ...]:
    """What a reader must know about the machine's quiet, in sentences."""
    runs = sum(len(record.latency_ms) for record in launches)
    if not runs:
        return ()
    marked = sum(sum(record.disturbed) for record in launches)
    notes = []
    if not all(record.wait_ms for record in launches):
        notes.append("disturbance not readable: this system tells no run-queue waits of every run")
    if marked:
        notes.append(
            f"{marked} of {runs} runs were disturbed; "
            "they count as over a limit for PASS and as under it for FAIL"
        )
    slow, restless = sum(slow_controls(launches)), sum(record.settled is False for record in launches)
    if slow:
        notes.append(f"the control computation was slow in {slow} of {len(launches)} launches")
    if restless:
        notes.append(f"the warm-up never came to rest in {restless} of {len(launches)} launches")
    if any(record.settled is None for record in launches):
        notes.append("some warm-ups were too short to tell whether the model had come to rest")
    return tuple(notes)
