"""The tests and bounds: right at every sample size, and never helped by worse readings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from edgekit.measuring.betting import further_launches, log_mixture, log_stakes, proves_below
from edgekit.measuring.statistics import Bounds, Launches, Rules, binomial_tail, rate_bounds

ALPHA = 0.01
RULES = Rules(alpha=ALPHA)
latencies = st.lists(
    st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=4), min_size=3, max_size=25
)
#: Too few launches for any dependence to be estimated from them.
short = st.lists(
    st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=4), min_size=3, max_size=7
)


def _log_capital(shares: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    return log_mixture(log_stakes(shares, mean))


def launches_of(rows: list[list[tuple[int, bool]]]) -> Launches:
    return Launches(
        [np.array([float(value) for value, _ in row]) for row in rows],
        [np.array([mark for _, mark in row]) for row in rows],
    )


@pytest.mark.parametrize(("allowed", "needed"), [(0.5, 7), (0.1, 46), (0.01, 480)])
def test_clean_launches_prove_a_percentile_after_as_many_as_promised(allowed: float, needed: int) -> None:
    assert not proves_below(np.zeros(needed - 1), allowed, ALPHA)
    assert proves_below(np.zeros(needed), allowed, ALPHA)
    assert further_launches(np.zeros(3), allowed, ALPHA) == needed - 3


def test_nothing_is_proven_by_no_launches() -> None:
    assert not proves_below(np.zeros(0), 0.5, ALPHA)
    empty = Launches([])
    assert empty.estimate(0.5) is None
    assert empty.bounds(0.5, RULES) == Bounds(low=None, high=None)
    test = empty.test(1.0, 0.5, RULES)
    assert not test.passed and not test.failed


@pytest.mark.parametrize("mean", [0.01, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("low", [0.0, 0.005])
def test_the_bet_is_fair_at_the_boundary_of_the_hypothesis(mean: float, low: float) -> None:
    """Shares of `low` and 1 with mean `mean`: the expected capital after three launches is 1."""
    chance = (mean - low) / (1 - low)
    expected = 0.0
    for pattern in np.ndindex(2, 2, 2):
        shares = np.where(np.array(pattern) == 1, 1.0, low)
        probability = math.prod(chance if hit else 1 - chance for hit in pattern)
        expected += probability * float(np.exp(_log_capital(shares, mean)[-1]))
    assert expected == pytest.approx(1.0, abs=1e-9)


@given(rows=short, index=st.integers(0, 10_000), by=st.integers(1, 20), limit=st.integers(0, 31))
@settings(max_examples=200, deadline=None)
def test_a_slower_run_never_helps_a_pass_and_a_quicker_one_never_a_fail(
    rows: list[list[tuple[int, bool]]], index: int, by: int, limit: int
) -> None:
    row = index % len(rows)
    slower = [list(each) for each in rows]
    slower[row][0] = (rows[row][0][0] + by, rows[row][0][1])
    for percentile in (0.5, 0.9):
        before = launches_of(rows).test(limit, percentile, RULES)
        after = launches_of(slower).test(limit, percentile, RULES)
        assert before.passed or not after.passed
        assert after.failed or not before.failed


@given(rows=latencies, index=st.integers(0, 10_000), limit=st.integers(0, 31))
@settings(max_examples=200, deadline=None)
def test_marking_a_run_as_disturbed_never_helps_either_verdict(
    rows: list[list[tuple[int, bool]]], index: int, limit: int
) -> None:
    row = index % len(rows)
    marked = [list(each) for each in rows]
    marked[row][0] = (rows[row][0][0], True)
    for percentile in (0.5, 0.9):
        before = launches_of(rows).test(limit, percentile, RULES)
        after = launches_of(marked).test(limit, percentile, RULES)
        assert before.passed or not after.passed
        assert before.failed or not after.failed


@given(rows=latencies)
@settings(max_examples=100, deadline=None)
def test_the_bounds_are_the_limits_that_the_test_decides(rows: list[list[tuple[int, bool]]]) -> None:
    launches = launches_of(rows)
    for percentile in (0.5, 0.9):
        bounds = launches.bounds(percentile, Rules(alpha=0.2))
        low, high = bounds.low, bounds.high
        for limit in np.arange(0.5, 31.5, 0.5):
            test = launches.test(float(limit), percentile, Rules(alpha=0.2))
            assert test.passed == (high is not None and limit >= high)
            assert test.failed == (low is not None and limit < low)


@given(rows=latencies)
@settings(max_examples=50, deadline=None)
def test_pass_and_fail_are_not_both_proven_by_launches_in_one_order(
    rows: list[list[tuple[int, bool]]],
) -> None:
    """The final capitals of both sides cannot both be above one."""
    launches = launches_of(rows)
    for limit in (5.0, 15.0, 25.0):
        for_pass = _log_capital(launches.over(limit), 0.1)[-1]
        for_fail = _log_capital(1.0 - launches.under(limit), 0.9)[-1]
        assert for_pass <= 1e-9 or for_fail <= 1e-9


def test_the_order_of_launches_does_not_matter_to_the_capital() -> None:
    shares = np.random.default_rng(0).random(30)
    assert _log_capital(shares, 0.5)[-1] == pytest.approx(_log_capital(np.sort(shares), 0.5)[-1])


def test_every_launch_weighs_the_same_in_the_estimate() -> None:
    launches = Launches([np.full(99, 1.0), np.full(1, 9.0), np.full(1, 9.0)])
    assert launches.estimate(0.5) == 9.0
    assert launches.estimate(0.3) == 1.0


@pytest.mark.parametrize("shares", [[0.02] * 10, [0.0] * 9 + [1.0], [0.3, 0.1, 0.2]])
def test_the_forecast_holds_when_launches_go_on_as_before(shares: list[float]) -> None:
    seen = np.array(shares)
    needed = further_launches(seen, 0.5, ALPHA)
    assert needed is not None
    whole = math.ceil(needed / len(seen)) + 1
    assert _log_capital(np.tile(seen, whole), 0.5)[-1] >= math.log(1 / ALPHA)
    short = needed // len(seen)
    assert not short or _log_capital(np.tile(seen, short), 0.5)[-1] < math.log(1 / ALPHA)


def test_no_number_of_launches_proves_what_the_estimate_denies() -> None:
    assert further_launches(np.array([0.6, 0.7, 0.5]), 0.5, ALPHA) is None
    assert further_launches(np.array([0.5] * 10), 0.5, ALPHA) is None


@pytest.mark.parametrize(
    ("count", "total"), [(0, 10), (1, 10), (3, 1000), (10, 10), (57, 200), (999, 1000), (40, 100_000)]
)
@pytest.mark.parametrize("alpha", [0.01, 0.005, 0.2])
def test_rate_bounds_are_those_of_clopper_and_pearson(count: int, total: int, alpha: float) -> None:
    low, high = rate_bounds(count, total, alpha)
    exact_low = stats.beta.ppf(alpha, count, total - count + 1) if count else 0.0
    exact_high = stats.beta.ppf(1 - alpha, count + 1, total - count) if count < total else 1.0
    assert low == pytest.approx(exact_low, rel=1e-6, abs=1e-12)
    assert high == pytest.approx(exact_high, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("count", "total", "rate"), [(0, 5, 0.1), (7, 50, 0.2), (200, 1000, 0.19), (4, 4, 0.9)]
)
def test_the_binomial_tail_is_that_of_scipy(count: int, total: int, rate: float) -> None:
    assert binomial_tail(count, total, rate) == pytest.approx(stats.binom.cdf(count, total, rate), rel=1e-9)
    assert binomial_tail(count, total, 0.0) == 1.0
    assert binomial_tail(count, total + 1, 1.0) == 0.0
