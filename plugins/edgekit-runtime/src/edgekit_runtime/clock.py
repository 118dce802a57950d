"""The one clock. Every latency that edgekit reports was taken by `time_runs`, on every backend.

Between two readings of the wall clock there is one `run` and one look at each output, and nothing
else: no pipe, no garbage collection, no reading of other clocks.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit_runtime.errors import InputError, RunFailed
from edgekit_runtime.session import Array, Feeds

#: Two successive warm-up blocks whose medians differ by less than this are a steady state.
SETTLED_WITHIN = 0.05
_BLOCK_MIN = 5
_WARMUP_CAP = 10
_CONTROL_SIZE = 1 << 15
_CONTROL_ROUNDS = 300

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
    """

    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    wait_ns: tuple[int, ...] | None
    settled: bool
    warmup_runs: int
    first_ns: int


def time_runs(
    run: Run, inputs: Sequence[Feeds], plan: TimingPlan, between: Callable[[], None] | None = None
) -> Timing:
    """Run `run` over `inputs` in turn, so that successive runs never see the same feeds.

    Give at least two different inputs (more, when an engine may cache). `between` is called
    between runs, outside the measured interval; what it raises ends the loop.
    """
    if not inputs:
        raise InputError("there are no inputs to time", hint="give at least one row of feeds")
    if plan.warmup_runs < 0 or plan.max_runs < 1 or plan.max_seconds <= 0:
        raise InputError(f"a timing plan that measures nothing: {plan}")
    pause = between or _nothing
    taker = _Taker(run, inputs, pause)
    with _quiet_collector():
        warmup, settled = _warm_up(taker, plan)
        waits = WaitReader()
        wall: list[int] = []
        cpu: list[int] = []
        wait: list[int | None] = []
        deadline = time.monotonic() + plan.max_seconds
        while len(wall) < plan.max_runs and (not wall or time.monotonic() < deadline):
            waits.mark()
            wall_ns, cpu_ns = taker.take()
            wait.append(waits.since_mark())
            wall.append(wall_ns)
            cpu.append(cpu_ns)
            pause()
        waits.close()
    known = [value for value in wait if value is not None]
    return Timing(
        wall_ns=tuple(wall),
        cpu_ns=tuple(cpu),
        wait_ns=tuple(known) if len(known) == len(wait) else None,
        settled=settled,
        warmup_runs=warmup,
        first_ns=taker.first_ns,
    )


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
    """Takes single readings; turns the inputs over."""

    def __init__(self, run: Run, inputs: Sequence[Feeds], pause: Callable[[], None]) -> None:
        self._run = run
        self._inputs = inputs
        self._turn = 0
        self.pause = pause
        self.first_ns = 0

    def take(self) -> tuple[int, int]:
        """Wall and CPU nanoseconds of one run. The wall clock is read innermost."""
        feeds = self._inputs[self._turn % len(self._inputs)]
        run = self._run
        cpu = time.process_time_ns()
        start = time.perf_counter_ns()
        outputs = run(feeds)
        try:
            for value in outputs.values():
                if value.size:
                    value.flat[value.size - 1]
        except (AttributeError, TypeError):
            _check_outputs(outputs)
            raise
        end = time.perf_counter_ns()
        cpu = time.process_time_ns() - cpu
        if not self._turn:
            _check_outputs(outputs)
            self.first_ns = end - start
        self._turn += 1
        return end - start, cpu


def _warm_up(taker: _Taker, plan: TimingPlan) -> tuple[int, bool]:
    """Blocks of runs until two successive medians agree; how many runs, and whether they did."""
    if not plan.warmup_runs:
        return 0, False
    block = max(_BLOCK_MIN, plan.warmup_runs // 2)
    cap = _WARMUP_CAP * max(plan.warmup_runs, 2 * block)
    deadline = time.monotonic() + plan.max_seconds
    readings: list[int] = []
    while True:
        readings.append(taker.take()[0])
        taker.pause()
        done = len(readings)
        if done < max(plan.warmup_runs, 2 * block):
            # Slow models: past the deadline, the runs that were asked for are enough.
            if done >= plan.warmup_runs and time.monotonic() >= deadline:
                return done, False
            continue
        before = statistics.median(readings[-2 * block : -block])
        if abs(statistics.median(readings[-block:]) - before) <= SETTLED_WITHIN * before:
            return done, True
        if done >= cap or time.monotonic() >= deadline:
            return done, False


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


class WaitReader:
    """Time that this process's threads stood in the run queue, from /proc/self/task/*/schedstat."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._tasks = str(root / "proc/self/task")
        self._files: dict[str, int] = {}
        self._marked: dict[str, int] | None = None

    def mark(self) -> None:
        """Start an interval."""
        self._marked = self._read()

    def since_mark(self) -> int | None:
        """Nanoseconds of waiting since `mark`, all threads together; None when not readable."""
        before, after = self._marked, self._read()
        if before is None or after is None:
            return None
        return sum(max(0, wait - before.get(task, 0)) for task, wait in after.items())

    def close(self) -> None:
        """Close the files it keeps open from one reading to the next."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def _read(self) -> dict[str, int] | None:
        try:
            tasks = os.listdir(self._tasks)  # noqa: PTH208 (once per run: paths would cost more)
        except OSError:
            return None
        fields = {task: self._fields(task) for task in tasks}
        known = {task: pair for task, pair in fields.items() if pair is not None}
        if not any(ran for ran, _ in known.values()):
            return None  # a kernel that does not count shows zeros: some thread of ours did run
        return {task: waited for task, (_, waited) in known.items()}

    def _fields(self, task: str) -> tuple[int, int] | None:
        try:
            file = self._files.get(task)
            if file is None:
                file = self._files[task] = os.open(f"{self._tasks}/{task}/schedstat", os.O_RDONLY)
            ran, waited, *_ = os.pread(file, 96, 0).split()
            return int(ran), int(waited)
        except (OSError, ValueError):
            stale = self._files.pop(task, None)
            if stale is not None:
                os.close(stale)
            return None


def _nothing() -> None:
    pass
