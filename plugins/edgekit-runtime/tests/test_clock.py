"""The one clock: what is inside the interval, what is outside, and when it stops."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_runtime.clock import TimingPlan, control_ms, time_runs
from edgekit_runtime.energy import EnergyMeter
from edgekit_runtime.errors import InputError, RunFailed
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.waits import WaitReader


def feeds(count: int) -> list[dict[str, Array]]:
    return [{"x": np.array([float(index)])} for index in range(count)]


def double(given: Feeds) -> dict[str, Array]:
    return {"y": given["x"] * 2}


def plan(warmup: int = 0, runs: int = 10, seconds: float = 60.0) -> TimingPlan:
    return TimingPlan(warmup_runs=warmup, max_runs=runs, max_seconds=seconds)


def test_there_is_one_reading_per_run_and_none_is_left_out() -> None:
    calls: list[float] = []

    def run(given: Feeds) -> dict[str, Array]:
        calls.append(float(given["x"][0]))
        return double(given)

    timing = time_runs(run, feeds(3), plan(runs=10))
    assert len(timing.wall_ns) == len(timing.cpu_ns) == len(calls) == 10
    assert timing.wait_ns is None or len(timing.wait_ns) == 10
    assert timing.first_ns == timing.wall_ns[0]


def test_successive_runs_never_see_the_same_input() -> None:
    seen: list[float] = []

    def run(given: Feeds) -> dict[str, Array]:
        seen.append(float(given["x"][0]))
        return double(given)

    time_runs(run, feeds(3), plan(warmup=4, runs=8))
    assert all(a != b for a, b in itertools.pairwise(seen))


def test_a_sleep_is_wall_time_and_not_cpu_time() -> None:
    def run(given: Feeds) -> dict[str, Array]:
        time.sleep(0.02)
        return double(given)

    timing = time_runs(run, feeds(2), plan(runs=5))
    assert min(timing.wall_ns) >= 20_000_000
    assert sum(timing.cpu_ns) < 0.5 * sum(timing.wall_ns)


def test_work_of_other_threads_is_cpu_time_of_the_run() -> None:
    def spin() -> None:
        end = time.thread_time() + 0.03
        while time.thread_time() < end:
            pass

    def run(given: Feeds) -> dict[str, Array]:
        thread = threading.Thread(target=spin)
        thread.start()
        thread.join()
        return double(given)

    assert min(time_runs(run, feeds(2), plan(runs=3)).cpu_ns) >= 30_000_000


def test_what_happens_between_runs_is_in_no_reading() -> None:
    pauses: list[int] = []

    def between() -> None:
        pauses.append(1)
        time.sleep(0.02)

    timing = time_runs(double, feeds(2), plan(runs=5), between)
    assert len(pauses) == 5
    assert sorted(timing.wall_ns)[2] < 20_000_000


def test_what_between_raises_ends_the_loop_and_restores_the_collector() -> None:
    def between() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        time_runs(double, feeds(2), plan(), between)
    assert gc.isenabled()


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_off_inside_and_as_before_afterwards(was_on: bool) -> None:
    states: list[bool] = []

    def run(given: Feeds) -> dict[str, Array]:
        states.append(gc.isenabled())
        return double(given)

    try:
        if not was_on:
            gc.disable()
        time_runs(run, feeds(2), plan(warmup=5))
        assert gc.isenabled() is was_on
    finally:
        gc.enable()
    assert not any(states)


def test_every_output_is_looked_at_inside_the_interval() -> None:
    """An engine that hands out lazy arrays pays for them in the reading."""

    class Lazy(np.ndarray):
        @property
        def flat(self) -> np.flatiter:  # type: ignore[override]
            time.sleep(0.02)
            return self.view(np.ndarray).flat

    def run(given: Feeds) -> dict[str, Array]:
        return {"y": given["x"].view(Lazy), "empty": np.zeros((0, 3))}

    assert min(time_runs(run, feeds(2), plan(runs=3)).wall_ns) >= 20_000_000


def test_seconds_end_the_loop_after_at_least_one_run() -> None:
    def run(given: Feeds) -> dict[str, Array]:
        time.sleep(0.05)
        return double(given)

    assert len(time_runs(run, feeds(2), plan(runs=10_000, seconds=0.01)).wall_ns) == 1
    assert 2 <= len(time_runs(run, feeds(2), plan(runs=10_000, seconds=0.4)).wall_ns) <= 9


# --- warm-up ------------------------------------------------------------------------------------------


class Scripted:
    """A run whose readings are made up: the clock itself is replaced."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, milliseconds: list[float], then: float = 10.0
    ) -> None:
        self.now = 0
        self.script = list(milliseconds)
        self.then = then
        monkeypatch.setattr(time, "perf_counter_ns", lambda: self.now)

    def __call__(self, given: Feeds) -> dict[str, Array]:
        self.now += int((self.script.pop(0) if self.script else self.then) * 1e6)
        return double(given)


