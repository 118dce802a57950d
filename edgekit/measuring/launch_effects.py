"""Deciding a percentile with few launches, by a random-effects model of launches. The last resort.

When a launch takes so long that the plan's seconds hold too few of them, no test without assumptions can
decide. The model: launches are independent, and the logarithm of a launch's quantile is normally
distributed over launches (each launch has an effect of its own, drawn at random). Let Q be a launch's
k-th smallest of r runs, and y another run of that launch. Runs being exchangeable within the launch,
P(y > Q) = s = 1 - k / (r + 1), so

    share over the limit L in a random launch = P(y > L) <= s + P(Q > L),

and PASS for a percentile that allows the share a follows from P(Q > L) <= a - s: L lies above the
one-sided normal tolerance bound of log Q with content 1 - (a - s). In the same way, with Q chosen low,
P(y > L) >= P(Q > L) - P(y <= Q), and FAIL follows from a lower tolerance bound. Tolerance factors are
exact for normal samples (noncentral t: Krishnamoorthy and Mathew, "Statistical Tolerance Regions", Wiley
2009, 2.2). The model is looked at once, when time is up, with half of the error; the other half is spent
by `betting` after every launch, so that together they err as seldom as stated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Fewer launches say nothing about how launches spread.
LEAST = 5
#: The spread is taken as no smaller: a few launches may agree by chance.
_LEAST_SPREAD = 0.01
_NORMAL = NormalDist()


def upper_bound(launches: Sequence[NDArray[Any]], allowed: float, alpha: float) -> float | None:
    """Under the model, the level that at most a share of `allowed` of runs exceed, proven at `alpha`.

    launches: the runs of each launch, positive; infinite where a reading must count as over.
    None with fewer than five launches, or too few runs to have such a quantile.
    """
    if len(launches) < LEAST:
        return None
    logs, contents = [], []
    for runs in launches:
        quantile, inside = _high_quantile(np.sort(runs), allowed)
        if quantile is None or not math.isfinite(quantile) or quantile <= 0:
            return None
        logs.append(math.log(quantile))
        contents.append(1.0 - (allowed - inside))
    return math.exp(_mean(logs) + tolerance_factor(len(logs), max(contents), alpha) * _spread(logs))


def lower_bound(launches: Sequence[NDArray[Any]], allowed: float, alpha: float) -> float | None:
    """Under the model, a level that more than a share of `allowed` of runs exceed, proven at `alpha`.

    launches: the runs of each launch; zero where a reading must count as under.
    """
    if len(launches) < LEAST:
        return None
    logs, contents = [], []
    for runs in launches:
        quantile, below = _low_quantile(np.sort(runs), allowed)
        if quantile <= 0 or not math.isfinite(quantile):
            return None
        logs.append(math.log(quantile))
        contents.append(allowed + below)
    return math.exp(_mean(logs) - tolerance_factor(len(logs), max(contents), alpha) * _spread(logs))


def _high_quantile(runs: NDArray[Any], allowed: float) -> tuple[float | None, float]:
    """An order statistic, and the share of the launch's own runs expected above it."""
    count = len(runs)
    if count == 1:
        return float(runs[0]), 0.0  # one figure for a launch: the figure is what is promised
    index = min(math.ceil((1.0 - allowed / 2.0) * (count + 1)), count)
    inside = 1.0 - index / (count + 1)
    return (float(runs[index - 1]), inside) if inside < allowed else (None, inside)


def _low_quantile(runs: NDArray[Any], allowed: float) -> tuple[float, float]:
    """An order statistic, and the share of the launch's own runs expected below it."""
    count = len(runs)
    if count == 1:
        return float(runs[0]), 0.0
    index = max(1, math.floor((1.0 - allowed) / 2.0 * (count + 1)))
    return float(runs[index - 1]), index / (count + 1)


def _mean(logs: Sequence[float]) -> float:
    return sum(logs) / len(logs)


def _spread(logs: Sequence[float]) -> float:
    mean = _mean(logs)
    return max(_LEAST_SPREAD, math.sqrt(sum((one - mean) ** 2 for one in logs) / (len(logs) - 1)))


@lru_cache(maxsize=256)
def tolerance_factor(count: int, content: float, alpha: float) -> float:
    """k such that mean + k * deviation of `count` normal values covers `content` of the distribution
    with probability 1 - `alpha`. Infinite when `content` is 1 or more."""
    if content >= 1.0:
        return math.inf
    shift = _NORMAL.inv_cdf(content) * math.sqrt(count)
    low, high = -50.0, 50.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        covered = _noncentral_t(middle * math.sqrt(count), count - 1, shift)
        low, high = (middle, high) if covered < 1.0 - alpha else (low, middle)
    return high


def _noncentral_t(value: float, freedom: int, shift: float) -> float:
    """P(T <= value): the normal integral averaged over the distribution of the deviation."""
    ratios, density = _deviations(freedom)
    return sum(
        weight * _NORMAL.cdf(value * ratio - shift) for ratio, weight in zip(ratios, density, strict=True)
    )


@lru_cache(maxsize=64)
def _deviations(freedom: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights of the distribution of deviation / true deviation (chi over sqrt(freedom))."""
    wide = 9.0 / math.sqrt(2.0 * freedom)
    nodes, weights = np.polynomial.legendre.leggauss(160)
    low, high = max(0.0, 1.0 - wide), 1.0 + wide
    at = low + (nodes + 1.0) / 2.0 * (high - low)
    with np.errstate(divide="ignore"):
        logs = (freedom - 1) * np.log(at) - freedom * at**2 / 2.0
    density = weights * np.exp(logs - logs.max())
    return tuple(at.tolist()), tuple((density / density.sum()).tolist())
