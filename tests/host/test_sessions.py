"""A session in a worker behaves as one in this process, and its failures are named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgekit.devices import open_device
from edgekit.errors import WorkerCrashed, WorkerTimeout
from edgekit.host.client import WorkerClient
from edgekit.host.sessions import (
    RemoteSession,
    open_remote,
    remote_conditions,
    remote_machine,
    time_streams,
)
from edgekit.values import RunSettings
from edgekit_runtime.clock import TimingPlan
from edgekit_runtime.conditions import read_conditions
from edgekit_runtime.errors import InputError, OpenFailed, RunFailed, SessionClosed
from edgekit_runtime.machine import read_machine
from edgekit_runtime.values import PlacementRow
from tests.plugin_folders import GOOD_BACKEND, install_plugin, make_plugin

Opened = Callable[..., AbstractContextManager[RemoteSession]]
Crowd = Callable[..., AbstractContextManager[tuple[WorkerClient, list[RemoteSession]]]]


#: A backend that takes its time, without the interpreter's lock.
SLEEPY = """
import time


class Session(Session):
    def run(self, feeds):
        time.sleep(0.02)
        return super().run(feeds)
"""
#: What a system may or may not tell.
TOLD = ("load", "running", "steal_s", "pressure_s", "involuntary", "mhz", "celsius", "throttled")


def rows(count: int) -> list[dict[str, np.ndarray]]:
    return [{"x": np.full((1, 4), index, dtype=np.float32)} for index in range(count)]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Opened:
    """`with opened(code) as session`: a backend with `code` added, opened in a worker."""

    @contextmanager
    def opening(
        code: str = "", run: RunSettings | None = None, timeout: float = 60.0
    ) -> Iterator[RemoteSession]:
        install_plugin(monkeypatch, tmp_path, "one", code)
        artifact = tmp_path / "artifact"
        artifact.mkdir()
        with (
            WorkerClient(open_device("local")) as worker,
            open_remote(worker, artifact, "one", "fp32", run or RunSettings(), timeout) as session,
        ):
            yield session

    return opening


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Crowd:
    """`with crowd(code, count) as (worker, sessions)`: several sessions of one artifact in one worker."""

    @contextmanager
    def opening(
        code: str, count: int, timeout: float = 60.0
    ) -> Iterator[tuple[WorkerClient, list[RemoteSession]]]:
        run = RunSettings()
        install_plugin(monkeypatch, tmp_path, "one", code)
        with WorkerClient(open_device("local")) as worker:
            yield worker, [open_remote(worker, tmp_path, "one", "fp32", run, timeout) for _ in range(count)]

    return opening


def test_run_gives_the_outputs_and_the_signature_is_known(opened: Opened) -> None:
    feeds = rows(1)[0]
    with opened() as session:
        assert [spec.name for spec in session.signature.inputs] == ["x"]
        assert session.signature.inputs[0].shape == ("batch", 4)
        np.testing.assert_array_equal(session.run(feeds)["x_out"], feeds["x"])
        assert session.import_ms > 0
        assert session.open_ms > 0
        assert session.start_ms > 0


def test_outputs_belong_to_the_caller(opened: Opened) -> None:
    with opened() as session:
        first = session.run(rows(1)[0])["x_out"]
        first += 7
        np.testing.assert_array_equal(session.run(rows(1)[0])["x_out"], 0)


def test_run_many_keeps_the_order_over_several_batches(opened: Opened) -> None:
    seen: list[int] = []
    with opened() as session:
        outputs = session.run_many(rows(150), lambda done, total, what: seen.append(done))
        assert [int(row["x_out"][0, 0]) for row in outputs] == list(range(150))
        assert session.run_many([]) == []
    assert seen == [64, 128, 150]


def test_the_opener_gets_threads_device_options_and_an_absolute_directory(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = """
def open(request):
    assert request.directory.is_absolute()
    assert (request.threads, request.device, request.precision) == (2, "npu", "fp32")
    assert request.options == {"hint": "latency", "streams": 1, "fast": False}
    return Session(request)