def test_a_steady_engine_settles_after_two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = time_runs(Scripted(monkeypatch, []), feeds(2), plan(warmup=10))
    assert timing.settled
    assert timing.warmup_runs == 10


def test_warm_up_goes_on_until_it_is_steady_and_none_of_it_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    falling = [100.0 - 3 * step for step in range(30)]
    timing = time_runs(Scripted(monkeypatch, falling), feeds(2), plan(warmup=10))
    assert timing.settled
    assert timing.warmup_runs > 30
    assert set(timing.wall_ns) == {10_000_000}
    assert timing.first_ns == 100_000_000


def test_an_engine_that_never_settles_is_measured_and_said_to_be_unsettled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    growing = [1.1**step for step in range(400)]
    timing = time_runs(Scripted(monkeypatch, growing), feeds(2), plan(warmup=10))
    assert not timing.settled
    assert timing.warmup_runs == 100
    assert len(timing.wall_ns) == 10


def test_without_a_warm_up_nothing_is_claimed_about_the_state() -> None:
    timing = time_runs(double, feeds(2), plan(warmup=0))
    assert timing.warmup_runs == 0
    assert not timing.settled


def test_a_slow_model_stops_warming_up_at_the_time_limit_but_makes_the_asked_runs() -> None:
    def run(given: Feeds) -> dict[str, Array]:
        time.sleep(0.03)
        return double(given)

    timing = time_runs(run, feeds(2), plan(warmup=4, runs=1, seconds=0.02))
    assert timing.warmup_runs == 4
    assert not timing.settled
    assert timing.drift is None


def test_drift_is_the_last_block_over_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    rising = [10.0] * 5 + [10.4] * 5
    timing = time_runs(Scripted(monkeypatch, rising), feeds(2), plan(warmup=10))
    assert timing.settled
    assert timing.drift == pytest.approx(0.04)
    never = time_runs(Scripted(monkeypatch, [1.1**step for step in range(400)]), feeds(2), plan(warmup=10))
    assert never.drift == pytest.approx(1.1**5 - 1)
    assert time_runs(double, feeds(2), plan(warmup=0)).drift is None


# --- inputs of several shapes -----------------------------------------------------------------------


def lengths(*given: int) -> list[dict[str, Array]]:
    return [{"x": np.full((1, length), index, dtype=np.float32)} for index, length in enumerate(given)]


