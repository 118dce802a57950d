"""The host's end of the worker protocol: start a worker, call functions in it, know how it ended.

with WorkerClient(open_device("local"), threads=2, memory_mib=4096) as worker:
    reply = worker.call("edgekit_runtime.serving:machine", timeout=10)
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from edgekit.devices.base import Device
from edgekit.errors import DeviceError, PluginError, WorkerError, WorkerOutOfMemory, WorkerTimeout
from edgekit.host.endings import Ending, last_words, oom_kills
from edgekit.host.wire import Ended, Frame, Wire
from edgekit_runtime.calls import Reply
from edgekit_runtime.codec import Table
from edgekit_runtime.errors import EdgekitError, error_class
from edgekit_runtime.frames import PROTOCOL, Header, JsonValue, encode_header
from edgekit_runtime.threads import thread_environment
from edgekit_runtime.worker import MEMORY_VARIABLE

OnProgress = Callable[[int, int, str], None]

START_SECONDS = 60.0
_STOP_SECONDS = 10.0
#: From the end of a worker's stream to the end of its process; crash reports take their time.
_ENDING_SECONDS = 5.0
_CANCEL_SECONDS = 1.0
_SLICE_SECONDS = 0.5

log = logging.getLogger("edgekit.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a worker says first. memory_limit: how it holds itself to a limit, "" when it does not."""

    runtime: str
    python: str
    pid: int
    memory_limit: str


