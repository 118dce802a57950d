"""Who reports a trouble: the test that is named for it fails, the others are blocked by it.

When a backend hangs at the plainest model, one test says so and the rest are skipped, because they
could say nothing else. When the named test is not part of the run, or is over, the first test that
meets the trouble fails: no trouble passes unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import pytest

from edgekit.errors import ContractViolation, WorkerError, WorkerTimeout
from edgekit_runtime.errors import EdgekitError, ProtocolError

IN_TIME = "test_finishes_in_time"
ALIVE = "test_keeps_the_worker_alive"
CLEAN = "test_keeps_the_protocol_clean"


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error, and the test that reports it."""

    error: EdgekitError
    by: str


class Docket:
    """The tests of one class: chosen for this run, over, and the one that runs now."""

    def __init__(self, chosen: frozenset[str]) -> None:
        self._chosen = chosen
        self._over: set[str] = set()
        self._blamed: set[str] = set()
        self._told: set[str] = set()
        self._current = ""

    @contextmanager
    def during(self, test: str) -> Iterator[None]:
        """While `test` runs."""
        self._current = test
        try:
            yield
        finally:
            self._over.add(test)

    def trouble(self, error: EdgekitError, named: str) -> Trouble:
        """The trouble, given to the test that is named for it, or to the running one if that is too late."""
        reports = (self._chosen - self._over) | self._told
        return Trouble(error, named if named in reports else self._current)

    def report(self, trouble: Trouble) -> NoReturn:
        """Fail the running test when the trouble is its own, else skip it as blocked."""
        if trouble.by == self._current:
            self._told.add(trouble.by)
            pytest.fail(in_words(trouble.error), pytrace=False)
        self._blamed.add(trouble.by)
        pytest.skip(f"blocked by {trouble.by}: {trouble.error.message}")

    @contextmanager
    def telling(self) -> Iterator[None]:
        """An error of edgekit fails the running test in its own words, without a traceback."""
        try:
            yield
        except EdgekitError as error:
            self.report(Trouble(error, self._current))

    def close(self) -> None:
        """Fail when a test was skipped for a trouble that its own test did not meet: none goes unseen."""
        silent = (self._blamed & self._over) - self._told
        if silent:
            pytest.fail(f"tests were blocked by {', '.join(sorted(silent))}, which passed", pytrace=False)


def named_for(error: EdgekitError) -> str:
    """The test that is named for errors of this kind, or ""."""
    if isinstance(error, WorkerTimeout):
        return IN_TIME
    if isinstance(error, ProtocolError):
        return CLEAN
    if isinstance(error, WorkerError) or says_exit(error):
        return ALIVE
    return ""


def says_exit(error: EdgekitError) -> bool:
    """Whether the plugin raised SystemExit."""
    return isinstance(error, ContractViolation) and "SystemExit" in error.message


def in_words(error: EdgekitError | None) -> str:
    """The error's kind, message and hint."""
    return f"{type(error).__name__}: {error}" if error is not None else "nothing was raised"
