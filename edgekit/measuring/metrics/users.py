"""The user's own metric: `--metric path/file.py:function` or `--metric package.module:function`.

The function is called with two lists, answers and truths, and returns a finite number; more is better
unless it has the attribute `higher_is_better = False`. Naming it on the command line is the user's consent
to run it.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from edgekit.discovery import PASSES_WALLS
from edgekit.errors import DataError, UsageError
from edgekit.measuring.metrics.base import ANY, check_rows

_HINT = "a metric is a function: def metric(answers, truths) -> float"


class UsersMetric:
    """A function as a metric. name: its reference, as the user gave it."""

    takes = ANY

    def __init__(self, name: str, function: Callable[[list[Any], list[Any]], object]) -> None:
        self.name = name
        self.function = function
        self.higher_is_better = bool(getattr(function, "higher_is_better", True))

    def score(self, answers: Sequence[Any], truths: Sequence[Any]) -> float:
        """What the function returns. Raises DataError when it raises, or returns no finite number."""
        check_rows(self.name, answers, truths)
        try:
            found = self.function(list(answers), list(truths))
        except PASSES_WALLS:
            raise
        except BaseException as problem:  # the call wall: it may raise anything, SystemExit too
            raise DataError(
                f"metric {self.name}: raised {type(problem).__name__}: {problem}", hint=_HINT
            ) from problem
        if isinstance(found, bool) or not isinstance(found, Real) or not math.isfinite(found):
            raise DataError(
                f"metric {self.name}: returned {type(found).__name__} {found!r}, not a finite number",
                hint=_HINT,
            )
        return float(found)

    def right(self, answers: Sequence[Any], truths: Sequence[Any]) -> None:
        """Not known of a function."""


def load_users_metric(reference: str) -> UsersMetric:
    """Import what "path/file.py:function" or "package.module:function" names. Raises UsageError."""
    place, _, name = reference.rpartition(":")
    if not place or not name.isidentifier():
        raise UsageError(
            f"metric {reference!r} names no function",
            hint="write path/file.py:function or package.module:function",
        )
    is_file = place.endswith(".py") or os.sep in place
    module = _file(reference, Path(place)) if is_file else _module(reference, place)
    function = getattr(module, name, None)
    if not callable(function):
        found = "is no function" if hasattr(module, name) else "does not exist"
        known = ", ".join(
            sorted(key for key in vars(module) if callable(vars(module)[key]) and key[0] != "_")
        )
        raise UsageError(
            f"metric {reference!r}: {name!r} {found} in {place}",
            hint=f"it has: {known}" if known else _HINT,
        )
    return UsersMetric(reference, function)


def _file(reference: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"metric {reference!r}: {path}: no such file", hint="check the path")
    spec = importlib.util.spec_from_file_location(f"edgekit_users_metric_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"metric {reference!r}: {path} is no Python file", hint="its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except PASSES_WALLS:
        raise
    except BaseException as problem:  # the import wall
        raise _failed(reference, problem) from problem
    return module


def _module(reference: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except PASSES_WALLS:
        raise
    except BaseException as problem:  # the import wall
        raise _failed(reference, problem) from problem


def _failed(reference: str, problem: BaseException) -> UsageError:
    return UsageError(
        f"metric {reference!r} cannot be imported: {type(problem).__name__}: {problem}",
        hint="mend what it names, or give a file: path/file.py:function",
    )
