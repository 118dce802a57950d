"""Architectures of transformers: what the README says exports does, and what it says fails still fails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgekit_runtime.errors import EdgekitError
from tests.exporting.architectures import table
from tests.exporting.architectures.registry import (
    ARCHITECTURES,
    FAILING,
    HANDFUL,
    Entry,
    entries,
    failing,
    passing,
)
from tests.exporting.architectures.running import run

#: Outputs of two inputs differ by at least this much, so that a graph that ignores its input is seen.
APART = 1e-2


def _params(found: tuple[Entry, ...]) -> list[object]:
    """The handful as they are; the others only in the sweep."""
    sweep = (pytest.mark.slow, pytest.mark.sweep)
    return [
        pytest.param(entry, id="-".join(entry.key), marks=() if entry.key in HANDFUL else sweep)
        for entry in found
    ]


@pytest.mark.parametrize("entry", _params(passing()))
def test_it_exports_for_its_task_with_equal_answers_and_numbers(entry: Entry, tmp_path: Path) -> None:
    outcome = run(entry, tmp_path)
    assert outcome.task == entry.task
    assert outcome.apart > APART, "the model is too tame to show a mistake"
    assert outcome.error < outcome.apart / 100


@pytest.mark.parametrize("entry", _params(failing()))
def test_what_is_listed_as_failing_fails_for_the_listed_reason(entry: Entry, tmp_path: Path) -> None:
    reason = FAILING[entry.key]
    with pytest.raises(reason.error) as caught:
        run(entry, tmp_path)
    assert re.search(reason.says, caught.value.message), caught.value.message
    assert caught.value.hint


def test_the_readme_lists_the_same_architectures_tasks_and_failures() -> None:
    assert set(table.listed()) == {entry.key for entry in entries()}
    assert table.listed_as_failing() == set(FAILING)
    assert table.reasons_listed() == list(table.reasons())


def test_at_least_45_architectures_are_tried_and_36_pass_for_every_task() -> None:
    broken = {name for name, _ in FAILING}
    assert len({found.name for found in ARCHITECTURES}) == len(ARCHITECTURES) >= 45
    assert len([found for found in ARCHITECTURES if found.name not in broken]) >= 36


def test_only_what_exists_is_in_the_handful_and_the_failing() -> None:
    known = {entry.key for entry in entries()}
    assert set(HANDFUL) <= known
    assert set(FAILING) <= known
    assert all(issubclass(reason.error, EdgekitError) for reason in FAILING.values())
