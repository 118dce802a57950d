"""The worker as a plain program on a pipe, without edgekit's own client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from edgekit_runtime import __version__
from edgekit_runtime.frames import PROTOCOL, JsonValue, read_frame, write_frame

SRC = Path(__file__).parents[1] / "src"


@contextmanager
def worker(*options: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, *options, "-m", "edgekit_runtime.worker"]
    path = os.pathsep.join([str(SRC), *(entry for entry in sys.path if entry)])
    process = subprocess.Popen(
        command,
        stdin=-1,
        stdout=-1,
        stderr=-1,
        env={**os.environ, "PYTHONPATH": path, **environment},
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


def streams(process: subprocess.Popen[bytes]) -> tuple[BinaryIO, BinaryIO]:
    return cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)


def next_frame(process: subprocess.Popen[bytes]) -> tuple[dict[str, JsonValue], bytes]:
    while True:
        frame = read_frame(streams(process)[1])
        assert frame is not None, "the worker ended"
        if frame[0]["type"] != "heartbeat":
            return dict(frame[0]), frame[1]


def ask(process: subprocess.Popen[bytes], number: int, function: str) -> dict[str, JsonValue]:
    header = {"type": "call", "id": number, "function": f"edgekit_runtime.serving:{function}", "params": {}}
    write_frame(streams(process)[0], header)  # type: ignore[arg-type]
    return next_frame(process)[0]


def test_it_says_hello_answers_and_leaves_with_zero() -> None:
    with worker() as process:
        hello, _ = next_frame(process)
        assert (hello["protocol"], hello["runtime"]) == (PROTOCOL, __version__)
        machine = ask(process, 1, "machine")
        assert machine["type"] == "result"
        assert machine["id"] == 1
        write_frame(streams(process)[0], {"type": "stop"})
        assert process.wait(30) == 0


def test_hello_comes_before_numpy_is_imported() -> None:
    """So that starting is not mistaken for importing, and a broken numpy has a pipe to be told on."""
    with worker("-X", "importtime") as process:
        next_frame(process)
        write_frame(streams(process)[0], {"type": "stop"})
        process.wait(30)
        assert process.stderr is not None
        imported = process.stderr.read().decode()
    assert "edgekit_runtime.loop" in imported


def test_calls_are_answered_in_order() -> None:
    with worker() as process:
        next_frame(process)
        for number in (1, 2, 3):
            header: dict[str, JsonValue] = {
                "type": "call",
                "id": number,
                "function": "edgekit_runtime.serving:control",
                "params": {},
            }
            write_frame(streams(process)[0], header)
        assert [next_frame(process)[0]["id"] for _ in range(3)] == [1, 2, 3]


def test_it_beats_while_it_has_nothing_to_do() -> None:
    with worker() as process:
        next_frame(process)
        frame = read_frame(streams(process)[1])
        assert frame is not None
        assert frame[0]["type"] == "heartbeat"


@pytest.mark.parametrize(
    "garbage",
    [b"hello?\n", b'{"type": "dance", "id": 1, "bytes": 0}\n', b'{"type": "call", "bytes": 0}\n', b'{"type'],
)
def test_garbage_on_its_stdin_ends_it_with_a_reason(garbage: bytes) -> None:
    with worker() as process:
        next_frame(process)
        stdin, _ = streams(process)
        stdin.write(garbage)
        stdin.flush()
        if not garbage.endswith(b"\n"):
            stdin.close()
        assert process.wait(30) != 0
        if garbage.endswith(b"\n"):
            assert process.stderr is not None
            assert b"edgekit worker:" in process.stderr.read()


def test_closing_its_stdin_ends_it_even_between_calls() -> None:
    with worker() as process:
        next_frame(process)
        streams(process)[0].close()
        assert process.wait(30) != 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_terminating_the_started_process_ends_the_worker_too() -> None:
    with worker() as process:
        hello, _ = next_frame(process)
        pid = int(str(hello["pid"]))
        assert pid != process.pid, "a supervisor stands between"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="procfs and parent-death signals")
def test_killing_the_supervisor_outright_ends_the_worker_too() -> None:
    with worker() as process:
        pid = int(str(next_frame(process)[0]["pid"]))
        process.kill()
        deadline = time.monotonic() + 30
        while _alive(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="no memory limit there")
def test_the_memory_limit_is_set_before_anything_is_imported() -> None:
    with worker(EDGEKIT_WORKER_MEMORY_MIB="300") as process:
        hello, _ = next_frame(process)
        assert hello["memory_limit"] == ("data" if sys.platform == "linux" else "address-space")
    with worker(EDGEKIT_WORKER_MEMORY_MIB="nonsense") as process:
        assert next_frame(process)[0]["memory_limit"] == ""


MEASURE = """
import json, resource, sys
before = resource.getrusage(resource.RUSAGE_SELF)
import edgekit_runtime
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    "mib": int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024,
    "modules": [name for name in ("numpy", "safetensors", "tokenizers", "edgekit") if name in sys.modules],
    "version": edgekit_runtime.__version__,
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads procfs")
def test_importing_the_runtime_is_nearly_free() -> None:
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, check=True, env=environment)
    measured = json.loads(done.stdout)
    assert measured["version"] == "0.1.0"
    assert measured["modules"] == []
    assert measured["seconds"] < 0.15
    assert measured["mib"] < 40


def test_no_module_of_the_runtime_imports_edgekit_torch_or_an_optional_library() -> None:
    code = """
import importlib, pkgutil, sys
import edgekit_runtime
for module in pkgutil.walk_packages(edgekit_runtime.__path__, "edgekit_runtime."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
names = ("edgekit", "torch", "onnx", "tokenizers", "safetensors", "PIL")
print([name for name in names if name in sys.modules])
"""
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=environment, text=True
    )
    assert done.stdout.strip() == "[]"
