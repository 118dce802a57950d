"""How many successive launches count as one: the autocorrelation time of a series of launches.

Machines have spells: for some launches in a row a neighbour is busy, or a core is slow. The launches of
a spell tell the same thing again. With autocorrelations r1, r2, ... of a series its mean is as uncertain
as that of n / tau independent values, tau = 1 + 2 (r1 + r2 + ...); the sum is cut by the initial positive
sequence of Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7(4), 1992.

Two series are looked at, and the larger tau is taken:
* the shares of runs over the limit themselves;
* the launches' medians. They show dependence even while every launch is far under the limit. Their ranks
  are turned into normal scores, and what a correlation r of the scores means for exceeding a level that
  is exceeded with probability p is read from the bivariate normal (a Gaussian copula):
  (P(both over) - p^2) / (p (1 - p)); neighbours in the tail are less alike than medians are.

A series without a significant correlation (normal limit 1/sqrt(n), one-sided 10 %) counts as independent.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

_GATE = NormalDist().inv_cdf(0.9)
_FEWEST = 8
_GATED_LAGS = 4
_STEPS = 4096
_SCORES: Numbers = np.array([NormalDist().inv_cdf((step + 0.5) / _STEPS) for step in range(_STEPS)])
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


def share_time(shares: NDArray[Any]) -> Numbers:
    """tau of each series of shares (launches on the last axis), at least 1."""
    series = np.asarray(shares, np.float64)
    if series.shape[-1] < _FEWEST:
        return np.ones(series.shape[:-1])
    rho = autocorrelations(series)
    return np.where(_significant(rho, series.shape[-1]), _time(rho), 1.0)


def exceedance_time(medians: NDArray[Any], probability: float) -> Numbers:
    """tau of exceeding a level that is exceeded with `probability`, from the medians' dependence."""
    series = np.asarray(medians, np.float64)
    if series.shape[-1] < _FEWEST:
        return np.ones(series.shape[:-1])
    rho = autocorrelations(_normal_scores(series))
    return np.where(_significant(rho, series.shape[-1]), _time(_tail_correlation(rho, probability)), 1.0)


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


def _tail_correlation(rho: Numbers, probability: float) -> Numbers:
    """Correlation of "over the level" at two launches whose normal scores correlate by rho.

    d/dr P(both over) is the bivariate normal density at the level, integrated from 0 to rho.
    """
    level = NormalDist().inv_cdf(1.0 - probability)
    limit = np.clip(rho, -0.999, 0.999)[..., None]
    at = limit * (_NODES + 1.0) / 2.0
    density = np.exp(-(level**2) / (1.0 + at)) / (2.0 * np.pi * np.sqrt(1.0 - at**2))
    both = (density * _WEIGHTS).sum(axis=-1) * limit[..., 0] / 2.0
    result: Numbers = both / (probability * (1.0 - probability))
    return result
