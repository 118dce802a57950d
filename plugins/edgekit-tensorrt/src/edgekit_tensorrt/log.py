"""The library's log: what it says while it works, without what is noise on a machine that has no GPU."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from edgekit_tensorrt.library import STANDARD, Library

#: Every error on a machine without a driver is followed by this one, which says nothing about the model.
_NOISE = re.compile(r"\[?checkMacros\.cpp::catchCudaError.*cudaError 35\b", re.DOTALL)
#: Places in the library's source.
_PLACES = (
    re.compile(r"^\w+\.\w+:\d+: (ERROR: )?"),
    re.compile(r"\.? *In \S+ at /\S+?:\d+"),
    re.compile(r"^\[\d+\] "),
    re.compile(r"\[\w+\.cpp:\d+: \w+\] ?"),
)
#: Lines of the parser that only say where it is.
_FRAMES = re.compile(r"^(While parsing node number|--- (Begin|End) node|In function |Node name:)")


#: The last messages that are kept.
_MOST = 10_000
_LOGS: dict[str, Any] = {}


class Log(Protocol):
    """A logger of the library that keeps what it hears, in order: (severity, message)."""

    heard: deque[tuple[str, str]]

    def errors(self) -> list[str]:
        """What went wrong, as the library wrote it."""

    def warnings(self) -> list[str]:
        """What the library warned of."""


def make_log(library: Library) -> Any:
    """The process's `Log` of the library, emptied; an object of the library's own class `ILogger`.

    There is one, since the library keeps to the first that it was given for as long as anything made with it
    lives, and tells a second one nothing. It may be heard from any thread.
    """
    if library.name not in _LOGS:
        _LOGS[library.name] = _kept(library)
        if library.name == STANDARD:  # some ONNX operators are plugins there, in plans too
            library.module.init_libnvinfer_plugins(_LOGS[library.name], "")
    log = _LOGS[library.name]
    log.heard.clear()
    return log


def _kept(library: Library) -> Any:
    class Kept(library.module.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            library.module.ILogger.__init__(self)
            self.heard: deque[tuple[str, str]] = deque(maxlen=_MOST)

        def log(self, severity: Any, message: str) -> None:
            word = str(severity.name)
            if word != "VERBOSE":
                self.heard.append((word, message))

        def errors(self) -> list[str]:
            return [message for word, message in list(self.heard) if word in ("ERROR", "INTERNAL_ERROR")]

        def warnings(self) -> list[str]:
            return [message for word, message in list(self.heard) if word == "WARNING"]

    return Kept()


def cleaned(lines: Iterable[str]) -> list[str]:
    """The messages, line by line, without noise, places in source and repetitions."""
    found = []
    for message in lines:
        for line in message.splitlines():
            text = line
            if _NOISE.search(text):
                continue
            for pattern in _PLACES:
                text = pattern.sub("", text)
            text = text.strip()
            if text and not _FRAMES.match(text):
                found.append(text)
    return list(dict.fromkeys(found))
