"""Several sessions at once, and one session for long."""

from __future__ import annotations

import gc
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_runtime.clock import Run, heat, time_streams
from edgekit_runtime.errors import InputError, RunFailed
from edgekit_runtime.session import Array, Feeds

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads procfs and pins threads")


def feeds(count: int) -> list[dict[str, Array]]:
    return [{"x": np.array([float(index)])} for index in range(count)]


def double(given: Feeds) -> dict[str, Array]:
    return {"y": given["x"] * 2}


def sleeping(seconds: float, seen: list[float] | None = None) -> Run:
    """A run that waits without the interpreter's lock, as an engine computes; notes its inputs."""

    def run(given: Feeds) -> dict[str, Array]:
        time.sleep(seconds)
        if seen is not None:
            seen.append(float(given["x"][0]))
        return double(given)

    return run


def failing(after: int) -> Run:
    calls: list[int] = []

    def run(given: Feeds) -> dict[str, Array]:
        calls.append(1)
        if len(calls) > after:
            raise ZeroDivisionError("inside the engine")
        time.sleep(0.005)
        return double(given)

    return run


# --- streams ------------------------------------------------------------------------------------------


def test_streams_run_at_the_same_time() -> None:
    alone = time_streams([sleeping(0.01)], feeds(4), 0.4)
    four = time_streams([sleeping(0.01) for _ in range(4)], feeds(4), 0.4)
    assert len(four.completed) == 4
    assert sum(four.completed) > 2 * sum(alone.completed)


@settings(deadline=None)
@given(streams=st.integers(1, 5), inputs=st.integers(1, 12))
def test_each_stream_takes_its_own_inputs_in_turn_and_every_run_is_counted(streams: int, inputs: int) -> None:
    seen: list[list[float]] = [[] for _ in range(streams)]
    timing = time_streams([sleeping(0.0005, own) for own in seen], feeds(inputs), 0.003)
    for number, (own, completed) in enumerate(zip(seen, timing.completed, strict=True)):
        expected = [float(index) for index in range(number, inputs, streams)] or [float(number % inputs)]
        assert completed >= 1
        assert len(own) == completed + 1, "one run before the start is not counted"
        assert own[1:] == [expected[turn % len(expected)] for turn in range(completed)]


def test_all_streams_start_together_once_the_slowest_has_made_its_first_run() -> None:
    begins: list[tuple[int, float]] = []

    def stream(number: int, first: float) -> Run:
        calls: list[int] = []

        def run(given: Feeds) -> dict[str, Array]:
            begins.append((len(calls), time.monotonic()))
            time.sleep(0.002 if calls else first)
            calls.append(1)
            return double(given)

        return run

    timing = time_streams([stream(0, 0.0), stream(1, 0.3)], feeds(2), 0.05)
    released = max(at for call, at in begins if not call) + 0.3
    assert min(at for call, at in begins if call) >= released
    assert timing.wall_ns / 1e9 <= time.monotonic() - released, "the first runs are not in the interval"


def test_every_shape_of_a_stream_has_its_first_run_before_the_start() -> None:
    lengths: list[int] = []

    def run(given: Feeds) -> dict[str, Array]:
        lengths.append(given["x"].shape[1])
        return double(given)

    mixed = [{"x": np.zeros((1, length))} for length in (8, 8, 8, 16)]
    timing = time_streams([run], mixed, 0.001)
    assert sorted(lengths[:2]) == [8, 16]
    assert len(lengths) == timing.completed[0] + 2


def test_a_run_that_began_in_time_is_finished_and_counted() -> None:
    timing = time_streams([sleeping(0.05), sleeping(0.0)], feeds(2), 0.001)
    assert timing.completed[0] == 1
    assert timing.wall_ns >= 50_000_000


def test_what_one_stream_raises_stops_all_and_is_raised() -> None:
    before = threading.active_count()
    others: list[float] = []
    with pytest.raises(ZeroDivisionError, match="inside the engine"):
        time_streams([sleeping(0.005, others), failing(after=4)], feeds(2), 600)
    assert threading.active_count() == before
    assert gc.isenabled()


