"""Run launches: each a fresh worker, from process start to the last run, until all is decided."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.host.client import OnProgress, WorkerClient
from edgekit.host.sessions import RemoteSession, open_remote
from edgekit.measuring.disturbance import disturbed_runs, read_pressure, under_pressure, with_suspects
from edgekit.measuring.plan import Decision, MeasurementPlan
from edgekit.values import LaunchRecord, RunSettings
from edgekit_runtime.clock import Timing, TimingPlan
from edgekit_runtime.session import Feeds

Decide = Callable[[Sequence[LaunchRecord]], Decision]

#: Runs that a warm-up needs before it can be said to have come to rest (two blocks of five).
_JUDGED_WARMUP = 10
_LONGEST_BLOCK_SECONDS = 20.0
_CONTROLS = 5
_LOCAL = ("local", "local://")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSetup:
    """What is launched. inputs: launch number -> fresh feeds at the workload's shape, at least two."""

    start_worker: Callable[[], WorkerClient]
    directory: Path
    backend: str
    precision: str
    run: RunSettings
    inputs: Callable[[int], Sequence[Feeds]]


def measure_launches(
    setup: LaunchSetup, plan: MeasurementPlan, decide: Decide, on_progress: OnProgress | None = None
) -> tuple[LaunchRecord, ...]:
    """Launch until `decide` is done, or the plan's launches or seconds are spent; at least once.

    A launch that would not end in time is not begun. What a worker raises ends the measurement.
    """
    started = time.monotonic()
    launches: list[LaunchRecord] = []
    while True:
        launches.append(_launch(setup, plan, len(launches)))
        decision = decide(launches)
        spent = time.monotonic() - started
        if on_progress is not None:
            what = f"launch {len(launches)}" + (f": {decision.text}" if decision.text else "")
            on_progress(min(int(spent), int(plan.max_seconds)), int(plan.max_seconds), what)
        if decision.done and len(launches) >= plan.min_launches:
            break
        if len(launches) >= plan.max_launches or spent + launches[-1].seconds > plan.max_seconds:
            break
    return with_suspects(launches)


def _launch(setup: LaunchSetup, plan: MeasurementPlan, number: int) -> LaunchRecord:
    feeds = setup.inputs(number)
    pressure = read_pressure()
    begin = time.perf_counter()
    with setup.start_worker() as worker:
        session = open_remote(
            worker, setup.directory, setup.backend, setup.precision, setup.run, plan.call_timeout
        )
        session.run(feeds[0])
        cold_ms = (time.perf_counter() - begin) * 1e3
        local = worker.device.uri in _LOCAL
        pressed = local and under_pressure(pressure, read_pressure(), cold_ms / 1e3)
        parts = {"start": session.start_ms, "import": session.import_ms, "open": session.open_ms}
        parts["first run"] = max(0.0, cold_ms - sum(parts.values()))
        before = _control(session)
        timing, blocked = _time_block(session, feeds, _timing_plan(plan, parts["first run"]), local=local)
        control = max(before, _control(session))
        memory = session.memory()
        session.close()
    seconds = time.perf_counter() - begin
    one_thread = setup.run.threads == 1 and setup.run.device.casefold() == "cpu"
    latency, cpu, wait = (_ms(part) for part in (timing.wall_ns, timing.cpu_ns, timing.wait_ns or ()))
    marks = disturbed_runs(latency, cpu, wait, one_thread=one_thread)
    return LaunchRecord(
        cold_start_ms=cold_ms,
        latency_ms=latency,
        cpu_ms=cpu,
        wait_ms=wait,
        disturbed=(True,) * len(marks) if blocked else marks,
        control_ms=control,
        baseline_mib=memory.baseline_mib,
        peak_mib=memory.peak_mib,
        settled=timing.settled if timing.settled or timing.warmup_runs >= _JUDGED_WARMUP else None,
        cold_disturbed=pressed,
        cold_parts_ms=parts,
        seconds=seconds,
    )


def _timing_plan(plan: MeasurementPlan, first_run_ms: float) -> TimingPlan:
    """A slow model gets the time that a warm-up needs to be judged."""
    needed = (_JUDGED_WARMUP + 2) * first_run_ms / 1e3
    seconds = max(plan.block_seconds, min(needed, _LONGEST_BLOCK_SECONDS))
    return TimingPlan(warmup_runs=plan.warmup_runs, max_runs=plan.max_runs, max_seconds=seconds)


def _time_block(
    session: RemoteSession, feeds: Sequence[Feeds], plan: TimingPlan, *, local: bool
) -> tuple[Timing, bool]:
    """The timed runs, and whether pressure spoilt them where single waits cannot be read."""
    pressure, begin = read_pressure(), time.perf_counter()
    timing = session.time_runs(feeds, plan)
    if timing.wait_ns is not None or not local:
        return timing, False
    return timing, under_pressure(pressure, read_pressure(), time.perf_counter() - begin)


def _control(session: RemoteSession) -> float:
    """The quickest of a few: what the machine can do now. A single one may just have been preempted."""
    return min(session.control() for _ in range(_CONTROLS))


def _ms(nanoseconds: Sequence[int]) -> tuple[float, ...]:
    return tuple(value / 1e6 for value in nanoseconds)
