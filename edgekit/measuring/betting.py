"""Proving that the mean of a bounded quantity is below a value, by betting against the contrary.

A player bets against the hypothesis E[X] >= m, X in [0, 1] (Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", JRSS-B 86(1), 2024). Staking the fraction c of what can be staked,
the capital after launches with shares x1, x2, ... is

    K_c = prod_l (1 + c (m - x_l) / (1 - m)),   0 <= c <= 1

whose expectation never grows while the hypothesis is true. So does that of the fixed mixture
K = sum_c w_c K_c (`STAKES`), and by Ville's inequality P(K ever reaches 1/alpha) <= alpha: looking after
every launch does not cheat. Nothing is assumed about how runs within a launch depend on each other, nor
about the shape of X; launches must be exchangeable.

Why a fixed mixture and not stakes learnt on the way: K then falls whenever any x grows, so counting runs
as over the limit is safe whatever made us doubt them, and the order of launches does not matter.
At 99 % clean launches prove P50, P90, P99 after 7, 46, 480 (no test can do it before 7, 44, 459).

Launches that resemble their neighbours are worth fewer than their number. `tau` (from `dependence`) is
how many of them count as one: every log K_c is divided by it, as if n / tau launches had been seen.
That the verdicts keep their error with an estimated tau is shown by simulation, not by theorem
(tests/benchmarks/verdict_simulation.md).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

#: (c, weight): most on the boldest stake, which is best when launches are clean; the others keep the
#: capital alive when some launch is wholly over the limit.
STAKES: tuple[tuple[float, float], ...] = (
    (1.0, 0.70),
    (0.88, 0.15),
    (0.70, 0.07),
    (0.50, 0.04),
    (0.25, 0.02),
    (0.08, 0.02),
)
_LOG_WEIGHTS: Numbers = np.log([weight for _, weight in STAKES])
_MANY = 10_000_000


def log_stakes(shares: NDArray[Any], mean: float) -> Numbers:
    """Log K_c after each launch; shape (stakes, *shares.shape), launches on the last axis."""
    with np.errstate(divide="ignore"):
        logs: Numbers = np.cumsum(np.log(_factors(np.asarray(shares, np.float64), mean)), axis=-1)
    return logs


def log_mixture(logs: Numbers, tau: NDArray[Any] | float = 1.0) -> Numbers:
    """Log of the mixture of stakes (first axis of `logs`), `tau` launches counting as one."""
    weights = _LOG_WEIGHTS.reshape(-1, *([1] * (logs.ndim - 1)))
    result: Numbers = np.logaddexp.reduce(logs / np.asarray(tau, np.float64) + weights, axis=0)
    return result


def _factors(shares: Numbers, mean: float) -> Numbers:
    stakes = np.array([stake for stake, _ in STAKES]).reshape(-1, *([1] * shares.ndim))
    factors: Numbers = 1.0 + stakes * ((mean - shares) / (1.0 - mean))
    # The boldest stake loses everything at a share of 1; rounding must not make that negative.
    return np.where(factors < 1e-12, 0.0, factors)


def proves_below(shares: NDArray[Any], mean: float, alpha: float, tau: float = 1.0) -> bool:
    """Whether all launches together prove E[X] < `mean`, at error `alpha`.

    The capital at the end decides, not its highest point on the way: both are valid, but launches that
    came later must be able to take back what a lucky start has shown.
    """
    if not len(shares):
        return False
    return bool(log_mixture(log_stakes(shares, mean)[:, -1], tau) >= -math.log(alpha))


def further_launches(shares: NDArray[Any], mean: float, alpha: float, tau: float = 1.0) -> int | None:
    """How many more launches like those seen would prove E[X] < `mean`; None when no number would."""
    seen = np.asarray(shares, dtype=np.float64)
    with np.errstate(divide="ignore"):
        rate = np.log(_factors(seen if len(seen) else np.zeros(1), mean)).mean(axis=-1) / tau

    def enough(launches: int) -> bool:
        return bool(np.logaddexp.reduce(_LOG_WEIGHTS + launches * rate) >= -math.log(alpha))

    if float(np.max(rate)) <= 0.0 or not enough(_MANY):
        return None
    low, high = len(seen), _MANY
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return max(1, high - len(seen))