def test_a_stream_that_fails_before_the_start_keeps_no_other_waiting() -> None:
    with pytest.raises(ZeroDivisionError):
        time_streams([sleeping(0.001), sleeping(0.001), failing(after=0)], feeds(3), 600)
    assert gc.isenabled()


def test_what_between_raises_stops_all_streams() -> None:
    calls: list[int] = []

    def between() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        time_streams([sleeping(0.005), sleeping(0.005)], feeds(2), 600, between)
    assert threading.active_count() == before


@pytest.mark.parametrize("answer", [None, {}, {"y": 3.0}])
def test_outputs_that_are_no_arrays_are_run_failed(answer: object) -> None:
    with pytest.raises(RunFailed):
        time_streams([double, lambda given: answer], feeds(2), 0.1)  # type: ignore[list-item, return-value]


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_streams_that_measure_nothing_are_refused(seconds: float) -> None:
    with pytest.raises(InputError, match="measure nothing"):
        time_streams([double], feeds(1), seconds)
    with pytest.raises(InputError, match="measure nothing"):
        time_streams([], feeds(1), 1.0)
    with pytest.raises(InputError, match="no inputs"):
        time_streams([double], [], 1.0)


@linux
@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel has no schedstat")
def test_streams_that_share_one_cpu_are_seen_to_wait() -> None:
    block = b"x" * 4_000_000

    def run(given: Feeds) -> dict[str, Array]:
        hashlib.sha256(block)  # without the interpreter's lock
        return double(given)

    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        timing = time_streams([run, run, run], feeds(3), 0.5)
    finally:
        os.sched_setaffinity(0, before)
    assert timing.wait_ns is not None
    assert timing.wait_ns > timing.wall_ns, "at every moment two of the three threads wait"


# --- heat ---------------------------------------------------------------------------------------------


@pytest.fixture
def slowing(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], Run]:
    """`slowing(first_ms, growth_ms)`: a run on a made-up clock, each slower than the last."""
    now = [0]
    monkeypatch.setattr(time, "perf_counter_ns", lambda: now[0])

    def made(first: float, growth: float) -> Run:
        calls: list[int] = []

        def run(given: Feeds) -> dict[str, Array]:
            now[0] += round((first + growth * len(calls)) * 1e6)
            calls.append(1)
            return double(given)

        return run

    return made


def test_heat_tells_the_median_of_each_window_in_order(slowing: Callable[[float, float], Run]) -> None:
    assert heat(slowing(10.0, 0.0), feeds(2), 1.0, 4) == (10.0,) * 4
    rising = heat(slowing(10.0, 1.0), feeds(2), 1.0, 4)
    assert len(rising) == 4
    assert list(rising) == sorted(set(rising))


def test_a_run_longer_than_a_window_fills_the_windows_it_spans(
    slowing: Callable[[float, float], Run],
) -> None:
    assert heat(slowing(300.0, 0.0), feeds(2), 1.0, 10) == (300.0,) * 10


def test_heat_takes_the_inputs_in_turn_for_the_seconds_asked() -> None:
    seen: list[float] = []
    begin = time.monotonic()
    heat(sleeping(0.001, seen), feeds(3), 0.2, 2)
    assert time.monotonic() - begin >= 0.2
    assert seen == [float(turn % 3) for turn in range(len(seen))]


def test_heat_is_cancelled_between_runs() -> None:
    def between() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        heat(double, feeds(1), 600, 4, between)
    assert gc.isenabled()


def test_heat_that_measures_nothing_is_refused() -> None:
    for seconds, windows in ((0.0, 1), (1.0, 0), (float("nan"), 1), (float("inf"), 1)):
        with pytest.raises(InputError, match="measure nothing"):
            heat(double, feeds(1), seconds, windows)
    with pytest.raises(InputError, match="no inputs"):
        heat(double, [], 1.0, 1)
