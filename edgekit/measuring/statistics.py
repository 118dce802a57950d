"""Runs grouped by launch, put to a limit; and exact bounds on a rate from counts.

The launch is the sampling unit. X in [0, 1] is the share of a launch's runs over the limit, and the claim
is about its mean over launches: "p90 <= limit" means E[X] <= 0.1. PASS rejects "E[X] >= 0.1", FAIL rejects
"E[X] <= 0.1" by the mirrored test. `betting` holds the test, `dependence` how many launches in a row count
as one, `launch_effects` the model that is asked when time is too short for enough launches.

**A rate from counts.** Clopper and Pearson, "The use of confidence or fiducial limits illustrated in
the case of the binomial", Biometrika 26(4), 1934: exact at every sample size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.measuring import launch_effects
from edgekit.measuring.betting import further_launches, proves_below
from edgekit.measuring.dependence import exceedance_time, share_time

Numbers = NDArray[np.float64]

#: Values looked at above a proven bound, to see that each of them is proven too.
_CHAIN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a claim is proven. alpha: its error, one-sided; least: launches below which nothing is proven;
    model: whether the random-effects model decides what betting leaves open, the error shared by both."""

    alpha: float
    least: int = 1
    model: bool = False

    @property
    def betting(self) -> float:
        """The error that betting may spend."""
        return self.alpha / 2.0 if self.model else self.alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitTest:
    """A limit put to both tests. over, under: mean share of runs over the limit, with disturbed runs
    counted as over and as under. further: launches still needed at the rate seen, towards the side
    that the launches point to; None when no number would do. by_model: the random-effects model
    decided. tau: how many launches in a row count as one."""

    passed: bool
    failed: bool
    over: float
    under: float
    further: int | None
    towards_pass: bool
    by_model: bool = False
    tau: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """One-sided bounds on a percentile; None when unbounded. Which of them the model gave."""

    low: float | None
    high: float | None
    low_by_model: bool = False
    high_by_model: bool = False


