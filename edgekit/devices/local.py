"""This machine: the worker is a child process of the same interpreter."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from edgekit.devices.base import WorkerPipe
from edgekit.errors import DeviceError

#: What an interpreter runs as a worker.
WORKER = "edgekit_runtime.worker"
#: How long the worker's supervisor gets to end its group before it is killed itself.
_PATIENCE_SECONDS = 3.0


class LocalDevice:
    """Workers as child processes, with the interpreter and the distributions of this process."""

    uri = "local"
    shares_files = True

    def start_worker(self, environment: Mapping[str, str]) -> WorkerPipe:
        """Start a worker in a session of its own, so that a Ctrl-C here does not reach it."""
        if not sys.executable:
            raise DeviceError("this process does not know its Python interpreter (sys.executable is empty)")
        command = [sys.executable, "-P", "-m", WORKER]
        return start_pipe(command, {**os.environ, "PYTHONPATH": module_path(), **environment})


def start_pipe(command: Sequence[str], environment: Mapping[str, str]) -> LocalPipe:
    """Start a program in a session of its own with pipes for its three streams. Raises DeviceError."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    except OSError as cause:
        raise DeviceError(f"a worker cannot be started: {cause}", hint=f"ran {command[0]}") from cause
    return LocalPipe(process)


class LocalPipe:
    """A worker's child process and its streams."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid
        self.stdin = cast(BinaryIO, process.stdin)
        self.stdout = cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, process.stdout)))
        self.stderr = cast(BinaryIO, process.stderr)

    def kill(self) -> None:
        """End the worker, its supervisor and everything in their process groups."""
        if self._process.poll() is not None:
            return
        if os.name != "posix":
            self._process.kill()
            self._process.wait()
            return
        self._process.send_signal(signal.SIGTERM)
        if self.wait(_PATIENCE_SECONDS) is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def wait(self, timeout: float | None = None) -> int | None:
        """Exit code, or None when it still runs after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None


def module_path() -> str:
    """PYTHONPATH that shows a child the modules this process sees.

    What the interpreter finds by itself is left out, so that a helper in another Python is not
    given this one's library.
    """
    own = {_real(path) for path in sysconfig.get_paths().values()}
    own |= {_real(path) for path in (sysconfig.get_config_var("DESTSHARED"), *_zipped_library()) if path}
    entries = [entry or str(Path.cwd()) for entry in sys.path]
    return os.pathsep.join(dict.fromkeys(entry for entry in entries if _real(entry) not in own))


def _zipped_library() -> list[str]:
    return [entry for entry in sys.path if entry.endswith(".zip") and not Path(entry).exists()]


def _real(path: str) -> str:
    return str(Path(path).resolve())
