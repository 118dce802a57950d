"""Which readings something else on the machine may have spoilt.

A disturbed reading is never dropped. It counts as over the limit when PASS is asked and as under it
when FAIL is asked, so marking one reading too many can cost a decision but never make a wrong one.

Signs, each used where the system gives it:
* run-queue wait: the run's threads stood runnable without a CPU for over 2 % of the run;
* CPU beside wall time: a single-threaded run on the CPU was blocked for over 10 % of the run;
* pressure: for periods without run-queue waits, such as the cold start;
* the control computation: a launch in which it took 1.25 times as long as in the quick launches;
* a hypervisor that took over 5 % of a launch's time;
* a warm-up that never came to rest.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence

from edgekit.values import LaunchRecord

WAIT_SHARE = 0.02
CPU_SHARE = 0.90
PRESSURE_SHARE = 0.10
STEAL_SHARE = 0.05
CONTROL_RATIO = 1.25
_CONTROLS_NEEDED = 3
#: A load that is worth naming; the measured process itself adds to it.
LOAD_RATIO = 1.25


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
    """The launches with every reading marked where the launch as a whole is suspect.

    That is a slow control computation (against the quick quarter of all launches), a hypervisor that
    took too much, other work on the same cores, or a warm-up that never came to rest. Marking twice changes
    nothing.
    """
    slow = slow_controls(launches)
    marked = []
    for record, suspect in zip(launches, slow, strict=True):
        suspect = suspect or stolen_from(record) or crowded(record)
        if suspect or record.settled is False:
            record = dataclasses.replace(
                record,
                disturbed=(True,) * len(record.latency_ms),
                cold_disturbed=record.cold_disturbed or suspect,
                streams_disturbed=True,
            )
        marked.append(record)
    return tuple(marked)


def slow_controls(launches: Sequence[LaunchRecord]) -> tuple[bool, ...]:
    """Per launch, whether the machine itself was slow. With under three launches nothing is known."""
    controls = sorted(record.control_ms for record in launches)
    if len(controls) < _CONTROLS_NEEDED:
        return (False,) * len(launches)
    quick = controls[len(controls) // 4]
    return tuple(record.control_ms > CONTROL_RATIO * quick for record in launches)


def crowded(record: LaunchRecord) -> bool:
    """Whether some task waited for a CPU in over 10 % of the launch: there was other work.

    Work beside a run slows it through shared caches and cores even where the run itself never waits.
    Concurrent streams make such pressure themselves and are judged on their own.
    """
    share = record.conditions.pressure_share
    return share is not None and record.samples_per_second is None and share > PRESSURE_SHARE


def stolen_from(record: LaunchRecord) -> bool:
    """Whether a hypervisor took over 5 % of the launch's time."""
    share = record.conditions.steal_share
    return share is not None and share > STEAL_SHARE


def disturbed_as_a_whole(launches: Sequence[LaunchRecord]) -> bool:
    """Whether the latest launch was: over half its runs are marked, or the machine was slow or stolen."""
    latest = launches[-1]
    marked = 2 * sum(latest.disturbed) > len(latest.disturbed)
    return marked or slow_controls(launches)[-1] or stolen_from(latest)


def under_pressure(before: float | None, after: float | None, seconds: float) -> bool:
    """Whether tasks waited for a CPU in over 10 % of a period; False when that is not told."""
    return before is not None and after is not None and after - before > PRESSURE_SHARE * seconds


def load_text(load: float, cores: float | None) -> str:
    """For people: "load 9 on 2 cores"."""
    words = f"load {load:.2g}"
    return f"{words} on {cores:.3g} core{'' if cores == 1 else 's'}" if cores else words


def why_disturbed(launches: Sequence[LaunchRecord], cores: float | None = None) -> str:
    """The machine's part in the disturbance, in a few words: "load 9 on 2 cores"; "" for none to name.

    cores: usable ones, None or 0 when not known. Only what the launches recorded is used.
    """
    return ", ".join([*_busy(launches, cores), *_slowed(launches)])


def _busy(launches: Sequence[LaunchRecord], cores: float | None) -> Iterator[str]:
    """Other work on the machine."""
    conditions = [record.conditions for record in launches]
    load = max(
        _median([told.running - 1 for told in conditions if told.running is not None]),  # less the reader
        _median([told.load for told in conditions if told.load is not None]),
    )
    pressure = _median([told.pressure_share for told in conditions if told.pressure_share is not None])
    if cores and load > LOAD_RATIO * cores:
        yield load_text(load, cores)
    elif pressure > PRESSURE_SHARE and any(any(record.disturbed) for record in launches):
        yield f"tasks waited for a CPU in {100 * pressure:.0f} % of the time"


def _slowed(launches: Sequence[LaunchRecord]) -> Iterator[str]:
    """A machine that is not what it was, and a model that did not come to rest."""
    stolen = [record.conditions.steal_share or 0.0 for record in launches if stolen_from(record)]
    if stolen:
        yield f"{100 * _median(stolen):.2g} % of the time stolen by the hypervisor"
    if any(record.conditions.throttled for record in launches):
        yield "throttled by heat"
    slow = [record.control_ms for record, late in zip(launches, slow_controls(launches), strict=True) if late]
    if slow:
        quick = sorted(record.control_ms for record in launches)[len(launches) // 4]
        yield f"the control computation was {_median(slow) / quick:.2g} times slower"
    restless = [record for record in launches if record.settled is False]
    if restless:
        drifts = [record.drift for record in restless if record.drift is not None]
        drift = f" (drift {100 * max(drifts, key=abs):+.2g} %)" if drifts else ""
        yield f"the warm-up never came to rest{drift}"


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


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
    signs = (
        (sum(slow_controls(launches)), "the control computation was slow"),
        (sum(map(stolen_from, launches)), f"a hypervisor took over {100 * STEAL_SHARE:.0f} % of the time"),
        (sum(bool(record.conditions.throttled) for record in launches), "a CPU was slowed for its heat"),
        (sum(record.settled is False for record in launches), "the warm-up never came to rest"),
    )
    notes += [f"{what} in {count} of {len(launches)} launches" for count, what in signs if count]
    if any(record.settled is None for record in launches):
        notes.append("some warm-ups were too short to tell whether the model had come to rest")
    return tuple(notes)
