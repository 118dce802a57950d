"""The one clock. Every latency that edgekit reports was taken by `time_runs`, on every backend.

Between two readings of the wall clock there is one `run` and one look at each output, and nothing
else: no pipe, no garbage collection, no reading of other clocks. `heat` uses the same readings for
sustained latency; `time_streams` counts completed runs of several sessions at once.
"""

from __future__ import annotations

import gc
import math
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np

from edgekit_runtime.energy import EnergyMeter
from edgekit_runtime.errors import InputError, RunFailed
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.waits import WaitReader
from edgekit_runtime.warmup import shapes_of, warm_up

_CONTROL_SIZE = 1 << 15
_CONTROL_ROUNDS = 300
#: How often `between` is called while streams run.
_LOOK_SECONDS = 0.1

Run = Callable[[Feeds], dict[str, Array]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingPlan:
    """How long to warm up and to measure.

    warmup_runs: the least number of warm-up runs; up to ten times as many (or `max_seconds`) are
    made until two successive blocks agree. 0 skips the warm-up, and nothing is known of the state.
    max_runs, max_seconds: the measured part ends at whichever comes first, after at least one run.
    """

    warmup_runs: int = 10
    max_runs: int = 100
    max_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What `time_runs` saw; one entry per measured run, in order, none left out.

    cpu_ns: CPU time of the whole process; wait_ns: time its threads stood runnable without a CPU,
    None where the system does not tell. warmup_runs: as made. settled: whether the warm-up ended in
    a steady state. first_ns: the first run of all, warm-up included.
    drift: median of the last warm-up block over the block before, less 1; None when the warm-up was
    too short to be judged. energy_mj: of one measured run, in millijoules, everything that ran on the
    CPU packages meanwhile included; None where the system does not tell.
    """

    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    wait_ns: tuple[int, ...] | None
    settled: bool
    warmup_runs: int
    first_ns: int
    drift: float | None = None
    energy_mj: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTiming:
    """What `time_streams` saw. Throughput is `sum(completed) / wall_ns`.

    completed: finished runs of each stream. wall_ns: from the common start to the end of the last run.
    wait_ns: time that threads of the process stood runnable without a CPU, all together; None where
    the system does not tell.
    """

    completed: tuple[int, ...]
    wall_ns: int
    wait_ns: int | None


def time_runs(
    run: Run, inputs: Sequence[Feeds], plan: TimingPlan, between: Callable[[], None] | None = None
) -> Timing:
    """Warm up, then time runs over `inputs` in turn.

    Measured run i sees inputs[i % len(inputs)], so that entry i of the result can be told by its
    input. Give at least two different inputs (more, when an engine may cache): successive measured
    runs then never see the same feeds. Inputs of several shapes each run once before the warm-up is
    judged, which uses the largest shape alone (see `warmup`). `between` is called between runs,
    outside the measured interval; what it raises ends the loop.
    Raises `InputError` for a plan or inputs that measure nothing, `RunFailed` for outputs that are no
    arrays, and whatever `run` raises.
    """
    _check_inputs(inputs)
    if plan.warmup_runs < 0 or plan.max_runs < 1 or not plan.max_seconds > 0:
        raise InputError(f"a timing plan that measures nothing: {plan}")
    pause = between or _nothing
    taker = _Taker(run, inputs, pause)
    wall: list[int] = []
    cpu: list[int] = []
    wait: list[int | None] = []
    with _quiet_collector(), closing(WaitReader()) as waits:
        warmed = warm_up(taker.warm, inputs, plan.warmup_runs, plan.max_seconds)
        meter = EnergyMeter()
        deadline = time.monotonic() + plan.max_seconds
        while len(wall) < plan.max_runs and (not wall or time.monotonic() < deadline):
            waits.mark()
            wall_ns, cpu_ns = taker.take(len(wall))
            wait.append(waits.since_mark())
            wall.append(wall_ns)
            cpu.append(cpu_ns)
            pause()
        used_mj = meter.used_mj()
    known = [value for value in wait if value is not None]
    return Timing(
        wall_ns=tuple(wall),
        cpu_ns=tuple(cpu),
        wait_ns=tuple(known) if len(known) == len(wait) else None,
        settled=warmed.settled,
        warmup_runs=warmed.runs,
        first_ns=taker.first_ns,
        drift=warmed.drift,
        energy_mj=None if used_mj is None else used_mj / len(wall),
    )


def heat(
    run: Run,
    inputs: Sequence[Feeds],
    seconds: float,
    windows: int,
    between: Callable[[], None] | None = None,
) -> tuple[float, ...]:
    """Sustained latency: run over `inputs` in turn without a pause for `seconds`.

    Returns the median latency in milliseconds of each of `windows` successive windows of equal time.
    A run belongs to the window in which it began; a window in which none began repeats the one before.
    Garbage is collected when a window ends. Raises as `time_runs` does.
    """
    _check_inputs(inputs)
    if windows < 1 or not 0 < seconds < math.inf:
        raise InputError(f"{windows} windows in {seconds} seconds measure nothing")
    pause = between or _nothing
    taker = _Taker(run, inputs, pause)
    length = max(1, int(seconds * 1e9) // windows)
    medians: list[float] = []
    current = array("q")
    turn = 0
    with _quiet_collector():
        start = time.perf_counter_ns()
        while len(medians) < windows:
            current.append(taker.take(turn)[0])
            turn += 1
            pause()
            passed = min(windows, (time.perf_counter_ns() - start) // length)
            if passed > len(medians):
                medians += [float(np.median(current)) / 1e6] * (passed - len(medians))
                current = array("q")
                gc.collect()
    return tuple(medians)


def time_streams(
    runs: Sequence[Run],
    inputs: Sequence[Feeds],
    seconds: float,
    between: Callable[[], None] | None = None,
) -> StreamTiming:
    """Run several sessions at once, each in its own thread, for `seconds`; at least one run each.

    Stream s takes inputs[s], inputs[s + len(runs)], ... in turn; where inputs are fewer than streams,
    streams share one. Each stream makes one untimed run of every shape it holds, then all start
    together. A run that began in time is finished and counted. Only what releases the interpreter's
    lock runs side by side. `between` is called a few times per second; what it or a stream raises
    stops all streams after their present run, and is raised here.
    """
    # Not above: most workers never stream, and starting one must stay quick.
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    _check_inputs(inputs)
    if not runs or not 0 < seconds < math.inf:
        raise InputError(f"{len(runs)} streams in {seconds} seconds measure nothing")
    count = len(runs)
    slices = [inputs[number::count] or [inputs[number % len(inputs)]] for number in range(count)]
    pause = between or _nothing
    # The threads of the pool live on until it is left, so that their waits can still be read.
    with _quiet_collector(), closing(WaitReader()) as waits, ThreadPoolExecutor(count) as pool:
        streams = _Streams(count, seconds, waits)
        work = [pool.submit(streams.run, run, own) for run, own in zip(runs, slices, strict=True)]
        pending = set(work)
        try:
            while pending:
                done, pending = wait(pending, timeout=_LOOK_SECONDS, return_when=FIRST_EXCEPTION)
                for ended in done:
                    ended.result()
                pause()
        finally:
            streams.stop()
        wait_ns = waits.since_mark()
    completed, ends = zip(*(future.result() for future in work), strict=True)
    return StreamTiming(completed=completed, wall_ns=max(ends) - streams.start_ns, wait_ns=wait_ns)


def control_ms() -> float:
    """Milliseconds of a fixed computation on one thread: when it is slow, the machine is, not the model.

    Without matrix products: a BLAS would bring threads of its own, and their trouble.
    """
    values = np.linspace(0.1, 0.9, _CONTROL_SIZE, dtype=np.float32)
    with _quiet_collector():
        start = time.perf_counter_ns()
        for _ in range(_CONTROL_ROUNDS):
            np.tanh(values, out=values)
            np.sqrt(values, out=values)
        float(values[-1])
        return (time.perf_counter_ns() - start) / 1e6


class _Taker:
    """Takes single readings."""

    def __init__(self, run: Run, inputs: Sequence[Feeds], pause: Callable[[], None]) -> None:
        self._run = run
        self._inputs = inputs
        self._pause = pause
        self._checked = False
        self.first_ns = 0

    def take(self, turn: int) -> tuple[int, int]:
        """Wall and CPU nanoseconds of one run. The wall clock is read innermost."""
        feeds = self._inputs[turn % len(self._inputs)]
        run = self._run
        cpu = time.process_time_ns()
        start = time.perf_counter_ns()
        outputs = run(feeds)
        _look_at(outputs)
        end = time.perf_counter_ns()
        cpu = time.process_time_ns() - cpu
        if not self._checked:
            _check_outputs(outputs)
            self._checked = True
            self.first_ns = end - start
        return end - start, cpu

    def warm(self, turn: int) -> int:
        """One run that is not measured, and a pause; its wall nanoseconds."""
        wall_ns, _ = self.take(turn)
        self._pause()
        return wall_ns


class _Streams:
    """What the threads of `time_streams` share: the start, the end, and the sign to stop."""

    def __init__(self, count: int, seconds: float, waits: WaitReader) -> None:
        self._gate = threading.Barrier(count, action=self._begin)
        self._stopped = threading.Event()
        self._seconds = seconds
        self._waits = waits
        self._deadline = 0
        self.start_ns = 0

    def run(self, run: Run, inputs: Sequence[Feeds]) -> tuple[int, int]:
        """One stream: how many runs it completed, and when the last one ended."""
        for feeds in {shapes_of(feeds): feeds for feeds in inputs}.values():
            outputs = run(feeds)
            _look_at(outputs)
            _check_outputs(outputs)
        self._gate.wait()
        completed, ended = 0, self.start_ns
        while not self._stopped.is_set():
            _look_at(run(inputs[completed % len(inputs)]))
            completed += 1
            ended = time.perf_counter_ns()
            if ended >= self._deadline:
                break
        return completed, ended

    def stop(self) -> None:
        """Let no stream begin another run, nor wait for the others."""
        self._stopped.set()
        self._gate.abort()

    def _begin(self) -> None:
        """Runs in one of the threads while all others stand at the gate."""
        self._waits.mark()
        self.start_ns = time.perf_counter_ns()
        self._deadline = self.start_ns + int(self._seconds * 1e9)


def _look_at(outputs: dict[str, Array]) -> None:
    """Read one element of each output: a lazy array is computed now."""
    try:
        for value in outputs.values():
            if value.size:
                value.flat[value.size - 1]
    except (AttributeError, TypeError):
        _check_outputs(outputs)
        raise


def _check_inputs(inputs: Sequence[Feeds]) -> None:
    if not inputs:
        raise InputError("there are no inputs to time", hint="give at least one row of feeds")


def _check_outputs(outputs: object) -> None:
    if not isinstance(outputs, dict) or not outputs:
        raise RunFailed(f"a run returned {type(outputs).__name__}, not named outputs")
    wrong = [name for name, value in outputs.items() if not isinstance(value, np.ndarray)]
    if wrong:
        raise RunFailed(f"output {wrong[0]!r} is a {type(outputs[wrong[0]]).__name__}, not a numpy array")


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """No garbage collection inside; as it was before, afterwards."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _nothing() -> None:
    pass
