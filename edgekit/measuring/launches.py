"""Run launches: each a fresh worker, from process start to the last run, until all is decided.

Everything that is told about the machine is read in the worker, so that a remote device is judged by
its own load, not by the host's.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.host.client import OnProgress, WorkerClient
from edgekit.host.sessions import RemoteSession, open_remote, remote_conditions, time_streams
from edgekit.measuring.disturbance import (
    WAIT_SHARE,
    disturbed_as_a_whole,
    disturbed_runs,
    under_pressure,
    with_suspects,
)
from edgekit.measuring.plan import Decision, MeasurementPlan
from edgekit.measuring.quiet import SHARE_OF_TIME, Waiting
from edgekit.values import HeatRecord, LaunchConditions, LaunchRecord, RunSettings
from edgekit_runtime.clock import Timing, TimingPlan
from edgekit_runtime.conditions import Conditions
from edgekit_runtime.session import Feeds
from edgekit_runtime.warmup import shapes_of

Decide = Callable[[Sequence[LaunchRecord]], Decision]

#: Runs that a warm-up needs before it can be said to have come to rest (two blocks of five).
_JUDGED_WARMUP = 10
_LONGEST_BLOCK_SECONDS = 20.0
_LEAST_STREAM_SECONDS = 0.5
#: Inputs that a slow model whose rows differ in shape is timed on, at least.
_LEAST_ROWS = 5
_CONTROLS = 5
_HEAT_WINDOWS = 20
#: Times as long as whole rounds should take, after which they are cut short nevertheless.
_SPARE_TIME = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSetup:
    """What is launched. inputs: launch number -> fresh feeds at the workload's shapes, at least two.

    mix: shapes that the feeds have in turn: feeds[k] has shape k % mix, and there are whole rounds.
    batch: samples in a run; streams: concurrent ones for throughput, 1 for none beside the timed runs;
    cores: that the worker may use, 0 when not known.
    """

    start_worker: Callable[[], WorkerClient]
    directory: Path
    backend: str
    precision: str
    run: RunSettings
    inputs: Callable[[int], Sequence[Feeds]]
    mix: int = 1
    batch: int = 1
    streams: int = 1
    cores: float = 0.0

    def open(self, worker: WorkerClient, timeout: float, *, threads: int | None = None) -> RemoteSession:
        """Open the artifact in `worker`, with the threads of the target or others."""
        run = self.run if threads is None else dataclasses.replace(self.run, threads=threads)
        return open_remote(worker, self.directory, self.backend, self.precision, run, timeout)


def measure_launches(
    setup: LaunchSetup,
    plan: MeasurementPlan,
    decide: Decide,
    on_progress: OnProgress | None = None,
    *,
    wait_for_quiet: bool = True,
) -> tuple[LaunchRecord, ...]:
    """Launch until `decide` is done, or the plan's launches or seconds are spent; at least once.

    After a launch that was disturbed as a whole, which is kept as every other, the machine is given
    time to get quiet (see `quiet`), unless `wait_for_quiet` is False. A launch that would not end in
    time is not begun. What a worker raises ends the measurement.
    """
    started = time.monotonic()
    waiting = Waiting(cores=setup.cores, allowed=SHARE_OF_TIME * plan.max_seconds)
    launches: list[LaunchRecord] = []

    def tell(what: str) -> None:
        if on_progress is not None:
            total = int(plan.max_seconds)
            on_progress(min(int(time.monotonic() - started), total), total, what)

    while True:
        began = time.monotonic() - started
        launches.append(dataclasses.replace(make_launch(setup, plan, len(launches)), began_s=began))
        decision = decide(launches)
        tell(f"launch {len(launches)}" + (f": {decision.text}" if decision.text else ""))
        if decision.done and len(launches) >= plan.min_launches:
            break
        if wait_for_quiet and disturbed_as_a_whole(launches):
            _wait(setup, waiting, tell)
        spent = time.monotonic() - started
        if len(launches) >= plan.max_launches or spent + launches[-1].seconds > plan.max_seconds:
            break
    return with_suspects(launches)


def _wait(setup: LaunchSetup, waiting: Waiting, tell: Callable[[str], None]) -> None:
    if waiting.over:
        return
    with setup.start_worker() as worker:
        waiting.wait(lambda: remote_conditions(worker), tell)


def heat_up(setup: LaunchSetup, seconds: float, plan: MeasurementPlan) -> HeatRecord:
    """Run without a pause for `seconds` in a worker of its own; the launches should follow at once."""
    with setup.start_worker() as worker, setup.open(worker, plan.call_timeout) as session:
        windows = session.heat(setup.inputs(0), seconds, _HEAT_WINDOWS)
    return HeatRecord(seconds=seconds, windows_ms=windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cold:
    """From the start of the process to the first output. parts_ms: what it consists of."""

    ms: float
    parts_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Streams:
    """Concurrent streams of runs, all together."""

    samples_per_second: float
    disturbed: bool


def make_launch(setup: LaunchSetup, plan: MeasurementPlan, number: int) -> LaunchRecord:
    """One launch, from process start to the last run. number: picks its feeds."""
    feeds = setup.inputs(number)
    begin = time.perf_counter()
    with setup.start_worker() as worker:
        session, cold, first = _cold_start(setup, plan, worker, feeds)
        slowest = _control(session)
        block, timing_plan = plan_block(feeds, plan, cold.parts_ms["first run"] / 1e3, setup.mix)
        before = remote_conditions(worker)
        timing = session.time_runs(block, timing_plan)
        after = last = remote_conditions(worker)
        streams = None
        if setup.streams > 1:
            session.close()
            session, streams, last = _run_streams(setup, plan, worker, feeds, after)
        slowest = max(slowest, _control(session))
        memory = session.memory()
        session.close()
    latency, cpu, wait = (_ms(part) for part in (timing.wall_ns, timing.cpu_ns, timing.wait_ns or ()))
    return LaunchRecord(
        cold_start_ms=cold.ms,
        latency_ms=latency,
        cpu_ms=cpu,
        wait_ms=wait,
        disturbed=_marks(setup, timing, before, after),
        control_ms=slowest,
        baseline_mib=memory.baseline_mib,
        peak_mib=memory.peak_mib,
        settled=None if timing.drift is None else timing.settled,
        cold_disturbed=_pressed(first, before),
        cold_parts_ms=cold.parts_ms,
        seconds=time.perf_counter() - begin,
        drift=timing.drift,
        shape=tuple(run % setup.mix for run in range(len(latency))) if setup.mix > 1 else (),
        steady_mib=None if memory.steady_mib is None else max(0.0, memory.steady_mib),
        samples_per_second=streams.samples_per_second if streams else None,
        streams_disturbed=streams.disturbed if streams else False,
        energy_mj=timing.energy_mj,
        conditions=launch_conditions(first, before, after, last),
    )


def _cold_start(
    setup: LaunchSetup, plan: MeasurementPlan, worker: WorkerClient, feeds: Sequence[Feeds]
) -> tuple[RemoteSession, _Cold, Conditions]:
    """Open and run once. Reading the machine is no part of the cold start.

    The first call loads what every call needs, which is a part: the second tells what reading alone takes.
    """
    begin = time.perf_counter()
    remote_conditions(worker)
    loaded = time.perf_counter()
    conditions = remote_conditions(worker)
    opening = time.perf_counter()
    session = setup.open(worker, plan.call_timeout)
    session.run(max(feeds[: setup.mix], key=_size))  # of a mix, the largest shape
    end = time.perf_counter()
    loading = max(0.0, (loaded - begin) - (opening - loaded))
    cold_ms = session.start_ms + (loading + end - opening) * 1e3
    parts = {
        "start": session.start_ms + loading * 1e3,
        "import": session.import_ms,
        "open": session.open_ms,
    }
    parts["first run"] = max(0.0, cold_ms - sum(parts.values()))
    return session, _Cold(ms=cold_ms, parts_ms=parts), conditions


def plan_block(
    feeds: Sequence[Feeds], plan: MeasurementPlan, first_run: float, mix: int
) -> tuple[Sequence[Feeds], TimingPlan]:
    """What is timed, and how long. first_run: seconds that the first run took.

    A slow model gets the time that a warm-up needs to be judged. Feeds of several shapes each run once
    before that, so a slow model gets fewer. A mix is timed in whole rounds, which are counted
    beforehand: were time to end them, slow shapes would be cut short.
    """
    seconds = _block_seconds(first_run, plan)
    runs, fitting = plan.max_runs, int(seconds / max(first_run, 1e-6))
    if mix > 1:
        rounds = max(1, fitting // mix)
        runs = mix * max(1, min(rounds, plan.max_runs // mix))
        feeds, seconds = feeds[: mix * rounds], _SPARE_TIME * seconds
    elif len({shapes_of(one) for one in feeds}) > 1:
        fitting = max(_LEAST_ROWS, fitting)
        feeds, runs, seconds = feeds[:fitting], min(runs, fitting), 2 * seconds  # once each, and warming up
    return feeds, TimingPlan(warmup_runs=plan.warmup_runs, max_runs=runs, max_seconds=seconds)


def expected_seconds(cold: float, run: float, plan: MeasurementPlan, streams: int = 1) -> float:
    """About what a launch will take. cold, run: seconds of a cold start and of a later run."""
    block = min(plan.max_runs * run, _block_seconds(run, plan))
    together = max(_LEAST_STREAM_SECONDS, plan.block_seconds) if streams > 1 else 0.0
    return cold + _JUDGED_WARMUP * run + block + together


def _block_seconds(run: float, plan: MeasurementPlan) -> float:
    """The plan's, or what the warm-up of a slow model takes to be judged."""
    return max(plan.block_seconds, min((_JUDGED_WARMUP + 2) * run, _LONGEST_BLOCK_SECONDS))


