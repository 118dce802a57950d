"""Accuracy drop: paired, exact, and honest about too few rows."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.measuring.accuracy import (
    drop_bounds,
    judge_accuracy,
    logit_distance,
    overlapping,
    paired_accuracy,
    rows_needed,
)
from edgekit.values import AccuracyRecord, Outcome


def record(rows: int, lost: int, gained: int) -> AccuracyRecord:
    return AccuracyRecord(
        metric="accuracy",
        rows=rows,
        artifact=0.9 - (lost - gained) / rows,
        model=0.9,
        lost=lost,
        gained=gained,
        flips=lost + gained,
        max_logit_distance=0.0,
    )


def test_rows_are_paired_and_flips_between_two_wrong_answers_count_as_flips_only() -> None:
    model, artifact = (True, True, False, False), (True, False, True, False)
    found = paired_accuracy(model, artifact, flips=3, metric="exact match", max_logit_distance=0.5)
    assert (found.rows, found.lost, found.gained, found.flips) == (4, 1, 1, 3)
    assert found.artifact == found.model == 0.5
    assert (found.metric, found.max_logit_distance) == ("exact match", 0.5)


def test_answers_that_do_not_pair_are_refused() -> None:
    for model, artifact in (((), (True,)), ((True,), ()), ((), ())):
        with pytest.raises(DataError, match="paired row by row"):
            paired_accuracy(model, artifact, flips=0, metric="accuracy")


def test_enough_rows_prove_a_small_drop_and_a_large_one() -> None:
    assert judge_accuracy(record(2000, 3, 2), 1.0, 0.99).outcome is Outcome.PASS
    assert judge_accuracy(record(2000, 160, 10), 1.0, 0.99).outcome is Outcome.FAIL


def test_too_few_rows_are_inconclusive_and_say_how_many_would_do() -> None:
    check = judge_accuracy(record(100, 0, 0), 1.0, 0.99)
    assert check.outcome is Outcome.INCONCLUSIVE
    needed = rows_needed(record(100, 0, 0), 1.0, 0.01)
    assert needed is not None and 500 < needed < 560
    assert f"{needed} rows would prove PASS ({needed - 100} more)" in check.reason
    assert judge_accuracy(record(needed, 0, 0), 1.0, 0.99).outcome is Outcome.PASS


def test_a_drop_over_the_limit_asks_for_rows_that_would_prove_the_failure() -> None:
    check = judge_accuracy(record(100, 4, 1), 1.0, 0.99)
    assert check.outcome is Outcome.INCONCLUSIVE
    assert "would prove FAIL" in check.reason


def test_a_drop_at_the_limit_can_never_be_decided() -> None:
    assert "no number of rows" in judge_accuracy(record(100, 1, 0), 1.0, 0.99).reason


def test_rows_that_chose_the_recipe_make_it_inconclusive_however_good_it_looks() -> None:
    assert overlapping(["a", "b", "c"], ["b", "x"]) == 1
    check = judge_accuracy(record(5000, 0, 0), 1.0, 0.99, overlap=1)
    assert check.outcome is Outcome.INCONCLUSIVE
    assert "1 of 5000 rows also" in check.reason


@pytest.mark.parametrize(("lost", "gained"), [(0.02, 0.01), (0.05, 0.05), (0.001, 0.0)])
def test_the_bounds_cover_the_true_drop(lost: float, gained: float) -> None:
    generator = np.random.default_rng(0)
    rows, trials, missed_high, missed_low = 400, 400, 0, 0
    for counts in generator.multinomial(rows, [lost, gained, 1 - lost - gained], size=trials):
        low, high = drop_bounds(record(rows, int(counts[0]), int(counts[1])), 0.9)
        missed_high += high < 100 * (lost - gained)
        missed_low += low > 100 * (lost - gained)
    assert missed_high <= 0.1 * trials
    assert missed_low <= 0.1 * trials


def test_logits_that_cannot_be_compared_are_as_far_apart_as_can_be() -> None:
    one = {"logits": np.array([1.0, 2.0])}
    assert logit_distance(one, {"logits": np.array([1.5, 2.0])}) == 0.5
    assert logit_distance(one, {"logits": np.array([np.nan, 2.0])}) == sys.float_info.max
    assert logit_distance(one, {"logits": np.zeros(3)}) == sys.float_info.max
    assert logit_distance(one, {}) == sys.float_info.max
