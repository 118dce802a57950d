"""Launches that resemble their neighbours count for less; independent ones count in full."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from edgekit.measuring.dependence import autocorrelations, exceedance_time, share_time
from edgekit.measuring.launch_effects import tolerance_factor


def ar(correlation: float, experiments: int, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    generator = np.random.default_rng(5)
    noise = generator.standard_normal((experiments, count))
    for index in range(1, count):
        noise[:, index] = correlation * noise[:, index - 1] + np.sqrt(1 - correlation**2) * noise[:, index]
    return noise


def test_independent_launches_mostly_count_in_full() -> None:
    series = ar(0.0, 500, 60)
    assert np.mean(share_time(series) == 1.0) > 0.7
    assert np.median(exceedance_time(series, 0.1, 1.28)) == 1.0


@pytest.mark.parametrize("correlation", [0.5, 0.8])
def test_the_time_of_an_autoregressive_series_is_found(correlation: float) -> None:
    truth = (1 + correlation) / (1 - correlation)
    assert np.median(share_time(ar(correlation, 200, 2000))) == pytest.approx(truth, rel=0.15)


@pytest.mark.parametrize("correlation", [0.3, 0.7])
@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_exceeding_a_level_is_less_dependent_than_the_medians_are(
    correlation: float, probability: float
) -> None:
    series = ar(correlation, 100, 2000)
    over = (series > stats.norm.isf(probability)).astype(float)
    seen = np.mean([float(np.corrcoef(row[1:], row[:-1])[0, 1]) for row in over])
    both = stats.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]]).cdf(
        [stats.norm.ppf(probability)] * 2
    )
    assert seen == pytest.approx((both - probability**2) / (probability * (1 - probability)), abs=0.02)
    level = float(stats.norm.isf(probability))
    assert 1.0 < np.median(exceedance_time(series, probability, level)) < np.median(share_time(series)) + 0.05


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_or_equal_launches_have_no_dependence(count: int) -> None:
    assert share_time(np.zeros(count)) == 1.0
    assert exceedance_time(np.arange(float(count)), 0.1, 3.0) == 1.0
    assert share_time(np.ones(60)) == 1.0
    assert not autocorrelations(np.ones(30)).any()


@pytest.mark.parametrize("count", [5, 10, 40, 200])
@pytest.mark.parametrize("content", [0.5, 0.9, 0.975, 0.2])
@pytest.mark.parametrize("alpha", [0.01, 0.005])
def test_tolerance_factors_are_those_of_the_noncentral_t(count: int, content: float, alpha: float) -> None:
    exact = stats.nct.ppf(1 - alpha, count - 1, stats.norm.ppf(content) * count**0.5) / count**0.5
    assert tolerance_factor(count, content, alpha) == pytest.approx(exact, rel=2e-4, abs=2e-4)


def test_equal_medians_are_no_trend() -> None:
    assert exceedance_time(np.full(60, 10.0), 0.1, 11.0) == 1.0
    two_values = np.random.default_rng(0).integers(0, 2, 200).astype(float)
    assert exceedance_time(two_values, 0.5, 0.5) < 1.5


def test_a_small_drift_says_little_about_a_limit_far_away() -> None:
    series = 2.0 + 0.05 * ar(0.8, 200, 120)
    near, far = (np.median(exceedance_time(series, 0.1, limit)) for limit in (2.06, 2.5))
    assert near > 3.0
    assert far < 1.1