class ByLength:
    """A run on a made-up clock: a millisecond per element, and 1000 more for a shape not seen before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        self.seen: list[int] = []
        self.turns: list[int] = []
        monkeypatch.setattr(time, "perf_counter_ns", lambda: self.now)

    def __call__(self, given: Feeds) -> dict[str, Array]:
        length = given["x"].shape[1]
        self.now += (length + (0 if length in self.seen else 1000)) * 1_000_000
        self.seen.append(length)
        self.turns.append(int(given["x"][0, 0]))
        return double(given)


def test_mixed_lengths_are_no_drift_and_every_shape_pays_its_first_run_unmeasured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = ByLength(monkeypatch)
    timing = time_runs(run, lengths(8, 64, 16, 128), plan(warmup=10, runs=6))
    assert timing.settled
    assert timing.drift == 0
    assert run.seen[:4] == [8, 64, 16, 128]
    assert set(run.seen[4 : timing.warmup_runs]) == {128}, "judged on the largest alone"
    assert timing.warmup_runs == 14
    assert timing.first_ns == 1_008_000_000
    assert [wall // 1_000_000 for wall in timing.wall_ns] == [8, 64, 16, 128, 8, 64]


@settings(deadline=None)
@given(
    shapes=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    warmup=st.integers(0, 7),
    runs=st.integers(1, 15),
)
def test_measured_run_i_sees_input_i_and_no_run_before_it_saw_the_same(
    shapes: list[int], warmup: int, runs: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        run = ByLength(patch)
        timing = time_runs(run, lengths(*shapes), plan(warmup=warmup, runs=runs))
    measured = run.turns[timing.warmup_runs :]
    assert measured == [turn % len(shapes) for turn in range(runs)]
    assert len(timing.wall_ns) == runs
    if len(shapes) > 1:
        around = run.turns[max(0, timing.warmup_runs - 1) :]
        assert all(a != b for a, b in itertools.pairwise(around))


# --- energy -----------------------------------------------------------------------------------------


def test_energy_is_that_of_one_measured_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "sys/class/powercap/intel-rapl:0"
    package.mkdir(parents=True)
    (package / "name").write_text("package-0\n")
    used = itertools.count(1)

    def run(given: Feeds) -> dict[str, Array]:
        (package / "energy_uj").write_text(str(5_000 * next(used)))
        return double(given)

    monkeypatch.setattr("edgekit_runtime.clock.EnergyMeter", lambda: EnergyMeter(tmp_path))
    timing = time_runs(run, feeds(2), plan(warmup=10, runs=20))
    assert timing.energy_mj == 5.0


def test_energy_that_is_not_told_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit_runtime.clock.EnergyMeter", lambda: EnergyMeter(tmp_path))
    assert time_runs(double, feeds(2), plan()).energy_mj is None


# --- refusals -----------------------------------------------------------------------------------------


def test_nothing_to_time_is_refused() -> None:
    with pytest.raises(InputError, match="no inputs"):
        time_runs(double, [], plan())
    for bad in (plan(runs=0), plan(seconds=0), plan(warmup=-1)):
        with pytest.raises(InputError, match="measures nothing"):
            time_runs(double, feeds(1), bad)


@pytest.mark.parametrize("answer", [None, [1], {}, {"y": 3.0}, {"y": [1.0]}])
def test_outputs_that_are_no_arrays_are_run_failed(answer: object) -> None:
    with pytest.raises(RunFailed):
        time_runs(lambda given: answer, feeds(1), plan())  # type: ignore[arg-type, return-value]


# --- run-queue wait -----------------------------------------------------------------------------------


def tasks(root: Path, **threads: str) -> Path:
    for name, text in threads.items():
        directory = root / "proc/self/task" / name.lstrip("t")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "schedstat").write_text(text)
    return root


def test_waits_of_all_threads_add_up(tmp_path: Path) -> None:
    reader = WaitReader(tasks(tmp_path, t1="100 50 3\n", t2="7 1000 3\n"))
    reader.mark()
    tasks(tmp_path, t1="200 80 4\n", t2="8 1005 4\n", t3="5 40 1\n")
    assert reader.since_mark() == 30 + 5 + 40
    reader.close()


def test_a_thread_that_ended_takes_nothing_away(tmp_path: Path) -> None:
    reader = WaitReader(tasks(tmp_path, t1="100 50 3\n", t2="7 1000 3\n"))
    reader.mark()
    (tmp_path / "proc/self/task/2/schedstat").unlink()
    (tmp_path / "proc/self/task/2").rmdir()
    tasks(tmp_path, t1="200 60 4\n")
    assert reader.since_mark() == 10
    reader.close()


@pytest.mark.parametrize("text", ["0 0 0\n", "garbage\n", ""])
def test_a_kernel_that_does_not_count_is_unknown_not_zero(tmp_path: Path, text: str) -> None:
    reader = WaitReader(tasks(tmp_path, t1=text))
    reader.mark()
    assert reader.since_mark() is None
    reader.close()


def test_no_procfs_is_unknown(tmp_path: Path) -> None:
    reader = WaitReader(tmp_path)
    reader.mark()
    assert reader.since_mark() is None


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel has no schedstat")
def test_threads_that_share_one_cpu_are_seen_to_wait() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity here")
    spin = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        with subprocess.Popen([sys.executable, "-c", spin]) as other:

            def run(given: Feeds) -> dict[str, Array]:
                end = time.thread_time() + 0.05
                while time.thread_time() < end:
                    pass
                return double(given)

            timing = time_runs(run, feeds(2), plan(runs=8))
            other.kill()
    finally:
        os.sched_setaffinity(0, before)
    assert timing.wait_ns is not None
    assert sum(timing.wait_ns) > 0.2 * sum(timing.wall_ns)
    assert sum(timing.cpu_ns) < 0.85 * sum(timing.wall_ns)


def test_the_control_computation_takes_time() -> None:
    assert control_ms() > 0
