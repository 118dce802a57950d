"""Keeping libraries' chatter off the user's terminal while they load and trace."""

from __future__ import annotations

import gc
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from typing import TextIO

log = logging.getLogger(__name__)

#: Loggers that report on the library's own internals: skipped extensions, registered operators.
_NOISY = ("torch", "torch.onnx", "onnxscript", "onnx_ir", "transformers")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide warnings, log lines below ERROR and progress bars of torch and transformers.

    Nothing is lost by it: what a warning of an exporter hints at, the checks afterwards measure.
    """
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in _NOISY:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(max(logger.level, logging.ERROR))
        stack.enter_context(redirect_stderr(_OthersOnly(sys.stderr)))
        yield


class _OthersOnly(io.TextIOBase):
    """A stderr that drops what this thread prints; a progress bar in another thread goes on.

    torch prints the source of whole graphs there when it cannot trace a model.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            return self._stream.write(text)
        if text.strip():
            log.debug("%s", text.rstrip())
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


@contextmanager
def kept_environment() -> Iterator[None]:
    """Put environment variables back: torch sets one for a cache when it is first used."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Switch transformers' progress bars off for a while."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for cycles of garbage less often: tracing makes millions of objects, and every full look visits
    all those that torch and transformers brought."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
