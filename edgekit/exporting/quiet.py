"""Keeping libraries' chatter off the user's terminal while they load and trace."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

#: Loggers that report on the library's own internals: skipped extensions, registered operators.
_NOISY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "transformers")


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
        yield


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