class Launches:
    """Runs grouped by launch, in the order made. Launches without runs are left out."""

    def __init__(
        self, values: Sequence[NDArray[Any]], disturbed: Sequence[NDArray[Any]] | None = None
    ) -> None:
        marks = [np.zeros(len(row), dtype=bool) for row in values] if disturbed is None else list(disturbed)
        self._rows = [
            (np.asarray(v, np.float64), np.asarray(d, bool))
            for v, d in zip(values, marks, strict=True)
            if len(v)
        ]
        self.count = len(self._rows)
        self._sizes = np.array([len(v) for v, _ in self._rows], dtype=np.int64)
        self._starts = np.concatenate(([0], np.cumsum(self._sizes)[:-1])).astype(np.int64)
        self._values = np.concatenate([v for v, _ in self._rows]) if self._rows else np.zeros(0)
        self._disturbed = np.concatenate([d for _, d in self._rows]) if self._rows else np.zeros(0, bool)
        self._distinct = np.unique(self._values)
        self._medians = np.array([float(np.median(v)) for v, _ in self._rows])

    def over(self, limit: float) -> Numbers:
        """Per launch, the share of runs over `limit`; a disturbed run counts as over."""
        return self._shares((self._values > limit) | self._disturbed)

    def under(self, limit: float) -> Numbers:
        """Per launch, the share of runs over `limit`; a disturbed run counts as under."""
        return self._shares((self._values > limit) & ~self._disturbed)

    def tau(self, limit: float, percentile: float) -> float:
        """How many launches in a row count as one when it is asked what exceeds `limit`.

        From the readings as they are: marking runs as disturbed must not make launches look independent.
        """
        if not self.count:
            return 1.0
        rarer = min(percentile, 1.0 - percentile)
        alike = share_time(self._shares(self._values > limit))
        return max(float(alike), float(exceedance_time(self._medians, rarer, limit)))

    def test(self, limit: float, percentile: float, rules: Rules) -> LimitTest:
        """Put "the percentile is at most `limit`" to both tests. They agree with `bounds`."""
        allowed = 1.0 - percentile
        bounds = self.bounds(percentile, rules)
        passed = bounds.high is not None and bounds.high <= limit
        failed = bounds.low is not None and bounds.low > limit
        over, under, tau = self.over(limit), self.under(limit), self.tau(limit, percentile)
        mean_over, mean_under = (float(np.mean(x)) if self.count else 0.0 for x in (over, under))
        towards_pass = mean_over < allowed
        further: int | None = None
        if towards_pass:
            further = further_launches(over, allowed, rules.betting, tau)
        elif mean_under > allowed:
            further = further_launches(1.0 - under, percentile, rules.betting, tau)
        if further is not None:
            further = max(further, rules.least - self.count)
        return LimitTest(
            passed=passed,
            failed=failed,
            over=mean_over,
            under=mean_under,
            further=further,
            towards_pass=towards_pass,
            by_model=(passed and bounds.high_by_model) or (failed and bounds.low_by_model),
            tau=tau,
        )

    def estimate(self, percentile: float) -> float | None:
        """The percentile of all runs as they were read, every launch weighing the same."""
        if not self.count:
            return None
        order = np.argsort(self._values, kind="stable")
        weights = np.repeat(1.0 / (self.count * self._sizes), self._sizes)[order]
        index = int(np.searchsorted(np.cumsum(weights), percentile - 1e-9))
        return float(self._values[order][min(index, len(order) - 1)])

    def bounds(self, percentile: float, rules: Rules) -> Bounds:
        """One-sided lower and upper bound on the percentile, each at error `rules.alpha`.

        The inversion of the tests: PASS is proven at the limits >= high, FAIL at those < low.
        """
        low = high = None
        if self.count >= rules.least:
            low, high = self._lower(percentile, rules.betting), self._upper(percentile, rules.betting)
        if not rules.model:
            return Bounds(low=low, high=high)
        by_model = self._model_bounds(1.0 - percentile, rules.alpha / 2.0)
        best_low = max((b for b in (low, by_model[0]) if b is not None), default=None)
        best_high = min((b for b in (high, by_model[1]) if b is not None), default=None)
        return Bounds(
            low=best_low,
            high=best_high,
            low_by_model=best_low is not None and best_low != low,
            high_by_model=best_high is not None and best_high != high,
        )

    def _model_bounds(self, allowed: float, alpha: float) -> tuple[float | None, float | None]:
        """Under the model. More-is-better figures are held negated; it takes their size the other way."""
        negated = bool(self.count) and float(self._values.max()) < 0.0
        if negated:
            low, high = self._model_sides(allowed, alpha, -1.0)
            return (None if high is None else -high), (None if low is None else -low)
        return self._model_sides(allowed, alpha, 1.0)

    def _model_sides(self, allowed: float, alpha: float, sign: float) -> tuple[float | None, float | None]:
        as_over = [np.where(marks, math.inf, sign * values) for values, marks in self._rows]
        as_under = [np.where(marks, 0.0, sign * values) for values, marks in self._rows]
        if sign < 0:  # one figure for a launch, its median promised: the same share on either side
            allowed = 1.0 - allowed
        return (
            launch_effects.lower_bound(as_under, allowed, alpha),
            launch_effects.upper_bound(as_over, allowed, alpha),
        )

    def _upper(self, percentile: float, alpha: float) -> float | None:
        def proven(index: int) -> bool:
            limit = self._distinct[index]
            return proves_below(self.over(limit), 1.0 - percentile, alpha, self.tau(limit, percentile))

        index = _first(proven, len(self._distinct))
        index = None if index is None else _chained(proven, index, len(self._distinct))
        return None if index is None else float(self._distinct[index])

    def _lower(self, percentile: float, alpha: float) -> float | None:
        """Limits in [v[i-1], v[i]) are told apart by i; below the first value is i = 0."""

        def proven(index: int) -> bool:
            limit = self._distinct[index - 1] if index else -math.inf
            return proves_below(1.0 - self.under(limit), percentile, alpha, self.tau(limit, percentile))

        count = len(self._distinct) + 1
        back = _first(lambda index: proven(count - 1 - index), count)
        back = None if back is None else _chained(lambda index: proven(count - 1 - index), back, count)
        return None if back is None or back == 0 else float(self._distinct[count - 1 - back])

    def _shares(self, counted: NDArray[np.bool_]) -> Numbers:
        if not self.count:
            return np.zeros(0)
        shares: Numbers = np.add.reduceat(counted, self._starts, dtype=np.int64) / self._sizes
        return shares


def _first(holds: Callable[[int], bool], count: int) -> int | None:
    """The first index in range(count) from which on a property holds, if it is one that stays true."""
    if count == 0 or not holds(count - 1):
        return None
    low, high = -1, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _chained(holds: Callable[[int], bool], index: int, count: int) -> int:
    """The least index >= `index` from which on the property holds at all of `_CHAIN` places.

    With an estimated dependence a proof at one limit does not imply a proof at a looser one; only what
    is proven at the looser ones too is claimed.
    """
    places = sorted({int(place) for place in np.linspace(index, count - 1, _CHAIN)}, reverse=True)
    good = count - 1
    for place in places:
        if not holds(place):
            return good
        good = place
    return good


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
