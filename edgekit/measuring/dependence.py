"""How many successive launches count as one: the autocorrelation time of a series of launches.

Machines have spells: for some launches in a row a neighbour is busy, or a core is slow. The launches of
a spell tell the same thing again. With autocorrelations r1, r2, ... of a series its mean is as uncertain
as that of n / tau independent values, tau = 1 + 2 (r1 + r2 + ...); the sum is cut by the initial positive
sequence of Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7(4), 1992.

Two series are looked at, and the larger tau is taken:
* the shares of runs over the limit themselves;
* the launches' medians. They show dependence even while every launch is under the limit. Their ranks are
  turned into normal scores, and what a correlation r of the scores means for exceeding a level z is read
  from the bivariate normal (a Gaussian copula): (P(both over) - p^2) / (p (1 - p)), p = P(over z);
  neighbours in the tail are less alike than medians are. z is the level that the claim allows (1.28 for
  P90), or, where the limit lies far from all medians, their distance in deviations less `_DOUBT`: a drift
  of 3 % says nothing about a limit that is 25 % away.

A series without a significant correlation (normal limit 1/sqrt(n), one-sided 10 %) counts as independent.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

_NORMAL = NormalDist()
_GATE = _NORMAL.inv_cdf(0.9)
#: Deviations by which the distance of a limit may be misjudged from few dependent launches.
_DOUBT = 1.5
_FARTHEST = 8.0
_FEWEST = 8
_GATED_LAGS = 4
_STEPS = 4096
_SCORES: Numbers = np.array([_NORMAL.inv_cdf((step + 0.5) / _STEPS) for step in range(_STEPS)])
_PER_DEVIATION = 200
_SURVIVAL: Numbers = np.array([_NORMAL.cdf(-step / _PER_DEVIATION) for step in range(8 * _PER_DEVIATION)])
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


def share_time(shares: NDArray[Any]) -> Numbers:
    """tau of each series of shares (launches on the last axis), at least 1."""
    series = np.asarray(shares, np.float64)
    if series.shape[-1] < _FEWEST:
        return np.ones(series.shape[:-1])
    rho = autocorrelations(series)
    return np.where(_significant(rho, series.shape[-1]), _time(rho), 1.0)


def exceedance_time(medians: NDArray[Any], probability: float, limit: float) -> Numbers:
    """tau of exceeding `limit`, from the medians' dependence.

    probability: with which the claim allows that, or its complement: the smaller one.
    """
    series = np.asarray(medians, np.float64)
    if series.shape[-1] < _FEWEST:
        return np.ones(series.shape[:-1])
    rho = autocorrelations(_normal_scores(series))
    level = np.maximum(_NORMAL.inv_cdf(1.0 - probability), _distance(series, limit) - _DOUBT)
    return np.where(_significant(rho, series.shape[-1]), _time(_tail_correlation(rho, level)), 1.0)


def _distance(series: Numbers, limit: float) -> Numbers:
    """Deviations between the medians' mean and the limit, at most `_FARTHEST`."""
    deviation = np.maximum(series.std(axis=-1, ddof=1), 1e-12)
    distance: Numbers = np.minimum(np.abs(limit - series.mean(axis=-1)) / deviation, _FARTHEST)
    return distance


def autocorrelations(series: Numbers) -> Numbers:
    """Correlations at lags 1 to a third of the length, on the last axis; zeros for a constant series."""
    count = series.shape[-1]
    from_mean = series - series.mean(axis=-1, keepdims=True)
    variance = (from_mean**2).sum(axis=-1)
    known = variance > 1e-12
    lags = range(1, max(2, count // 3) + 1)
    sums = [(from_mean[..., lag:] * from_mean[..., : count - lag]).sum(axis=-1) for lag in lags]
    rho: Numbers = np.stack(sums, axis=-1) * known[..., None] / np.where(known, variance, 1.0)[..., None]
    return rho


def _significant(rho: Numbers, count: int) -> NDArray[np.bool_]:
    first = rho[..., 0] > _GATE / np.sqrt(count)
    several = rho[..., :_GATED_LAGS].sum(axis=-1) > _GATE * np.sqrt(_GATED_LAGS / count)
    return np.asarray(first | several)


def _time(rho: Numbers) -> Numbers:
    even = rho.shape[-1] // 2 * 2
    pairs = rho[..., 0:even:2] + rho[..., 1:even:2]
    positive = np.cumprod(pairs > 0, axis=-1)
    tau: Numbers = np.maximum(1.0, 1.0 + 2.0 * (pairs * positive).sum(axis=-1))
    return tau


def _normal_scores(series: Numbers) -> Numbers:
    """Equal values get their mean rank: ranked by order alone they would look like a trend."""
    ranks = (_ranks(series) + _ranks(series[..., ::-1])[..., ::-1]) / 2.0
    scores: Numbers = _SCORES[((ranks + 0.5) / series.shape[-1] * _STEPS).astype(np.int64)]
    return scores


def _ranks(series: Numbers) -> NDArray[np.int64]:
    return series.argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable")


def _tail_correlation(rho: Numbers, level: Numbers) -> Numbers:
    """Correlation of "over the level" at two launches whose normal scores correlate by rho.

    d/dr P(both over) is the bivariate normal density at the level, integrated from 0 to rho.
    rho: (..., lags); level: (...).
    """
    limit = np.clip(rho, -0.999, 0.999)[..., None]
    at = limit * (_NODES + 1.0) / 2.0
    density = np.exp(-(level[..., None, None] ** 2) / (1.0 + at)) / (2.0 * np.pi * np.sqrt(1.0 - at**2))
    both = (density * _WEIGHTS).sum(axis=-1) * limit[..., 0] / 2.0
    over = _SURVIVAL[np.minimum(level * _PER_DEVIATION, len(_SURVIVAL) - 1).astype(np.int64)]
    result: Numbers = both / (over * (1.0 - over))[..., None]
    return result
