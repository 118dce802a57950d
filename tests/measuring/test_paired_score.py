"""The exact test of a drop: its error rates computed, not sampled, by summing over all possible counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from edgekit.measuring.paired_score import drop_upper, p_value, score
from edgekit.measuring.statistics import rate_bounds

ALPHA = 0.01


def staircase(rows: int, drop: float, alpha: float) -> NDArray[np.int64]:
    """For each count of gained rows, the most lost rows that still prove a drop below `drop`; -1: none."""
    found, lost = [], -1
    for gained in range(rows + 1):
        while lost + 1 + gained <= rows and p_value(lost + 1, gained, rows, drop, alpha) <= alpha:
            lost += 1
        found.append(min(lost, rows - gained))
        if binom.sf(gained, rows, 0.2) < 1e-12:
            break
    return np.array(found)


def chance(stairs: NDArray[np.int64], rows: int, lost: float, gained: float) -> float:
    """The exact probability that the counts lie on or under the stairs."""
    seen = np.arange(len(stairs))
    share = lost / (1.0 - gained) if gained < 1.0 else 0.0
    under = np.where(stairs >= 0, binom.cdf(stairs, rows - seen, min(share, 1.0)), 0.0)
    return float(np.sum(binom.pmf(seen, rows, gained) * under))


def worst_chance(stairs: NDArray[np.int64], rows: int, drop: float, most: float = 1.0) -> float:
    """The largest probability of rejecting "the drop is `drop` or more" while it is true."""
    rates = np.unique(np.concatenate([np.linspace(0, most, 60), np.geomspace(1e-2 / rows, most, 60)]))
    beyond = (0.0, 1e-4, 1e-2)
    return max(
        chance(stairs, rows, gained + drop + more, gained)
        for gained in rates
        for more in beyond
        if 0.0 <= gained + drop + more <= 1.0 - gained
    )


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(2, 25),
    drop=st.floats(-0.6, 0.6),
    alpha=st.sampled_from([0.3, 0.1, 0.05, 0.01]),
)
def test_the_error_is_never_more_than_promised_on_few_rows(rows: int, drop: float, alpha: float) -> None:
    proven = np.array(
        [
            [x + y <= rows and p_value(x, y, rows, drop, alpha) <= alpha for x in range(rows + 1)]
            for y in range(rows + 1)
        ]
    )
    for y in range(rows + 1):
        for x in range(rows + 1 - y):
            fewer_lost_or_more_gained = (x == 0 or proven[y, x - 1]) and (x + y == rows or proven[y + 1, x])
            assert not proven[y, x] or fewer_lost_or_more_gained
    stairs = np.array([row.sum() - 1 for row in proven])
    assert worst_chance(stairs, rows, drop) <= alpha


@pytest.mark.parametrize("drop", [-0.02, 0.0, 0.005, 0.01, 0.05])
def test_false_pass_and_false_fail_stay_under_one_percent_with_200_rows(drop: float) -> None:
    """A false FAIL is the same test with lost and gained exchanged and the limit negated."""
    worst = worst_chance(staircase(200, drop, ALPHA), 200, drop, 0.15)
    assert worst <= ALPHA
    if drop >= 0.01:
        assert worst > 0.5 * ALPHA  # not by being idle


@pytest.mark.parametrize("drop", [-0.01, 0.005, 0.01])
def test_false_pass_and_false_fail_stay_under_one_percent_with_1510_rows(drop: float) -> None:
    stairs = staircase(1510, drop, ALPHA)
    worst = max(
        chance(stairs, 1510, gained + drop, gained)
        for gained in np.geomspace(1e-5, 0.04, 80)
        if gained + drop >= 0.0
    )
    assert 0.5 * ALPHA < worst <= ALPHA  # kept, and not by being idle


@pytest.mark.parametrize("rows", [6, 11])
def test_bounds_cover_the_true_drop_as_often_as_promised(rows: int) -> None:
    pairs = [(x, y) for x in range(rows + 1) for y in range(rows + 1 - x)]
    highs = np.array([drop_upper(x, y, rows, 0.1) for x, y in pairs])
    for lost in np.linspace(0, 1, 21):
        for gained in np.linspace(0, 1 - lost, 11):
            chances = np.array(
                [
                    binom.pmf(y, rows, gained)
                    * binom.pmf(x, rows - y, min(1.0, lost / (1 - gained)) if gained < 1 else 0.0)
                    for x, y in pairs
                ]
            )
            assert chances[highs < lost - gained - 1e-12].sum() <= 0.1


def test_one_more_lost_row_never_lowers_a_bound_and_one_more_gained_never_raises_it() -> None:
    for rows in (9, 300):
        highs = np.array([[drop_upper(x, y, rows, ALPHA) for x in range(5)] for y in range(5)])
        assert np.all(np.diff(highs, axis=1) >= 0.0)
        assert np.all(np.diff(highs, axis=0) <= 0.0)


def test_without_gained_rows_it_comes_near_to_clopper_and_pearson() -> None:
    for rows, lost in ((1510, 0), (1510, 5), (1510, 40), (100, 3)):
        exact = rate_bounds(lost, rows, ALPHA)[1]
        assert 0.98 * exact < drop_upper(lost, 0, rows, ALPHA) < 1.1 * exact


def test_bounds_are_much_tighter_than_two_bounds_with_half_the_error_each() -> None:
    for lost, gained, most in ((20, 10, 1.65), (8, 7, 0.76), (30, 10, 2.45)):
        high = 100 * drop_upper(lost, gained, 1510, ALPHA)
        separate = 100 * (rate_bounds(lost, 1510, ALPHA / 2)[1] - rate_bounds(gained, 1510, ALPHA / 2)[0])
        assert 100 * (lost - gained) / 1510 < high < most < separate


def test_no_change_among_few_rows_proves_little() -> None:
    assert drop_upper(0, 0, 30, ALPHA) > 0.14
    assert drop_upper(0, 0, 1, ALPHA) > 0.98


def test_bounds_of_all_or_nothing_stay_within_one() -> None:
    assert drop_upper(7, 0, 7, ALPHA) == 1.0
    assert -1.0 < drop_upper(0, 7, 7, ALPHA) < 0.0


def test_many_rows_with_many_changes_are_no_obstacle() -> None:
    rows, lost, gained = 200_000, 5_200, 4_800
    normal = 0.002 + 2.3263 * np.sqrt(lost + gained - (lost - gained) ** 2 / rows) / rows
    assert abs(drop_upper(lost, gained, rows, ALPHA) - normal) < 0.02 * normal


def test_the_statistic_is_tangos() -> None:
    """The gained rate in it is the likeliest one, sought here by brute force; at no drop it is McNemar's."""
    assert float(score(9, 4, 50, 0.0)) == pytest.approx((9 - 4) / np.sqrt(13))
    for drop in (0.3, -0.2):
        rates = np.linspace(max(0.0, -drop) + 1e-9, (1 - drop) / 2 - 1e-9, 400_001)
        logs = 9 * np.log(rates + drop) + 4 * np.log(rates) + 37 * np.log(1 - 2 * rates - drop)
        best = rates[np.argmax(logs)]
        expected = (9 - 4 - 50 * drop) / np.sqrt(50 * (2 * best + drop - drop**2))
        assert float(score(9, 4, 50, drop)) == pytest.approx(expected, abs=1e-4)
