"""False verdicts stay under 1 % on machines of many kinds; the shortcuts we refuse would break that.

A small version of tests/benchmarks/verdict_simulation.py, whose full table lies beside it.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.verdict_simulation import (
    MODELS,
    NEVER,
    power,
    verdicts_by_runs,
    verdicts_dropping,
    wrong,
)

BY_NAME = {model.name: model for model in MODELS}
EXPERIMENTS = 400
#: Of 400 experiments at a true rate of 1 %, more than 10 are wrong in only one of 500 trials.
MOST_WRONG = 10 / EXPERIMENTS


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize(("percentile", "launches"), [(0.5, 40), (0.9, 80)])
def test_wrong_verdicts_at_a_limit_just_off_the_truth_are_rare(
    name: str, percentile: float, launches: int
) -> None:
    false_pass, false_fail = wrong(BY_NAME[name], percentile, launches, EXPERIMENTS)
    assert false_pass <= MOST_WRONG
    assert false_fail <= MOST_WRONG


@pytest.mark.parametrize(("percentile", "launches"), [(0.5, 40), (0.9, 60)])
def test_limits_a_quarter_off_are_decided_with_few_launches(percentile: float, launches: int) -> None:
    model = BY_NAME["launch effect 5 %"]
    passed, _ = power(model, percentile, launches, 200, 1.25)
    _, failed = power(model, percentile, launches, 200, 0.8)
    assert np.mean(passed < NEVER) >= 0.99
    assert np.mean(failed < NEVER) >= 0.99


def test_dropping_disturbed_runs_would_pass_a_model_that_is_too_slow() -> None:
    model = BY_NAME["load: slow runs are marked"]
    assert wrong(model, 0.9, 80, EXPERIMENTS)[0] <= 0.01
    assert wrong(model, 0.9, 80, EXPERIMENTS, verdicts_dropping)[0] > 0.5


@pytest.mark.parametrize("name", ["launch effect 12 %", "AR(1) 0.95 in launches, effect 5 %"])
def test_taking_runs_as_units_would_be_wrong_both_ways(name: str) -> None:
    false_pass, false_fail = wrong(BY_NAME[name], 0.9, 80, EXPERIMENTS, verdicts_by_runs)
    assert false_pass > 0.1
    assert false_fail > 0.1
