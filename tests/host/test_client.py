"""Every way in which a worker can go wrong is a clear error, and none of it touches the host."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.devices import open_device
from edgekit.errors import (
    ContractViolation,
    PluginError,
    WorkerCrashed,
    WorkerError,
    WorkerOutOfMemory,
    WorkerTimeout,
)
from edgekit.host.client import WorkerClient
from edgekit_runtime.errors import EdgekitError, ProtocolError, RunFailed
from edgekit_runtime.feeds import pack, unpack

BAD = "tests.host.misbehaving"
PATIENCE = 60.0


def client(memory_mib: int | None = None, silence: float = 60.0, threads: int = 1) -> WorkerClient:
    return WorkerClient(open_device("local"), memory_mib=memory_mib, silence=silence, threads=threads)


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


# --- what works ---------------------------------------------------------------------------------------


def test_a_call_returns_value_and_body() -> None:
    tensors = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    with client() as worker:
        reply = worker.call(f"{BAD}:echo", {"a": [1, "ü", None, 2.5]}, body=pack(tensors), timeout=PATIENCE)
    assert reply.value == {"a": [1, "ü", None, 2.5]}
    np.testing.assert_array_equal(unpack(reply.body)["x"], tensors["x"])


def test_bodies_larger_than_a_pipe_go_both_ways() -> None:
    body = os.urandom(5_000_000)
    with client() as worker:
        assert worker.call(f"{BAD}:echo", body=body, timeout=PATIENCE).body == body


def test_the_worker_has_a_process_of_its_own_and_the_same_interpreter() -> None:
    with client() as worker:
        assert worker.hello.pid != os.getpid()
        assert worker.hello.python == sys.version.split()[0]
        assert worker.start_ms > 0


def test_progress_reaches_the_host_and_logs_reach_the_debug_log(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[int, int, str]] = []
    with caplog.at_level(logging.DEBUG, "edgekit.worker"), client() as worker:
        worker.call(f"{BAD}:report", timeout=PATIENCE, on_progress=lambda *step: seen.append(step))
    assert seen == [(0, 3, "steps"), (1, 3, "steps"), (2, 3, "steps")]
    assert "half way" in caplog.text


def test_thread_pools_are_pinned_and_idle_threads_sleep() -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")
    with client(threads=2) as worker:
        found = worker.call(f"{BAD}:environment", dict.fromkeys(names, ""), timeout=PATIENCE).value
    assert found == {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}


# --- what is raised ---------------------------------------------------------------------------------


def test_an_error_keeps_class_message_hint_and_the_workers_traceback() -> None:
    with client() as worker:
        with pytest.raises(RunFailed, match="Add_3 has no kernel") as caught:
            worker.call(f"{BAD}:fail", timeout=PATIENCE)
        assert worker.call(f"{BAD}:echo", timeout=PATIENCE).value == {}, "an error does not end the worker"
    assert caught.value.hint == "use another engine"
    assert "misbehaving.py" in caught.value.__notes__[0]


def test_a_foreign_error_is_a_plugin_error_with_its_type() -> None:
    with client() as worker, pytest.raises(PluginError, match="KeyError: 'a foreign error'"):
        worker.call(f"{BAD}:fail_strangely", timeout=PATIENCE)


def test_sys_exit_is_a_broken_promise_and_does_not_end_the_worker() -> None:
    with client() as worker:
        with pytest.raises(ContractViolation, match="SystemExit, code 0"):
            worker.call(f"{BAD}:leave", timeout=PATIENCE)
        worker.call(f"{BAD}:echo", timeout=PATIENCE)


@pytest.mark.parametrize("function", [f"{BAD}:unmarked", "os:getcwd", "os.path:nothing", "no-colon", ":x"])
def test_only_marked_functions_can_be_called(function: str) -> None:
    with client() as worker, pytest.raises(ProtocolError, match=r"worker function"):
        worker.call(function, timeout=PATIENCE)


@pytest.mark.parametrize("function", ["no_reply", "unspeakable"])
def test_an_answer_that_is_no_reply_is_an_error_not_a_crash(function: str) -> None:
    with client() as worker:
        with pytest.raises(ProtocolError):
            worker.call(f"{BAD}:{function}", timeout=PATIENCE)
        worker.call(f"{BAD}:echo", timeout=PATIENCE)


def test_parameters_that_json_cannot_say_are_refused_before_they_are_sent() -> None:
    with client() as worker:
        with pytest.raises(ProtocolError, match="JSON"):
            worker.call(f"{BAD}:echo", {"x": float("inf")}, timeout=PATIENCE)
        with pytest.raises(ProtocolError, match="limit"):
            worker.call(f"{BAD}:echo", {"x": "y" * 1_100_000}, timeout=PATIENCE)
        worker.call(f"{BAD}:echo", timeout=PATIENCE)


# --- how it can end -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGKILL, signal.SIGTERM]
)
def test_death_by_a_signal_names_the_signal(number: signal.Signals) -> None:
    with client() as worker, pytest.raises(WorkerCrashed, match=number.name):
        worker.call(f"{BAD}:die_by_signal", {"signal": int(number)}, timeout=PATIENCE)


def test_a_crash_in_c_shows_where_it_was() -> None:
    with client() as worker, pytest.raises(WorkerCrashed, match="SIGSEGV") as caught:
        worker.call(f"{BAD}:die_in_c", timeout=PATIENCE)
    assert "die_in_c" in caught.value.hint


def test_leaving_without_an_answer_names_the_exit_code() -> None:
    with client() as worker, pytest.raises(WorkerCrashed, match="exit code 3"):
        worker.call(f"{BAD}:leave_at_once", {"code": 3}, timeout=PATIENCE)
    with client() as worker, pytest.raises(WorkerCrashed, match="exit code 0"):
        worker.call(f"{BAD}:leave_at_once", timeout=PATIENCE)


def test_after_a_crash_every_call_says_that_the_worker_has_ended() -> None:
    with client() as worker:
        with pytest.raises(WorkerCrashed):
            worker.call(f"{BAD}:die_by_signal", timeout=PATIENCE)
        with pytest.raises(WorkerError, match="has ended before this call"):
            worker.call(f"{BAD}:echo", timeout=PATIENCE)


@pytest.mark.parametrize("function", ["hang", "hang_in_c", "chatter"])
def test_a_call_over_its_time_limit_is_ended_although_heartbeats_may_go_on(function: str) -> None:
    with client() as worker:
        pid = worker.hello.pid
        with pytest.raises(WorkerTimeout, match=f"`{function}` within 0.5 s"):
            worker.call(f"{BAD}:{function}", timeout=0.5)
        assert eventually(lambda: gone(pid))


def test_heartbeats_keep_a_long_call_alive() -> None:
    with client() as worker, pytest.raises(WorkerTimeout, match="within 8 s"):
        worker._silence = 5.0  # from here on: a busy machine may take longer to start a worker
        worker.call(f"{BAD}:hang", timeout=8)


def test_a_stopped_worker_is_noticed_by_its_silence() -> None:
    with client() as worker:
        worker._silence = 2.0  # from here on: a busy machine may take longer to start a worker
        pid = worker.hello.pid
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(WorkerTimeout, match="no sign of life for 2 s"):
            worker.call(f"{BAD}:echo")
        assert eventually(lambda: gone(pid))


def test_a_stopped_worker_does_not_block_a_large_call() -> None:
    with client() as worker:
        os.kill(worker.hello.pid, signal.SIGSTOP)
        with pytest.raises(WorkerTimeout, match="within 1 s"):
            worker.call(f"{BAD}:echo", body=bytes(20_000_000), timeout=1)


def test_memory_over_the_limit_is_its_own_error_and_the_worker_lives() -> None:
    with client(memory_mib=600) as worker:
        assert worker.hello.memory_limit
        worker.call(f"{BAD}:eat_memory", {"mib": 100}, timeout=PATIENCE)
        with pytest.raises(WorkerOutOfMemory) as caught:
            worker.call(f"{BAD}:eat_memory", {"mib": 2000}, timeout=PATIENCE)
        assert "600 MiB" in caught.value.hint
        worker.call(f"{BAD}:echo", timeout=PATIENCE)


@pytest.mark.parametrize("function", ["eat_memory_in_an_engine", "eat_memory_to_death"])
def test_an_engines_own_words_for_missing_memory_are_understood(function: str) -> None:
    with client() as worker, pytest.raises(WorkerOutOfMemory):
        worker.call(f"{BAD}:{function}", timeout=PATIENCE)


def test_a_limit_too_low_to_start_in_is_out_of_memory_or_no_start() -> None:
    with pytest.raises(EdgekitError) as caught, client(memory_mib=8):
        pass
    assert caught.value.code in ("worker-out-of-memory", "device-failed", "worker-crashed")


def test_closed_descriptors_end_the_call_with_an_error() -> None:
    with client() as worker, pytest.raises((WorkerError, ProtocolError)):
        worker.call(f"{BAD}:close_everything", timeout=PATIENCE)


# --- prints and reads ---------------------------------------------------------------------------------


def test_prints_from_anywhere_cannot_reach_the_protocol() -> None:
    with client() as worker:
        assert worker.call(f"{BAD}:print_much", timeout=PATIENCE).value == "the real answer"
        expected = ("a line from Python", "a line from C", "a line from a child", "forged")
        assert eventually(lambda: all(line in worker.stderr_tail for line in expected))


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_library_may_have_processes_of_its_own(method: str) -> None:
    with client() as worker:
        answer = worker.call(f"{BAD}:fork", {"method": method}, timeout=PATIENCE).value
        assert answer == [0, 1, 4, 9, 16, 25]
        assert worker.call(f"{BAD}:echo", timeout=PATIENCE).value == {}


def test_stdin_is_empty_for_plugins() -> None:
    with client() as worker:
        found = worker.call(f"{BAD}:read_stdin", timeout=PATIENCE).value
    assert found == {"python": "", "raw": ""}


# --- Ctrl-C -------------------------------------------------------------------------------------------


def test_ctrl_c_cancels_the_call_ends_the_worker_and_goes_on(tmp_path: Path) -> None:
    note = tmp_path / "note"

    def interrupt(done: int, total: int, what: str) -> None:
        threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,)).start()

    with client() as worker:
        pid = worker.hello.pid
        with pytest.raises(KeyboardInterrupt):
            worker.call(
                f"{BAD}:wait_for_cancel", {"note": str(note)}, timeout=PATIENCE, on_progress=interrupt
            )
        assert gone(pid)
    assert note.read_text() == "tidied up"


def test_ctrl_c_ends_a_worker_that_does_not_listen() -> None:
    with client() as worker:
        pid = worker.hello.pid
        threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,)).start()
        with pytest.raises(KeyboardInterrupt):
            worker.call(f"{BAD}:hang_in_c", timeout=PATIENCE)
        assert gone(pid)


def test_an_error_in_the_progress_callback_ends_the_worker_and_goes_on() -> None:
    def refuse(done: int, total: int, what: str) -> None:
        raise LookupError("the bar broke")

    with client() as worker:
        pid = worker.hello.pid
        with pytest.raises(LookupError, match="the bar broke"):
            worker.call(f"{BAD}:report", timeout=PATIENCE, on_progress=refuse)
        assert gone(pid)


# --- nothing outlives the host ------------------------------------------------------------------------

HOST = f"""
import json, sys, threading
from edgekit.devices import open_device
from edgekit.host.client import WorkerClient