"""
    run = RunSettings(threads=2, device="npu", options={"hint": "latency", "streams": 1, "fast": False})
    with opened(code, run) as session:
        session.run(rows(1)[0])


def test_placement_profile_and_control(opened: Opened) -> None:
    with opened() as session:
        assert session.placement().rows == (PlacementRow(precision="fp32", device="cpu", nodes=1),)
        assert session.profile() == ()
        assert session.control() > 0


def test_timing_has_one_entry_per_run(opened: Opened) -> None:
    with opened() as session:
        timing = session.time_runs(rows(3), TimingPlan(warmup_runs=5, max_runs=20, max_seconds=30))
    assert len(timing.wall_ns) == len(timing.cpu_ns) == 20
    assert timing.warmup_runs >= 5
    assert all(value > 0 for value in timing.wall_ns)
    assert timing.wait_ns is None or len(timing.wait_ns) == 20


def test_tens_of_thousands_of_readings_come_back(opened: Opened) -> None:
    with opened() as session:
        timing = session.time_runs(rows(2), TimingPlan(warmup_runs=0, max_runs=60_000, max_seconds=60))
    assert len(timing.wall_ns) > 40_000


def test_the_warm_up_says_how_far_the_last_blocks_were_apart(opened: Opened) -> None:
    with opened() as session:
        timing = session.time_runs(rows(3), TimingPlan(warmup_runs=10, max_runs=3, max_seconds=30))
        unknown = session.time_runs(rows(3), TimingPlan(warmup_runs=0, max_runs=3, max_seconds=30))
    assert timing.drift is not None
    assert timing.settled == (abs(timing.drift) <= 0.05)
    assert unknown.drift is None
    assert timing.energy_mj is None or timing.energy_mj >= 0


def test_heat_gives_one_median_per_window(opened: Opened) -> None:
    with opened(SLEEPY) as session:
        medians = session.heat(rows(2), 0.3, 3)
    assert len(medians) == 3
    assert min(medians) >= 10


def test_streams_of_one_worker_run_at_the_same_time(crowd: Crowd) -> None:
    with crowd(SLEEPY, 4) as (worker, sessions):
        alone = time_streams(worker, sessions[:1], rows(4), 0.4)
        four = time_streams(worker, sessions, rows(4), 0.4)
    assert len(alone.completed) == 1
    assert len(four.completed) == 4
    assert sum(four.completed) > 2 * sum(alone.completed)


def test_streams_with_nothing_to_run_in_or_on_are_refused(crowd: Crowd) -> None:
    with crowd("", 2) as (worker, (session, gone)):
        for sessions in ([], [session, session]):
            with pytest.raises(InputError, match="sessions must be"):
                time_streams(worker, sessions, rows(2), 0.1)
        for nothing in (0.0, -1.0):
            with pytest.raises(InputError, match="measure nothing"):
                time_streams(worker, [session], rows(2), nothing)
            with pytest.raises(InputError, match="measure nothing"):
                session.heat(rows(2), nothing, 2)
        with (
            WorkerClient(open_device("local")) as other,
            pytest.raises(InputError, match="streams run in one worker"),
        ):
            time_streams(other, [session], rows(2), 0.1)
        gone.close()
        with pytest.raises(SessionClosed):
            time_streams(worker, [session, gone], rows(2), 0.1)
        session.run(rows(1)[0])


def test_a_failure_in_one_stream_is_run_failed_and_the_worker_lives(crowd: Crowd) -> None:
    code = """
class Session(Session):
    def run(self, feeds):
        if feeds["x"][0, 0] == 3:
            raise RuntimeError("stream three fell")
        return super().run(feeds)
