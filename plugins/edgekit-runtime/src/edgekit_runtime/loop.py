"""The worker's three threads: the main one runs calls, one reads the pipe, one beats.

Calls run in the main thread, where engines expect to be.
"""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import queue
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import BinaryIO

from edgekit_runtime.calls import Call, Cancelled, Reply, WorkerState, caused_by_memory, find_function
from edgekit_runtime.codec import Table
from edgekit_runtime.errors import EdgekitError, ProtocolError
from edgekit_runtime.frames import PROTOCOL, Header, JsonValue, encode_header, read_frame, write_all
from edgekit_runtime.supervisor import remove_left

BEAT_SECONDS = 1.0
#: While a timed loop runs, it beats itself between runs; the thread is only the second line.
QUIET_BEAT_SECONDS = 10.0
_TRACEBACK_LIMIT = 16_000


@dataclass(slots=True)
class _Waiting:
    """A call that was read from the pipe and not answered yet."""

    id: int
    header: Header
    body: bytes
    cancelled: threading.Event = field(default_factory=threading.Event)


class Loop:
    """Reads calls from `incoming`, runs them one after the other, answers on `outgoing`."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._open: dict[int, _Waiting] = {}
        self._state = WorkerState()
        self._last_beat = time.monotonic()
        self._beat_seconds = BEAT_SECONDS
        self._stopping = threading.Event()

    def hello(self, *, runtime: str, memory_limit: str) -> None:
        """Say who we are; the first frame of all."""
        self.send(
            {
                "type": "hello",
                "protocol": PROTOCOL,
                "runtime": runtime,
                "python": platform.python_version(),
                "pid": os.getpid(),
                "memory_limit": memory_limit,
            }
        )

    def serve(self) -> int:
        """Run calls until `stop`; the exit code. When the pipe closes the process ends at once."""
        for target in (self._read, self._beat):
            threading.Thread(target=target, name=f"edgekit{target.__name__}", daemon=True).start()
        while (waiting := self._calls.get()) is not None:
            self._answer(waiting)
            self._open.pop(waiting.id, None)
        for session in self._state.sessions.values():
            with contextlib.suppress(Exception):  # leaving anyway: a close that fails has no one to tell
                session.close()
        self._stopping.set()
        remove_left()
        return 0

    def send(self, header: Header, body: bytes = b"") -> None:
        """Write one frame whole, whichever thread it comes from."""
        line = encode_header(header, len(body))
        with self._lock:
            write_all(self._outgoing, line)
            write_all(self._outgoing, body)
            self._last_beat = time.monotonic()

    # --- calls ------------------------------------------------------------------------------------

    def _answer(self, waiting: _Waiting) -> None:
        try:
            reply = self._run(waiting)
            self.send({"type": "result", "id": waiting.id, "value": reply.value}, reply.body)
        except BaseException as error:  # noqa: BLE001  the worker's own wall: whatever a call raises is an answer
            self._refuse(waiting.id, error)
            del error
        self._beat_seconds = BEAT_SECONDS
        sys.stdout.flush()

    def _run(self, waiting: _Waiting) -> Reply:
        header = Table(waiting.header, where="call")
        function = find_function(header.text("function"))
        call = Call(
            params=header.table("params"),
            body=waiting.body,
            state=self._state,
            reporter=_Line(self, waiting.id),
            cancelled=waiting.cancelled,
        )
        call.raise_if_cancelled()
        reply: object = function(call)
        if not isinstance(reply, Reply):
            raise ProtocolError(f"{header.text('function')} returned {type(reply).__name__}, not a Reply")
        return reply

    def _refuse(self, call: int, error: BaseException) -> None:
        code, message, hint = explain(error)
        trace = "".join(traceback.format_exception(error))[-_TRACEBACK_LIMIT:]
        if code == "worker-out-of-memory":
            gc.collect()
        described: dict[str, JsonValue] = {
            "code": code,
            "message": message[:_TRACEBACK_LIMIT],
            "hint": hint[:_TRACEBACK_LIMIT],
            "traceback": trace,
        }
        self.send({"type": "error", "id": call, "error": described})

    # --- the other threads --------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while (frame := read_frame(self._incoming)) is not None:
                self._take(*frame)
        except (ProtocolError, OSError, ValueError) as error:
            sys.stderr.write(f"edgekit worker: {error}\n")
        _leave_at_once()

    def _take(self, header: Header, body: bytes) -> None:
        kind, number = header.get("type"), header.get("id")
        if kind == "stop":
            self._calls.put(None)
        elif not isinstance(number, int):
            raise ProtocolError(f"a {kind} frame without an id")
        elif kind == "call":
            waiting = _Waiting(number, header, body)
            self._open[number] = waiting
            self._calls.put(waiting)
        elif kind == "cancel":
            if (open_call := self._open.get(number)) is not None:
                open_call.cancelled.set()
        else:
            raise ProtocolError(f"a {kind} frame is nothing that a worker takes")

    def _beat(self) -> None:
        while not self._stopping.wait(self._beat_seconds):
            self.beat_if_due(self._beat_seconds)

    def beat_if_due(self, seconds: float) -> None:
        """Send a heartbeat unless something was sent within `seconds`."""
        if time.monotonic() - self._last_beat >= 0.9 * seconds:
            with contextlib.suppress(OSError, ValueError):  # the reader sees the end of the pipe too
                self.send({"type": "heartbeat"})

    def set_quiet(self, on: bool) -> None:
        """Beat from the thread seldom, or as usual."""
        self._beat_seconds = QUIET_BEAT_SECONDS if on else BEAT_SECONDS


@dataclass(frozen=True, slots=True)
class _Line:
    """A call's line to the host."""

    loop: Loop
    call: int

    def progress(self, done: int, total: int, what: str) -> None:
        self.loop.send({"type": "progress", "id": self.call, "done": done, "total": total, "what": what})

    def log(self, message: str) -> None:
        self.loop.send({"type": "log", "id": self.call, "message": message[:_TRACEBACK_LIMIT]})

    def quiet(self, on: bool) -> None:
        self.loop.set_quiet(on)

    def beat(self) -> None:
        self.loop.beat_if_due(BEAT_SECONDS)


def explain(error: BaseException) -> tuple[str, str, str]:
    """(code, message, hint) of anything that a call raised."""
    if isinstance(error, Cancelled):
        return "cancelled", "the call was cancelled", ""
    if caused_by_memory(error):
        text = str(error).strip() or type(error).__name__
        return "worker-out-of-memory", f"the worker ran out of memory: {text.splitlines()[0]}", ""
    if isinstance(error, EdgekitError):
        return error.code, error.message, error.hint
    if isinstance(error, SystemExit):
        said = f"code {error.code}" if isinstance(error.code, int) else repr(error.code)
        return "contract-violation", f"a plugin tried to end the process (SystemExit, {said})", _REPORT
    text = str(error).strip() or "no message"
    return "plugin-failed", f"{type(error).__name__}: {text}", _REPORT


_REPORT = "this is a bug in the plugin: report it to its author"


def _leave_at_once() -> None:
    """The host is gone: end this process and what it started, without clean-up that might hang."""
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    remove_left()
    os._exit(1)
