"""What a function in the worker sees: `@worker_function def name(call: Call) -> Reply`.

Only functions with the mark can be called by name from the host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from edgekit_runtime.codec import Table
from edgekit_runtime.errors import EdgekitError, ProtocolError
from edgekit_runtime.frames import JsonValue
from edgekit_runtime.memory import MemoryMeter
from edgekit_runtime.session import Opener, Session

_MARK = "__edgekit_worker_function__"


class Cancelled(BaseException):
    """The host asked to stop. No `Exception`, so that a plugin's broad handler does not swallow it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker function returns: a value that JSON can say, and bytes."""

    value: JsonValue = None
    body: bytes = b""


@dataclass(slots=True)
class WorkerState:
    """What lives in the worker from one call to the next. scratch: its directory, once it has one."""

    sessions: dict[str, Session] = field(default_factory=dict)
    openers: dict[str, Opener] = field(default_factory=dict)
    meter: MemoryMeter | None = None
    opened: int = 0
    scratch: Path | None = None


class Reporter(Protocol):
    """How a call talks to the host while it runs; the worker's loop gives one."""

    def progress(self, done: int, total: int, what: str) -> None:
        """Send a progress frame."""

    def log(self, message: str) -> None:
        """Send a line for the host's log."""

    def quiet(self, on: bool) -> None:
        """While on, the heartbeat thread sleeps long, so as not to disturb a timed loop."""

    def beat(self) -> None:
        """Send a heartbeat from the calling thread, when the last one is old enough."""


class SilentReporter:
    """For calls outside a worker, as in tests and on-device tools: says nothing."""

    def progress(self, done: int, total: int, what: str) -> None:
        """Say nothing."""

    def log(self, message: str) -> None:
        """Say nothing."""

    def quiet(self, on: bool) -> None:
        """Say nothing."""

    def beat(self) -> None:
        """Say nothing."""


@dataclass(slots=True)
class Call:
    """One call: its parameters (typed readers on `params`), its body, and a line to the host."""

    params: Table
    body: bytes = b""
    state: WorkerState = field(default_factory=WorkerState)
    reporter: Reporter = field(default_factory=SilentReporter)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def progress(self, done: int, total: int, what: str) -> None:
        """Tell the host how far the call is. Also a place where a cancel takes effect."""
        self.raise_if_cancelled()
        self.reporter.progress(done, total, what)

    def log(self, message: str) -> None:
        """Send a line for the host's log."""
        self.reporter.log(message)

    def raise_if_cancelled(self) -> None:
        """Leave the call when the host asked for it."""
        if self.cancelled.is_set():
            raise Cancelled


WorkerFunction = Callable[[Call], Reply]
_F = TypeVar("_F", bound=WorkerFunction)


def worker_function(function: _F) -> _F:
    """Mark a function as one that the host may call."""
    setattr(function, _MARK, True)
    return function


def find_function(name: str) -> WorkerFunction:
    """The marked function that "module:name" names. Import errors pass through."""
    import importlib

    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute.isidentifier():
        raise ProtocolError(f"{name!r} names no worker function", hint='write "package.module:function"')
    found: object = getattr(importlib.import_module(module), attribute, None)
    if found is None or not getattr(found, _MARK, False) or not callable(found):
        raise ProtocolError(f"{name} is no worker function", hint="only functions marked @worker_function")
    function: WorkerFunction = found
    return function


@contextmanager
def foreign(error: type[EdgekitError], doing: str, *, hint: str = "") -> Iterator[None]:
    """A wall around code that is not ours: what it raises becomes `error` with the cause named.

    Errors of our own tree and `MemoryError` (anywhere in the chain) pass through.
    """
    try:
        yield
    except (EdgekitError, MemoryError):
        raise
    except Exception as cause:
        if caused_by_memory(cause):
            raise
        text = str(cause).strip() or "no message"
        raise error(f"{doing}: {type(cause).__name__}: {text}", hint=hint) from cause


def caused_by_memory(error: BaseException | None) -> bool:
    """Whether a `MemoryError`, or an engine's words for it, is somewhere in the chain of causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or says_out_of_memory(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


_MEMORY_WORDS = (
    "std::bad_alloc",
    "bad allocation",
    "memoryerror",
    "cannot allocate memory",
    "memory allocation of ",
    "memory allocation still failed",
    "failed to allocate memory",
    "unable to allocate",
    "out of memory",
    "insufficient memory",
)


def says_out_of_memory(text: str) -> bool:
    """Whether an engine's message or last words are about missing memory."""
    lowered = text.lower()
    return any(words in lowered for words in _MEMORY_WORDS)