def _marks(setup: LaunchSetup, timing: Timing, before: Conditions, after: Conditions) -> tuple[bool, ...]:
    """Per run, whether it was disturbed; by pressure where single waits cannot be read."""
    if timing.wait_ns is None and _pressed(before, after):
        return (True,) * len(timing.wall_ns)
    one_thread = setup.run.threads == 1 and setup.run.device.casefold() == "cpu"
    return disturbed_runs(timing.wall_ns, timing.cpu_ns, timing.wait_ns or (), one_thread=one_thread)


def _run_streams(
    setup: LaunchSetup,
    plan: MeasurementPlan,
    worker: WorkerClient,
    feeds: Sequence[Feeds],
    before: Conditions,
) -> tuple[RemoteSession, _Streams, Conditions]:
    """Several sessions at once, the target's threads shared among them; one session is left open."""
    threads = max(1, setup.run.threads // setup.streams)
    sessions = [setup.open(worker, plan.call_timeout, threads=threads) for _ in range(setup.streams)]
    inputs = stream_inputs(feeds, setup.streams, setup.mix)
    seconds = max(_LEAST_STREAM_SECONDS, plan.block_seconds)
    timing = time_streams(worker, sessions, inputs, seconds)
    after = remote_conditions(worker)
    for session in sessions[1:]:
        session.close()
    if (
        setup.cores < setup.streams * threads
    ):  # they wait for one another: what else can run is all that tells
        disturbed = any((told.running or 1) > 1 for told in (before, after))
    elif timing.wait_ns is None:
        disturbed = _pressed(before, after)
    else:
        disturbed = timing.wait_ns > WAIT_SHARE * setup.streams * timing.wall_ns
    rate = setup.batch * sum(timing.completed) * 1e9 / timing.wall_ns
    return sessions[0], _Streams(samples_per_second=rate, disturbed=disturbed), after


def stream_inputs(feeds: Sequence[Feeds], streams: int, mix: int) -> list[Feeds]:
    """Feeds in the order in which streams take them, so that each stream sees every shape in turn."""
    rounds = mix * max(2, len(feeds) // (streams * mix))
    taken = [0] * mix
    inputs = []
    for turn in range(rounds):
        for stream in range(streams):
            shape = (stream + turn) % mix
            own = feeds[shape::mix]
            inputs.append(own[taken[shape] % len(own)])
            taken[shape] += 1
    return inputs


def launch_conditions(
    first: Conditions, before: Conditions, after: Conditions, last: Conditions
) -> LaunchConditions:
    """The machine during a launch, of readings at its begin, around its timed block, and at its end."""
    seconds = max(last.at_s - first.at_s, 1e-9)
    stolen, pressed = _grown(first.steal_s, last.steal_s), _grown(first.pressure_s, last.pressure_s)
    involuntary = _grown(before.involuntary, after.involuntary)
    throttled = _grown(first.throttled, last.throttled)
    return LaunchConditions(
        load=first.load,
        running=first.running,
        steal_share=None if stolen is None else stolen / seconds,
        pressure_share=None if pressed is None else min(1.0, pressed / seconds),
        involuntary=None if involuntary is None else int(involuntary),
        mhz=after.mhz,
        celsius=after.celsius,
        throttled=None if throttled is None else int(throttled),
    )


def _grown(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0, after - before)


def _pressed(before: Conditions, after: Conditions) -> bool:
    return under_pressure(before.pressure_s, after.pressure_s, after.at_s - before.at_s)


def _control(session: RemoteSession) -> float:
    """The quickest of a few: what the machine can do now. A single one may just have been preempted."""
    return min(session.control() for _ in range(_CONTROLS))


def _size(feeds: Feeds) -> int:
    return sum(value.nbytes for value in feeds.values())


def _ms(nanoseconds: Sequence[int]) -> tuple[float, ...]:
    return tuple(value / 1e6 for value in nanoseconds)
