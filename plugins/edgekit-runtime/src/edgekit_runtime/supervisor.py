"""A small parent for the worker, so that nothing of it outlives the host, whatever state it is in.

A worker that hangs inside an engine cannot watch its own pipe, and one that dies by a signal cannot
stop the processes it started. So the process that the device started only waits: when the host's
end of stdin closes, or the worker ends, it kills the worker's process group, removes the directories
that the worker left to it, and leaves with the worker's own status. Without `fork` (Windows) the worker
watches its pipe itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
#: Killed processes take a moment to stop writing.
_REMOVING_SECONDS = 2.0
_left: list[str] = []
_left_pipe: list[int] = []


def split_off() -> None:
    """Become two processes: returns in the worker only, which has a process group of its own."""
    if sys.platform == "win32" or not hasattr(select, "poll"):
        return
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _noted)
    left_read, left_write = os.pipe()
    os.set_blocking(left_read, False)
    parent = os.getpid()
    worker = os.fork()
    if worker:
        os.close(left_write)
        _watch(worker, wake_read, left_read)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(wake_read)
    os.close(wake_write)
    os.close(left_read)
    _left_pipe.append(left_write)
    os.setpgid(0, 0)
    _die_with(parent)


def leave_to_supervisor(directory: str) -> None:
    """From now on `directory` is removed when this worker has ended, whatever ends it.

    Without a supervisor (Windows) only `remove_left` does that.
    """
    _left.append(directory)
    for pipe in _left_pipe:
        os.write(pipe, os.fsencode(directory) + b"\0")


def remove_left() -> None:
    """Remove what was left to the supervisor, in a worker that ends in peace or has no supervisor."""
    _remove(_left)


def _remove(directories: list[str]) -> None:
    if not directories:
        return
    import shutil

    ends = time.monotonic() + _REMOVING_SECONDS
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
        while os.path.lexists(directory) and time.monotonic() < ends:
            time.sleep(0.05)
            shutil.rmtree(directory, ignore_errors=True)


def _die_with(parent: int) -> None:
    """Ask Linux to kill this process when its supervisor is killed; elsewhere it sees its pipe close."""
    if sys.platform == "linux":
        import ctypes

        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        except (OSError, AttributeError):
            return
        if os.getppid() != parent:
            os._exit(1)


def _watch(worker: int, wake: int, left: int) -> None:
    """The supervisor's whole life. Never returns."""
    with contextlib.suppress(OSError):  # the worker did it first
        os.setpgid(worker, worker)
    signal.signal(signal.SIGTERM, _noted_term)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _let_go_of_output()
    poll = select.poll()
    poll.register(0, getattr(select, "POLLRDHUP", 0))
    poll.register(wake, select.POLLIN)
    while True:
        events = dict(poll.poll())
        if 0 in events:
            _kill_group(worker)
            os.waitpid(worker, 0)
            _remove(_told(left))
            os._exit(1)
        _drain(wake)
        ended, status = os.waitpid(worker, os.WNOHANG)
        if ended:
            _kill_group(worker)
            _remove(_told(left))
            _leave_like(status)
        if _terminated:
            _kill_group(worker)


_terminated: list[bool] = []


def _noted(_signal: int, _frame: object) -> None:
    """Only the wake-up byte matters."""


def _noted_term(_signal: int, _frame: object) -> None:
    _terminated.append(True)


def _let_go_of_output() -> None:
    """Hold no end of the worker's pipes but stdin, so that their end is the worker's end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os.close(nothing)


def _drain(pipe: int) -> bytes:
    """Everything that waits in a pipe."""
    read = bytearray()
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(pipe, 4096):
            read += piece
    return bytes(read)


def _told(left: int) -> list[str]:
    """The directories that the worker left to this process."""
    return [os.fsdecode(name) for name in _drain(left).split(b"\0") if name]


def _kill_group(worker: int) -> None:
    """Kill the worker and everything it started that stayed in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)


def _leave_like(status: int) -> None:
    """End as the worker ended, by the same signal or with the same code."""
    if os.WIFSIGNALED(status):
        import resource

        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)
    os._exit(os.WEXITSTATUS(status))