with WorkerClient(open_device("local")) as worker:
    pids = worker.call("{BAD}:pids", timeout=60).value
    print(json.dumps(pids), flush=True)
    worker.call("{BAD}:" + sys.argv[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the test reads procfs")
@pytest.mark.parametrize("doing", ["hang", "hang_in_c"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_worker_and_grandchild_vanish_with_the_host(doing: str, number: signal.Signals) -> None:
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    command = [sys.executable, "-c", HOST, doing]
    environment = {**os.environ, "PYTHONPATH": path}
    host = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    with host:
        assert host.stdout is not None
        pids = json.loads(host.stdout.readline())
        time.sleep(0.3)
        assert not any(gone(pid) for pid in pids.values())
        host.send_signal(number)
        host.wait(PATIENCE)
    assert eventually(lambda: all(gone(pid) for pid in pids.values())), pids


@pytest.mark.skipif(sys.platform != "linux", reason="the test reads procfs")
@pytest.mark.parametrize("ending", ["die_by_signal", "leave_at_once", "close"])
def test_a_grandchild_never_outlives_the_worker(ending: str) -> None:
    with client() as worker:
        pids = worker.call(f"{BAD}:pids", timeout=PATIENCE).value
        assert isinstance(pids, dict)
        if ending != "close":
            with pytest.raises(WorkerCrashed):
                worker.call(f"{BAD}:{ending}", timeout=PATIENCE)
    assert eventually(lambda: all(gone(int(str(pid))) for pid in pids.values()))


def test_leaving_the_block_by_an_error_ends_the_worker() -> None:
    with pytest.raises(ZeroDivisionError), client() as worker:
        pid = worker.hello.pid
        raise ZeroDivisionError
    assert eventually(lambda: gone(pid))
