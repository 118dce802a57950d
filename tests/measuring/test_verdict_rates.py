"""False verdicts stay under 1 % on machines of many kinds; the shortcuts we refuse would break that.

A small version of tests/benchmarks/verdict_simulation.py, whose full table lies beside it.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.verdict_machines import MACHINES
from tests.benchmarks.verdict_simulation import (
    NEVER,
    model_rates,
    power,
    verdicts_by_runs,
    verdicts_dropping,
    verdicts_unwatched,
    wrong,
)

BY_NAME = {machine.name: machine for machine in MACHINES}
COVERED = [machine.name for machine in MACHINES if machine.covered]
EXPERIMENTS = 400
#: Of 400 experiments at a true rate of 1 %, more than 10 are wrong in only one of 500 trials.
MOST_WRONG = 10 / EXPERIMENTS


@pytest.mark.parametrize("name", COVERED)
@pytest.mark.parametrize(("percentile", "launches"), [(0.5, 90), (0.9, 90)])
def test_wrong_verdicts_at_a_limit_just_off_the_truth_are_rare(
    name: str, percentile: float, launches: int
) -> None:
    false_pass, false_fail = wrong(BY_NAME[name], percentile, launches, EXPERIMENTS)
    assert false_pass <= MOST_WRONG
    assert false_fail <= MOST_WRONG


@pytest.mark.parametrize(("percentile", "launches"), [(0.5, 90), (0.9, 90)])
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


@pytest.mark.parametrize("name", ["launch effect 12 %", "AR(1) 0.95 from run to run, effect 5 %"])
def test_taking_runs_as_units_would_be_wrong_both_ways(name: str) -> None:
    false_pass, false_fail = wrong(BY_NAME[name], 0.9, 80, EXPERIMENTS, verdicts_by_runs)
    assert false_pass > 0.1
    assert false_fail > 0.1


@pytest.mark.parametrize(
    ("name", "percentile"),
    [("spells of ~5 launches", 0.5), ("AR(1) 0.5 from launch to launch, effect 8 %", 0.9)],
)
def test_taking_launches_as_exchangeable_would_be_wrong_where_there_are_spells(
    name: str, percentile: float
) -> None:
    assert wrong(BY_NAME[name], percentile, 90, EXPERIMENTS)[0] <= MOST_WRONG
    assert wrong(BY_NAME[name], percentile, 90, EXPERIMENTS, verdicts_unwatched)[0] > 0.02


@pytest.mark.parametrize("name", ["launch effect 5 %", "launch effect 12 %", "heavy tail (5 % of runs)"])
@pytest.mark.parametrize("percentile", [0.5, 0.9])
def test_the_model_for_few_launches_keeps_its_error_where_its_assumption_holds(
    name: str, percentile: float
) -> None:
    for launches in (6, 12):
        false_pass, false_fail, _, _ = model_rates(BY_NAME[name], percentile, launches, EXPERIMENTS)
        assert false_pass <= MOST_WRONG
        assert false_fail <= MOST_WRONG


def test_the_model_for_few_launches_decides_what_is_clear() -> None:
    _, _, passed, failed = model_rates(BY_NAME["launch effect 5 %"], 0.9, 12, 200)
    assert passed >= 0.9
    assert failed >= 0.9
