"""Budgets: which limits are set, in which unit, and how `--budget key=value` changes them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from edgekit.errors import UsageError
from edgekit.files.tables import nearest
from edgekit.values import Budget, Target

#: Every budget key with the unit of its limit.
BUDGET_UNITS = {
    "latency_p50_ms": "ms",
    "latency_p90_ms": "ms",
    "latency_p99_ms": "ms",
    "cold_start_ms": "ms",
    "throughput_min": "samples/s",
    "peak_memory_mib": "MiB",
    "artifact_mib": "MiB",
    "accuracy_drop": "points",
    "max_fallback": "share",
    "energy_mj": "mJ",
    "ttft_ms": "ms",
    "tpot_p50_ms": "ms",
    "tpot_p99_ms": "ms",
    "tokens_per_second_min": "tokens/s",
    "perplexity_increase": "perplexity",
}

#: Keys that models which generate text answer, and no other.
GENERATION_KEYS = ("ttft_ms", "tpot_p50_ms", "tpot_p99_ms", "tokens_per_second_min", "perplexity_increase")

#: Keys that only the target's own machine can answer. Accuracy too: the same int8 file can be right on one
#: CPU and wrong on another.
MACHINE_KEYS = tuple(key for key in BUDGET_UNITS if key != "artifact_mib")

_ZERO_IS_A_LIMIT = ("accuracy_drop", "max_fallback", "perplexity_increase")
_HIGHEST = {"max_fallback": 1.0, "accuracy_drop": 100.0}


def budget_items(budget: Budget) -> tuple[tuple[str, float], ...]:
    """The limits that are set, in the order of the schema."""
    values = [(item.name, getattr(budget, item.name)) for item in dataclasses.fields(budget)]
    return tuple((key, value) for key, value in values if value is not None)


def has_budget(budget: Budget) -> bool:
    """Whether any limit is set."""
    return bool(budget_items(budget))


def limit_problem(key: str, value: float) -> str:
    """Why `value` is no limit for `key`; empty when it is one."""
    if not math.isfinite(value):
        return "a limit is a finite number"
    if value < 0:
        return "a limit is never negative"
    if value == 0 and key not in _ZERO_IS_A_LIMIT:
        return "a limit of zero can never be kept"
    highest = _HIGHEST.get(key)
    if highest is not None and value > highest:
        return f"the highest that makes sense is {highest:g} ({BUDGET_UNITS[key]})"
    return ""


def apply_budget(target: Target, overrides: Iterable[str]) -> Target:
    """The target with limits of the form "latency_p90_ms=20" put over its own.

    Raises UsageError for an unknown key, a value that is no limit, or a key given twice.
    """
    limits: dict[str, float] = {}
    for override in overrides:
        key, value = _parse(override)
        if key in limits:
            raise UsageError(f"--budget {key} is given twice", hint="give each limit once")
        limits[key] = value
    if not limits:
        return target
    budget = Budget(**{**dict(budget_items(target.budget)), **limits})
    return dataclasses.replace(target, budget=budget)


def _parse(override: str) -> tuple[str, float]:
    key, equals, text = (part.strip() for part in override.partition("="))
    if key not in BUDGET_UNITS:
        raise UsageError(
            f"--budget {override!r}: unknown budget key {key!r}", hint=nearest(key, BUDGET_UNITS)
        )
    if not equals or not text:
        raise UsageError(f"--budget {override!r} has no value", hint=f"write `--budget {key}=NUMBER`")
    try:
        value = float(text)
    except ValueError:
        raise UsageError(
            f"--budget {key}: {text!r} is not a number",
            hint=f"give a plain number; its unit is {BUDGET_UNITS[key]}",
        ) from None
    problem = limit_problem(key, value)
    if problem:
        raise UsageError(
            f"--budget {key} is {text}: {problem}", hint="see the budget table in targets/README.md"
        )
    return key, value
