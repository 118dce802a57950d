"""The tests and bounds behind every verdict; no edgekit words in here, only numbers.

**A percentile against a limit.** The launch is the sampling unit. X in [0, 1] is the share of a
launch's runs over the limit, and the claim is about its mean over launches: "p90 <= limit" means
E[X] <= 0.1. PASS rejects "E[X] >= 0.1", FAIL rejects "E[X] <= 0.1" by the mirrored test.

The test bets against the hypothesis E[X] >= m (Waudby-Smith and Ramdas, "Estimating means of bounded
random variables by betting", JRSS-B 86(1), 2024). A player who stakes the fraction c of what can be
staked has, after launches with shares x1, x2, ..., the capital

    K_c = prod_l (1 + c (m - x_l) / (1 - m)),   0 <= c <= 1

whose expectation never grows while the hypothesis is true. So does that of the fixed mixture
K = sum_c w_c K_c (`STAKES`), and by Ville's inequality P(K ever reaches 1/alpha) <= alpha: looking
after every launch does not cheat. Nothing is assumed about how runs within a launch depend on each
other, nor about the shape of X; launches must be exchangeable (one launch tells nothing about the next).

Why a fixed mixture and not stakes learnt on the way: K then falls whenever any x grows. Hence a reading
that is made worse can never help a PASS, so counting runs as over the limit is safe whatever made us
doubt them, even with hindsight; bounds on the percentile are exact inversions; the order of launches
does not matter. It was also decided sooner in trials (tests/benchmarks/verdict_simulation.md).
At 99 % clean launches prove P50, P90, P99 after 7, 45, 471 (no test can do it before 7, 44, 459).

**A rate from counts.** Clopper and Pearson, "The use of confidence or fiducial limits illustrated in
the case of the binomial", Biometrika 26(4), 1934: exact at every sample size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

#: (c, weight): nearly everything on the boldest stake, which is best when launches are clean; the
#: others keep the capital alive when some launch is wholly over the limit.
STAKES: tuple[tuple[float, float], ...] = (
    (1.0, 0.85),
    (0.95, 0.025),
    (0.8, 0.025),
    (0.6, 0.025),
    (0.4, 0.025),
    (0.2, 0.025),
    (0.08, 0.025),
)
_MANY = 10_000_000


def log_capital(shares: NDArray[Any], mean: float) -> Numbers:
    """Log of the capital after each launch (last axis), betting that E[X] is below `mean`."""
    with np.errstate(divide="ignore"):
        growth = np.cumsum(np.log(_factors(np.asarray(shares, dtype=np.float64), mean)), axis=-1)
    weights = np.log([weight for _, weight in STAKES]).reshape(-1, *([1] * (growth.ndim - 1)))
    result: Numbers = np.logaddexp.reduce(growth + weights, axis=0)
    return result


def _factors(shares: Numbers, mean: float) -> Numbers:
    stakes = np.array([stake for stake, _ in STAKES]).reshape(-1, *([1] * shares.ndim))
    factors: Numbers = 1.0 + stakes * ((mean - shares) / (1.0 - mean))
    # The boldest stake loses everything at a share of 1; rounding must not make that negative.
    return np.where(factors < 1e-12, 0.0, factors)


def proves_below(shares: NDArray[Any], mean: float, alpha: float) -> bool:
    """Whether all launches together prove E[X] < `mean`, at error `alpha`.

    The capital at the end decides, not its highest point on the way: both are valid, but launches that
    came later must be able to take back what a lucky start has shown.
    """
    return len(shares) > 0 and bool(log_capital(shares, mean)[-1] >= -math.log(alpha))


def further_launches(shares: NDArray[Any], mean: float, alpha: float) -> int | None:
    """How many more launches like those seen would prove E[X] < `mean`; None when no number would."""
    seen = np.asarray(shares, dtype=np.float64)
    with np.errstate(divide="ignore"):
        rate = np.log(_factors(seen if len(seen) else np.zeros(1), mean)).mean(axis=-1)
    weights = np.log([weight for _, weight in STAKES])

    def enough(launches: int) -> bool:
        return bool(np.logaddexp.reduce(weights + launches * rate) >= -math.log(alpha))

    if float(np.max(rate)) <= 0.0 or not enough(_MANY):
        return None
    low, high = len(seen), _MANY
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return max(1, high - len(seen))


@dataclass(frozen=True, slots=True)
class LimitTest:
    """A limit put to both tests. over, under: mean share of runs over the limit, with disturbed runs
    counted as over and as under. further: launches still needed at the rate seen, towards the side
    that the launches point to; None when no number would do."""

    passed: bool
    failed: bool
    over: float
    under: float
    further: int | None
    towards_pass: bool


class Launches:
    """Runs grouped by launch. Launches without runs are left out."""

    def __init__(
        self, values: Sequence[NDArray[Any]], disturbed: Sequence[NDArray[Any]] | None = None
    ) -> None:
        marks = [np.zeros(len(row), dtype=bool) for row in values] if disturbed is None else list(disturbed)
        kept = [
            (np.asarray(v, np.float64), np.asarray(d, bool))
            for v, d in zip(values, marks, strict=True)
            if len(v)
        ]
        self.count = len(kept)
        self._sizes = np.array([len(v) for v, _ in kept], dtype=np.int64)
        self._starts = np.concatenate(([0], np.cumsum(self._sizes)[:-1])).astype(np.int64)
        self._values = np.concatenate([v for v, _ in kept]) if kept else np.zeros(0)
        self._disturbed = np.concatenate([d for _, d in kept]) if kept else np.zeros(0, bool)
        self._trusted = np.unique(self._values[~self._disturbed])

    def over(self, limit: float) -> Numbers:
        """Per launch, the share of runs over `limit`; a disturbed run counts as over."""
        return self._shares((self._values > limit) | self._disturbed)

    def under(self, limit: float) -> Numbers:
        """Per launch, the share of runs over `limit`; a disturbed run counts as under."""
        return self._shares((self._values > limit) & ~self._disturbed)

    def test(self, limit: float, percentile: float, alpha: float) -> LimitTest:
        """Put "the percentile is at most `limit`" to both tests."""
        allowed = 1.0 - percentile
        over, under = self.over(limit), self.under(limit)
        passed = proves_below(over, allowed, alpha)
        failed = proves_below(1.0 - under, percentile, alpha)
        mean_over, mean_under = (float(np.mean(x)) if self.count else 0.0 for x in (over, under))
        towards_pass = mean_over < allowed
        further: int | None = None
        if towards_pass:
            further = further_launches(over, allowed, alpha)
        elif mean_under > allowed:
            further = further_launches(1.0 - under, percentile, alpha)
        return LimitTest(passed, failed, mean_over, mean_under, further, towards_pass)

    def estimate(self, percentile: float) -> float | None:
        """The percentile of all runs as they were read, every launch weighing the same."""
        if not self.count:
            return None
        order = np.argsort(self._values, kind="stable")
        weights = np.repeat(1.0 / (self.count * self._sizes), self._sizes)[order]
        index = int(np.searchsorted(np.cumsum(weights), percentile - 1e-9))
        return float(self._values[order][min(index, len(order) - 1)])

    def bounds(self, percentile: float, alpha: float) -> tuple[float | None, float | None]:
        """One-sided lower and upper bound on the percentile, each at error `alpha`.

        The exact inversion of `test`: it passes at the limits >= upper, and fails at those < lower.
        """
        return self._lower(percentile, alpha), self._upper(percentile, alpha)

    def _upper(self, percentile: float, alpha: float) -> float | None:
        def proven(index: int) -> bool:
            return proves_below(self.over(self._trusted[index]), 1.0 - percentile, alpha)

        index = _first(proven, len(self._trusted))
        return None if index is None else float(self._trusted[index])

    def _lower(self, percentile: float, alpha: float) -> float | None:
        def unproven(index: int) -> bool:
            limit = self._trusted[index - 1] if index else -math.inf
            return not proves_below(1.0 - self.under(limit), percentile, alpha)

        index = _first(unproven, len(self._trusted) + 1)  # limits in [t[i-1], t[i]) are told apart by i
        return float(self._trusted[index - 1]) if index else None

    def _shares(self, counted: NDArray[np.bool_]) -> Numbers:
        if not self.count:
            return np.zeros(0)
        shares: Numbers = np.add.reduceat(counted, self._starts, dtype=np.int64) / self._sizes
        return shares


def _first(holds: Any, count: int) -> int | None:
    """The first index in range(count) at which a property that stays true from there on holds."""
    if count == 0 or not holds(count - 1):
        return None
    low, high = -1, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def rate_bounds(count: int, total: int, alpha: float) -> tuple[float, float]:
    """Clopper-Pearson: lower and upper bound of a rate of which `count` of `total` were seen.

    Each holds with probability at least 1 - alpha (one-sided).
    """
    low = 0.0 if count == 0 else _solve(count - 1, total, 1.0 - alpha)
    high = 1.0 if count == total else _solve(count, total, alpha)
    return low, high


def _solve(count: int, total: int, probability: float) -> float:
    """The rate at which P(Binomial(total, rate) <= count) is `probability`; the tail falls with the rate."""
    low, high = 0.0, 1.0
    while high - low > 1e-13 * max(high, 1e-9) and (low + high) / 2 not in (low, high):
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_tail(count, total, middle) > probability else (low, middle)
    return (low + high) / 2


def binomial_tail(count: int, total: int, rate: float) -> float:
    """P(Binomial(total, rate) <= count)."""
    if rate <= 0.0 or count >= total:
        return 1.0
    if rate >= 1.0:
        return 0.0
    seen = np.arange(count + 1)
    logs = _log_choose(count, total) + seen * math.log(rate) + (total - seen) * math.log1p(-rate)
    return min(1.0, float(np.exp(logs).sum()))


@lru_cache(maxsize=4)
def _log_choose(count: int, total: int) -> Numbers:
    """log C(total, k) for k = 0 ... count."""
    steps = np.arange(1, count + 1)
    return np.concatenate(([0.0], np.cumsum(np.log((total - steps + 1) / steps))))