class WorkerClient:
    """One worker process. Every way in which it can end is an error of its own; none outlives this.

    environment: variables on top of the device's; threads: what its libraries are pinned to;
    memory_mib: the most data it may take; silence: seconds without any sign of life (a heartbeat
    comes each second) after which it is given up.
    """

    def __init__(
        self,
        device: Device,
        *,
        environment: Mapping[str, str] | None = None,
        threads: int = 1,
        memory_mib: int | None = None,
        silence: float = 60.0,
    ) -> None:
        self.device = device
        self.memory_mib = memory_mib
        self.start_ms = 0.0
        self._silence = silence
        self._environment = {**thread_environment(threads), **(environment or {})}
        if memory_mib is not None:
            self._environment[MEMORY_VARIABLE] = str(memory_mib)
        self._wire: Wire | None = None
        self._hello: Hello | None = None
        self._ended: WorkerError | None = None
        self._number = 0
        self._lock = threading.Lock()
        self._oom_kills: int | None = None

    def __enter__(self) -> Self:
        self._oom_kills = oom_kills()
        start = time.perf_counter()
        self._wire = Wire(self.device.start_worker(self._environment))
        try:
            self._hello = self._greet(self._wire)
        except BaseException:
            self._kill()
            raise
        self.start_ms = (time.perf_counter() - start) * 1e3
        if self.memory_mib is not None and not self._hello.memory_limit:
            log.warning("this system cannot hold a worker to %d MiB", self.memory_mib)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._kill()

    @property
    def hello(self) -> Hello:
        """Who the worker is."""
        if self._hello is None:
            raise WorkerError("the worker has not been started", hint="use it in a `with` block")
        return self._hello

    @property
    def stderr_tail(self) -> str:
        """The last lines that the worker or a library in it printed since the latest call began."""
        return self._wire.printed() if self._wire is not None else ""

    def call(
        self,
        function: str,
        params: Mapping[str, JsonValue] | None = None,
        *,
        body: bytes = b"",
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Reply:
        """Run "module:function" in the worker and return its reply.

        Raises what the function raised, by its code; WorkerCrashed, WorkerTimeout or
        WorkerOutOfMemory when the worker is lost. What interrupts the wait (Ctrl-C, an error in
        `on_progress`) cancels the call, ends the worker and goes on.
        """
        with self._lock:
            wire = self._living()
            self._number += 1
            wire.forget_prints()
            header: Header = {
                "type": "call",
                "id": self._number,
                "function": function,
                "params": params or {},
            }
            line = encode_header(header, len(body))
            deadline = None if timeout is None else time.monotonic() + timeout
            waiting = _Waiting(self._number, function.rpartition(":")[2], timeout, deadline, on_progress)
            try:
                wire.send(line, body)
                answer = self._answer(wire, waiting)
            except BaseException:
                self._cancel(wire, waiting)
                raise
        if isinstance(answer, EdgekitError):
            raise answer
        return answer

    def close(self) -> None:
        """Ask the worker to leave, and make it when it does not. Calling it twice is fine."""
        wire = self._wire
        if wire is None or self._ended is not None:
            return
        try:
            wire.send(encode_header({"type": "stop"}, 0))
            code = wire.wait(_STOP_SECONDS)
            if code is None:
                log.warning("the worker did not leave within %g s and was ended", _STOP_SECONDS)
            elif code:
                log.warning("the worker left with %s after its work was done", Ending(code).words())
        finally:
            self._kill()

    # --- waiting ----------------------------------------------------------------------------------

    def _greet(self, wire: Wire) -> Hello:
        waiting = _Waiting(0, "start", START_SECONDS, time.monotonic() + START_SECONDS, None)
        event = self._next(wire, waiting)
        if isinstance(event, Ended):
            lost = self._lost(wire, event, waiting)
            if isinstance(lost, WorkerOutOfMemory):
                raise lost
            raise DeviceError(
                f"no worker starts on {self.device.uri}: {lost.message}",
                hint="`python -m edgekit_runtime.worker` must work there: install edgekit-runtime",
            ) from lost
        table = Table(event.header, where="hello")
        if event.header.get("type") != "hello" or table.integer("protocol") != PROTOCOL:
            said = event.header.get("protocol", event.header.get("type"))
            raise DeviceError(
                f"the worker on {self.device.uri} speaks protocol {said}, this is {PROTOCOL}",
                hint="install the same edgekit-runtime on both sides",
            )
        return Hello(
            runtime=table.text("runtime"),
            python=table.text("python"),
            pid=table.integer("pid"),
            memory_limit=table.text("memory_limit", ""),
        )

    def _answer(self, wire: Wire, waiting: _Waiting) -> Reply | EdgekitError:
        while True:
            event = self._next(wire, waiting)
            if isinstance(event, Ended):
                raise self._lost(wire, event, waiting)
            kind, number = event.header.get("type"), event.header.get("id")
            if kind == "log":
                log.debug("%s", event.header.get("message"))
            elif number != waiting.id:
                continue
            elif kind == "progress" and waiting.on_progress is not None:
                table = Table(event.header)
                waiting.on_progress(table.integer("done"), table.integer("total"), table.text("what"))
            elif kind == "result":
                return Reply(event.header.get("value"), event.body)
            elif kind == "error":
                return self._described(Table(event.header).table("error"))

    def _next(self, wire: Wire, waiting: _Waiting) -> Frame | Ended:
        """The next frame that is no heartbeat; gives the worker up when it takes too long."""
        while True:
            event = wire.receive(waiting.slice())
            if isinstance(event, Ended) or (event is not None and event.answers(waiting.id)):
                return event
            if waiting.late():
                raise self._give_up(
                    f"the worker gave no answer to `{waiting.what}` within {waiting.timeout:g} s"
                )
            if event is not None and event.header.get("type") != "heartbeat":
                return event
            if wire.silent_for() > self._silence:
                raise self._give_up(
                    f"the worker gave no sign of life for {self._silence:g} s during `{waiting.what}`"
                )

    def _give_up(self, message: str) -> WorkerTimeout:
        printed = self.stderr_tail
        self._kill()
        self._ended = WorkerTimeout(f"{message} and was ended", hint=last_words(printed))
        return WorkerTimeout(self._ended.message, hint=self._ended.hint)

    def _lost(self, wire: Wire, ended: Ended, waiting: _Waiting) -> EdgekitError:
        code = wire.wait(_ENDING_SECONDS)
        self._kill()
        killed_for_memory = self._oom_kills is not None and oom_kills() != self._oom_kills
        ending = Ending(code, wire.printed(), ended.problem, killed_for_memory)
        error = ending.error(waiting.what, self.memory_mib)
        self._ended = WorkerError(error.message)
        return error

    def _described(self, table: Table) -> EdgekitError:
        code = table.text("code")
        cls = error_class(code) or (WorkerError if code == "cancelled" else PluginError)
        hint = table.text("hint", "")
        if cls is WorkerOutOfMemory and self.memory_mib is not None:
            hint = f"its limit was {self.memory_mib} MiB"
        error = cls(table.text("message"), hint=hint)
        trace = table.text("traceback", "")
        if trace:
            error.add_note(f"in the worker:\n{trace.rstrip()}")
        return error

    # --- ending -----------------------------------------------------------------------------------

    def _living(self) -> Wire:
        if self._wire is None:
            raise WorkerError("the worker has not been started", hint="use it in a `with` block")
        if self._ended is not None:
            raise WorkerError(f"the worker has ended before this call: {self._ended.message}")
        return self._wire

    def _cancel(self, wire: Wire, waiting: _Waiting) -> None:
        """Ask the call to stop and give it a moment to tidy up; then end the worker in any case."""
        if self._ended is not None:
            return
        try:
            wire.send(encode_header({"type": "cancel", "id": waiting.id}, 0))
            deadline = time.monotonic() + _CANCEL_SECONDS
            while (left := deadline - time.monotonic()) > 0:
                event = wire.receive(left)
                if isinstance(event, Ended) or (event is not None and event.answers(waiting.id)):
                    break
        finally:
            self._kill()

    def _kill(self) -> None:
        if self._ended is None:
            self._ended = WorkerError("it was ended")
        if self._wire is not None:
            self._wire.close()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A call that has no answer yet."""

    id: int
    what: str
    timeout: float | None
    deadline: float | None
    on_progress: OnProgress | None

    def slice(self) -> float:
        """How long to wait before looking at the limits again."""
        if self.deadline is None:
            return _SLICE_SECONDS
        return max(0.0, min(_SLICE_SECONDS, self.deadline - time.monotonic()))

    def late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline
