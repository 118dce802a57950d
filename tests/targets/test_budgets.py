"""Limits on the command line, and the two views of a budget."""

from __future__ import annotations

import dataclasses

import pytest

from edgekit.errors import TargetFileError, UsageError
from edgekit.targets import BUDGET_UNITS, MACHINE_KEYS, apply_budget, budget_items, has_budget
from edgekit.values import Budget, Target

TARGET = Target(name="t", budget=Budget(latency_p90_ms=9, artifact_mib=5))


def test_every_budget_key_has_a_unit() -> None:
    assert list(BUDGET_UNITS) == [field.name for field in dataclasses.fields(Budget)]


def test_only_set_limits_are_items_and_make_a_budget() -> None:
    assert budget_items(TARGET.budget) == (("latency_p90_ms", 9), ("artifact_mib", 5))
    assert has_budget(TARGET.budget)
    assert not has_budget(Budget())
    assert has_budget(Budget(max_fallback=0)), "zero is a limit"


def test_an_override_changes_its_key_and_leaves_the_rest() -> None:
    target = apply_budget(TARGET, ["latency_p90_ms=20", " accuracy_drop = 0.5 "])
    assert dict(budget_items(target.budget)) == {
        "latency_p90_ms": 20,
        "artifact_mib": 5,
        "accuracy_drop": 0.5,
    }
    assert TARGET.budget.latency_p90_ms == 9


def test_no_override_is_the_same_target() -> None:
    assert apply_budget(TARGET, []) is TARGET


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("latency_90_ms=20", "did you mean 'latency_p90_ms'"),
        ("=20", "unknown budget key ''"),
        ("latency_p90_ms", "no value"),
        ("latency_p90_ms=", "no value"),
        ("latency_p90_ms=fast", "not a number"),
        ("latency_p90_ms=20ms", "its unit is ms"),
        ("latency_p90_ms=20=30", "not a number"),
        ("latency_p90_ms=-1", "never negative"),
        ("latency_p90_ms=0", "zero"),
        ("latency_p90_ms=nan", "finite"),
        ("latency_p90_ms=inf", "finite"),
        ("max_fallback=1.5", "highest"),
    ],
)
def test_what_is_no_limit_is_a_usage_error(override: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        apply_budget(TARGET, [override])
    assert named in str(caught.value)
    assert not isinstance(caught.value, TargetFileError)


def test_a_limit_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="given twice"):
        apply_budget(TARGET, ["latency_p90_ms=20", "latency_p90_ms=30"])


def test_every_limit_but_those_of_files_and_rows_is_bound_to_the_machine() -> None:
    assert set(BUDGET_UNITS) - set(MACHINE_KEYS) == {"artifact_mib"}
