"""The threads around a worker's three streams, so that no write or read can block the caller."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, cast

from edgekit.devices.base import WorkerPipe
from edgekit_runtime.errors import ProtocolError
from edgekit_runtime.frames import Header, read_frame, write_all

_TAIL_BYTES = 32 * 1024
_JOIN_SECONDS = 2.0

log = logging.getLogger("edgekit.worker")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame from the worker."""

    header: Header
    body: bytes

    def answers(self, number: int) -> bool:
        """Whether this is the last word on call `number`."""
        return self.header.get("id") == number and self.header.get("type") in ("result", "error")


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker's stream is over. problem: what was wrong with its last bytes, if anything."""

    problem: ProtocolError | None = None


class Wire:
    """Sends and receives by queues; remembers when the worker last gave a sign and what it printed."""

    def __init__(self, pipe: WorkerPipe) -> None:
        self._pipe = pipe
        self._inbox: queue.SimpleQueue[Frame | Ended] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[tuple[bytes, ...] | None] = queue.SimpleQueue()
        self._tail = bytearray()
        self._last_sign = time.monotonic()
        self._closed = False
        self._threads = [
            threading.Thread(target=target, name=f"edgekit-worker-{name}", daemon=True)
            for name, target in (("in", self._write), ("out", self._read), ("err", self._listen))
        ]
        for thread in self._threads:
            thread.start()

    def send(self, *pieces: bytes) -> None:
        """Queue bytes for the worker."""
        self._outbox.put(pieces)

    def receive(self, timeout: float) -> Frame | Ended | None:
        """The next frame, or None when there is none within `timeout` seconds."""
        try:
            return self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None

    def silent_for(self) -> float:
        """Seconds since any byte came from the worker."""
        return time.monotonic() - self._last_sign

    def wait(self, timeout: float) -> int | None:
        """The worker's exit code, or None."""
        return self._pipe.wait(timeout)

    def forget_prints(self) -> None:
        """What was printed so far belongs to an earlier call."""
        self._tail.clear()

    def printed(self, lines: int = 60) -> str:
        """The last lines on stderr, shortened."""
        text = bytes(self._tail).decode("utf-8", "replace")
        kept = [line.rstrip()[:300] for line in text.splitlines() if _tells(line)]
        return "\n".join(kept[-lines:])

    def close(self) -> None:
        """End the worker if it still runs, and the threads. Calling it twice is fine."""
        if self._closed:
            return
        self._closed = True
        try:
            self._pipe.kill()
        finally:
            self._outbox.put(None)
            for thread in self._threads:
                thread.join(_JOIN_SECONDS)
            streams = (self._pipe.stdin, self._pipe.stdout, self._pipe.stderr)
            for thread, stream in zip(self._threads, streams, strict=True):
                # A process that left the worker's group may still hold stderr; its reader keeps it.
                if not thread.is_alive():
                    with contextlib.suppress(OSError):
                        stream.close()

    def _write(self) -> None:
        while (pieces := self._outbox.get()) is not None:
            try:
                for piece in pieces:
                    write_all(self._pipe.stdin, piece)
                self._pipe.stdin.flush()
            except (OSError, ValueError):
                return  # the worker is gone: its reader says how

    def _read(self) -> None:
        stream = cast(BinaryIO, _Noticed(self._pipe.stdout, self._sign))
        problem: ProtocolError | None = None
        try:
            while (frame := read_frame(stream)) is not None:
                self._inbox.put(Frame(*frame))
        except ProtocolError as error:
            problem = error
        except (OSError, ValueError) as error:
            problem = ProtocolError(f"the worker's stream broke: {error}")
        self._inbox.put(Ended(problem))

    def _sign(self) -> None:
        self._last_sign = time.monotonic()

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while chunk := self._pipe.stderr.read(4096):
                self._tail.extend(chunk)
                del self._tail[:-_TAIL_BYTES]
                if log.isEnabledFor(logging.DEBUG):
                    log.debug("%s", chunk.decode("utf-8", "replace").rstrip())


class _Noticed:
    """The reading half of a stream, telling of every piece that arrives."""

    def __init__(self, stream: BinaryIO, notice: Callable[[], None]) -> None:
        self._stream = stream
        self._notice = notice

    def readline(self, limit: int) -> bytes:
        line = self._stream.readline(limit)
        self._notice()
        return line

    def read(self, size: int) -> bytes:
        piece = self._stream.read(size)
        self._notice()
        return piece


def _tells(line: str) -> bool:
    """Whether a line says anything: crash dumps list every loaded extension in one long line."""
    return bool(line.strip()) and not line.startswith("Extension modules:")