"""
    with crowd(code, 4) as (worker, sessions):
        with pytest.raises(RunFailed, match="RuntimeError: stream three fell"):
            time_streams(worker, sessions, rows(4), 500.0)
        sessions[0].run(rows(1)[0])


def test_the_seconds_asked_for_are_added_to_the_sessions_time_limit(crowd: Crowd) -> None:
    with crowd("", 1, timeout=2.0) as (worker, (session,)):
        begin = time.monotonic()
        assert len(session.heat(rows(2), 3.0, 2)) == 2
        assert sum(time_streams(worker, [session], rows(2), 3.0).completed) > 0
        assert time.monotonic() - begin >= 6.0


def test_conditions_are_those_of_the_workers_machine() -> None:
    with WorkerClient(open_device("local")) as worker:
        before = remote_conditions(worker)
        after = remote_conditions(worker)
    assert after.at_s > before.at_s
    assert {name for name in TOLD if getattr(before, name) is None} == {
        name for name in TOLD if getattr(read_conditions(), name) is None
    }


def test_reading_the_conditions_takes_nothing_out_of_a_cold_start() -> None:
    """What opening a session loads is loaded when it is opened, not when the machine is read before."""
    with WorkerClient(open_device("local")) as worker:
        before = worker.call("tests.host.misbehaving:modules", timeout=60.0).value
        remote_conditions(worker)
        after = worker.call("tests.host.misbehaving:modules", timeout=60.0).value
    assert isinstance(before, list)
    assert isinstance(after, list)
    assert set(after) - set(before) <= {"edgekit_runtime.conditions", "resource"}
    assert "edgekit_runtime.serving" not in after


def test_a_second_session_is_growth_and_no_new_baseline(crowd: Crowd, tmp_path: Path) -> None:
    code = """
class Session(Session):
    def __init__(self, request):
        super().__init__(request)
        self.weights = np.ones(64 << 17)
"""
    with crowd(code, 1) as (worker, (session,)):
        one = session.memory()
        second = open_remote(worker, tmp_path, "one", "fp32", RunSettings())
        two = session.memory()
    assert second.import_ms == 0
    assert one.baseline_mib == two.baseline_mib
    for use, sessions in ((one, 1), (two, 2)):
        assert use.steady_mib is not None
        assert 60 * sessions <= use.steady_mib <= 60 * sessions + 30


def test_memory_sees_what_opening_and_running_take(opened: Opened) -> None:
    code = """
class Session(Session):
    def __init__(self, request):
        super().__init__(request)
        self.weights = np.ones(64 << 17)

    def run(self, feeds):
        np.ones(96 << 17)
        return super().run(feeds)
"""
    with opened(code) as session:
        session.run(rows(1)[0])
        use = session.memory()
    assert use.baseline_mib is not None
    assert use.peak_mib is not None
    assert 155 <= use.peak_mib - use.baseline_mib <= 190


def test_memory_counts_the_processes_that_an_engine_starts(opened: Opened) -> None:
    code = """
import subprocess, sys

HUNGRY = "b = b'x' * (80 << 20); print(len(b), flush=True); input()"


class Session(Session):
    def run(self, feeds):
        self.child = subprocess.Popen([sys.executable, "-c", HUNGRY], stdin=-1, stdout=-1)
        self.child.stdout.readline()
        return super().run(feeds)
