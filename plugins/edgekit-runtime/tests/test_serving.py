"""The worker's long calls: they beat between runs, can be cancelled, and leave the worker as it was."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgekit_runtime import serving
from edgekit_runtime.calls import Call, Cancelled, WorkerFunction, WorkerState
from edgekit_runtime.codec import Table
from edgekit_runtime.errors import InputError, ProtocolError, RunFailed
from edgekit_runtime.feeds import pack_many
from edgekit_runtime.frames import JsonValue
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.values import OperatorTime, Placement, Signature

ROWS = pack_many([{"x": np.array([float(index)])} for index in range(2)])
LONG: list[tuple[WorkerFunction, dict[str, JsonValue]]] = [
    (serving.time_runs, {"session": "one", "warmup_runs": 0, "max_runs": 10**9, "max_seconds": 600.0}),
    (serving.heat, {"session": "one", "seconds": 600.0, "windows": 3}),
    (serving.time_streams, {"sessions": ["one", "two"], "seconds": 600.0}),
]


class Fake:
    """A session that asks for a cancel during its third run, or fails in it."""

    signature = Signature(inputs=(), outputs=())

    def __init__(self, cancelled: threading.Event, fails: bool = False) -> None:
        self.cancelled = cancelled
        self.fails = fails
        self.runs = 0

    def run(self, feeds: Feeds) -> dict[str, Array]:
        self.runs += 1
        if self.runs == 3:
            if self.fails:
                raise RuntimeError("the engine fell")
            self.cancelled.set()
        return {"y": feeds["x"] * 2}

    def placement(self) -> Placement:
        return Placement(rows=(), source="")

    def profile(self) -> tuple[OperatorTime, ...]:
        return ()

    def close(self) -> None:
        pass


class Noting:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.states: list[bool] = []
        self.beats = 0

    def progress(self, done: int, total: int, what: str) -> None:
        pass

    def log(self, message: str) -> None:
        pass

    def quiet(self, on: bool) -> None:
        self.states.append(on)

    def beat(self) -> None:
        self.beats += 1


def call(params: dict[str, JsonValue], reporter: Noting, *, fails: bool = False) -> Call:
    cancelled = threading.Event()
    sessions = {name: Fake(cancelled, fails) for name in ("one", "two")}
    state = WorkerState(sessions=dict(sessions))
    return Call(params=Table(params), body=ROWS, state=state, reporter=reporter, cancelled=cancelled)


@pytest.mark.parametrize(("function", "params"), LONG, ids=["time_runs", "heat", "time_streams"])
def test_a_cancel_ends_a_long_call_between_runs_and_the_heartbeat_is_as_before(
    function: WorkerFunction, params: dict[str, JsonValue]
) -> None:
    reporter = Noting()
    with pytest.raises(Cancelled):
        function(call(params, reporter))
    assert reporter.states == [True, False]


@pytest.mark.parametrize(("function", "params"), LONG, ids=["time_runs", "heat", "time_streams"])
def test_a_failing_run_is_named_and_the_heartbeat_is_as_before(
    function: WorkerFunction, params: dict[str, JsonValue]
) -> None:
    reporter = Noting()
    with pytest.raises(RunFailed, match=r"a run of one(, two)? failed: RuntimeError: the engine fell"):
        function(call(params, reporter, fails=True))
    assert reporter.states == [True, False]


@pytest.mark.parametrize(
    ("function", "params"),
    [
        (serving.time_runs, {"session": "one", "warmup_runs": 0, "max_runs": 2, "max_seconds": 600.0}),
        (serving.heat, {"session": "one", "seconds": 1e-9, "windows": 1}),
        (serving.time_streams, {"sessions": ["one", "two"], "seconds": 1e-9}),
    ],
    ids=["time_runs", "heat", "time_streams"],
)
def test_the_call_beats_itself_while_the_heartbeats_thread_is_quiet(
    function: WorkerFunction, params: dict[str, JsonValue]
) -> None:
    reporter = Noting()
    function(call(params, reporter))
    assert reporter.beats > 0


@pytest.mark.parametrize("sessions", [None, "one", [], ["one", "one"], ["one", 2], {"one": 1}])
def test_streams_need_a_list_of_different_names(sessions: JsonValue) -> None:
    with pytest.raises(InputError, match="sessions must be a list of different names"):
        serving.time_streams(call({"sessions": sessions, "seconds": 1.0}, Noting()))


@pytest.mark.parametrize(
    "params",
    [{"session": "one"}, {"session": "one", "seconds": "1", "windows": 1}, {"session": "one", "seconds": 1}],
)
def test_heat_without_its_figures_is_refused(params: dict[str, JsonValue]) -> None:
    with pytest.raises(ProtocolError, match="must be"):
        serving.heat(call(params, Noting()))