"""
    with opened(code) as session:
        before = session.memory()
        session.run(rows(1)[0])
        after = session.memory()
    assert before.peak_mib is not None
    assert after.peak_mib is not None
    assert after.peak_mib - before.peak_mib >= 80


def test_the_machine_of_a_local_worker_is_this_machine() -> None:
    with WorkerClient(open_device("local")) as worker:
        assert remote_machine(worker) == read_machine()


# --- failures -----------------------------------------------------------------------------------------


def test_feeds_that_do_not_fit_are_an_input_error_and_the_session_lives(opened: Opened) -> None:
    with opened() as session:
        with pytest.raises(InputError, match="inputs are"):
            session.run({"y": np.zeros((1, 4), dtype=np.float32)})
        session.run(rows(1)[0])


def test_a_closed_session_refuses_to_run_and_closes_again(opened: Opened) -> None:
    with opened() as session:
        session.close()
        session.close()
        with pytest.raises(SessionClosed):
            session.run(rows(1)[0])


def test_an_opener_that_raises_is_open_failed_with_the_cause(opened: Opened) -> None:
    code = "\ndef open(request):\n    raise RuntimeError('file magic is wrong')\n"
    with pytest.raises(OpenFailed, match=r"backend 'one' could not open .*RuntimeError: file magic is wrong"):
        opened(code).__enter__()


def test_a_run_that_raises_is_run_failed_with_the_cause(opened: Opened) -> None:
    code = "\nSession.run = lambda self, feeds: 1 / 0\n"
    with opened(code) as session:
        with pytest.raises(RunFailed, match="ZeroDivisionError"):
            session.run(rows(1)[0])
        with pytest.raises(RunFailed, match="ZeroDivisionError"):
            session.time_runs(rows(1), TimingPlan())


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("run", "lambda self, feeds: [1]", "not a dict of arrays"),
        ("run", "lambda self, feeds: {'y': [1.0]}", "not a numpy array"),
        ("run", "lambda self, feeds: {'y': np.array(['text'])}", "dtype"),
        ("placement", "lambda self: None", "not a Placement"),
        ("profile", "lambda self: [1]", "tuple of OperatorTime"),
    ],
)
def test_answers_of_the_wrong_type_name_the_backend_as_the_culprit(
    opened: Opened, member: str, value: str, words: str
) -> None:
    with opened(f"\nSession.{member} = {value}\n") as session, pytest.raises(RunFailed, match=words):
        session.run(rows(1)[0]) if member == "run" else getattr(session, member)()


def test_a_missing_backend_says_what_to_install(tmp_path: Path) -> None:
    with (
        WorkerClient(open_device("local")) as worker,
        pytest.raises(OpenFailed, match="'nowhere' is not installed here") as caught,
    ):
        open_remote(worker, tmp_path, "nowhere", "fp32", RunSettings())
    assert "install the distribution that provides it (installed: " in caught.value.hint
    assert "example (edgekit-example " in caught.value.hint
    assert "pip" not in caught.value.hint, "a foreign name is no pip command"


def test_a_missing_artifact_directory_is_open_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_plugin(monkeypatch, tmp_path, "one")
    with (
        WorkerClient(open_device("local")) as worker,
        pytest.raises(OpenFailed, match="no artifact directory"),
    ):
        open_remote(worker, tmp_path / "nothing", "one", "fp32", RunSettings())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import an_engine_that_is_missing\n", "needs the module 'an_engine_that_is_missing'"),
        ("raise RuntimeError('built for another Python')\n", "RuntimeError: built for another Python"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("def f(:\n", "SyntaxError"),
    ],
)
def test_a_session_half_that_cannot_be_imported_names_distribution_and_cause(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, words: str
) -> None:
    monkeypatch.syspath_prepend(str(make_plugin(tmp_path, "bad", code, version="2.7")))
    with WorkerClient(open_device("local")) as worker, pytest.raises(OpenFailed) as caught:
        open_remote(worker, tmp_path, "bad", "fp32", RunSettings())
    assert "edgekit-bad 2.7" in caught.value.message
    assert words in caught.value.message


def test_two_providers_of_one_opener_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for place in ("a", "b"):
        folder = make_plugin(tmp_path / place, "twin", GOOD_BACKEND, module=f"edgekit_twin_{place}")
        information = next(folder.glob("*.dist-info"))
        metadata = (information / "METADATA").read_text().replace("edgekit-twin", f"twin-{place}")
        (information / "METADATA").write_text(metadata)
        information.rename(information.with_name(f"twin_{place}-0.1.dist-info"))
        monkeypatch.syspath_prepend(str(folder))
    with (
        WorkerClient(open_device("local")) as worker,
        pytest.raises(OpenFailed, match=r"twin-a 0\.1 and twin-b"),
    ):
        open_remote(worker, tmp_path, "twin", "fp32", RunSettings())


def test_a_crash_in_a_run_is_a_worker_crash_and_closing_afterwards_is_fine(opened: Opened) -> None:
    code = "\nimport ctypes\nSession.run = lambda self, feeds: ctypes.string_at(0)\n"
    with opened(code) as session:
        with pytest.raises(WorkerCrashed, match=r"`run`: signal SIG"):
            session.run(rows(1)[0])
        session.close()


def test_a_hang_in_a_run_meets_the_sessions_time_limit(opened: Opened) -> None:
    code = "\nimport time\nSession.run = lambda self, feeds: time.sleep(3600)\n"
    with opened(code, timeout=3.0) as session, pytest.raises(WorkerTimeout, match="`run` within 3 s"):
        session.run(rows(1)[0])


def test_a_crash_while_closing_does_not_spoil_the_results(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    code = "\nimport atexit, ctypes\natexit.register(ctypes.string_at, 0)\n"
    with opened(code) as session:
        session.run(rows(1)[0])
    assert "SIGSEGV after its work was done" in caplog.text
