"""Bounds on a difference of paired proportions, exact at every sample size.

Of n rows X were lost and Y gained: a trinomial with rates p (lost) and p - d (gained), where d is the drop.
The hypothesis "d >= d0" is put to the test by Tango's score statistic ("Equivalence test and confidence
interval for the difference in proportions for the paired-sample design", Statistics in Medicine 17, 1998),

    T(x, y) = (x - y - n d0) / sqrt(n (2 q + d0 (1 - d0))),   q: the likeliest gained rate under d = d0.

Its distribution is not approximated but summed over the trinomial, at the worst value of the nuisance
parameter p (Sidik, "Exact unconditional tests for testing non-inferiority in matched-pairs design",
Statistics in Medicine 22, 2003), which is sought in a confidence set only (Berger and Boos, "P values
maximized over a confidence set for the nuisance parameter", JASA 89, 1994):

    P = gamma + max over p in [d0, u] of Pr(T(X, Y) <= T(x, y)),   u: Clopper-Pearson bound of p at gamma.

T rises with x and falls with y (Barnard's criterion), so the worst d of "d >= d0" is d0 itself, and since u
rises with x and does not hang on y, one more lost row never lowers P and one more gained row never raises
it. The bound on the drop is the inversion of the test. By symmetry the lower bound is the upper one with
lost and gained exchanged.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.measuring.statistics import Numbers, rate_bounds

Counts = NDArray[np.int64]
#: gamma as a part of alpha: Berger and Boos advise a small one.
_PART = 0.01
#: Terms of the sums further than this from the mean (in standard deviations) weigh less than 1e-15.
_REACH = 9.0
#: Bounds are found to this part of one row.
_STEPS = 1024
_TIE = 1e-9


def score(lost: NDArray[Any] | int, gained: NDArray[Any] | int, rows: int, drop: float) -> Numbers:
    """Tango's statistic for each pair of counts; `drop` in (-1, 1) is the difference of rates tested."""
    if drop < 0:
        return -score(gained, lost, rows, -drop)
    x, y = np.asarray(lost, np.float64), np.asarray(gained, np.float64)
    b = (2 * rows - x + y) * drop - x - y
    product = y * drop * (1.0 - drop)  # -C of the quadratic 2n q^2 + b q + C = 0
    root = np.sqrt(b * b + 8.0 * rows * product)
    with np.errstate(divide="ignore", invalid="ignore"):  # the form without cancellation is picked
        gained_rate = np.where(b > 0, 2.0 * product / (root + b), (root - b) / (4.0 * rows))
    variance = rows * (2.0 * gained_rate + drop * (1.0 - drop))
    found: Numbers = (x - y - rows * drop) / np.sqrt(np.where(variance > 0, variance, 1.0))
    return found


def p_value(lost: int, gained: int, rows: int, drop: float, alpha: float) -> float:
    """Evidence against "the drop is `drop` or more": P at most `alpha` proves a smaller one at that error."""
    gamma = _PART * alpha
    lowest = max(drop, 0.0)
    highest = min(rate_bounds(lost, rows, gamma)[1], (1.0 + drop) / 2.0)
    if lowest >= highest or drop >= 1.0:
        return gamma
    tails = _Tails(rows, drop, (max(2.0 * lowest - drop, 1e-3 / rows), min(2.0 * highest - drop, 1.0)))
    tails.order(float(score(lost, gained, rows, drop)))
    return gamma + tails.worst()


def drop_upper(lost: int, gained: int, rows: int, alpha: float) -> float:
    """The drop (a difference of rates) that is not exceeded, at error `alpha`."""
    grid = rows * _STEPS
    low = (lost - gained) * _STEPS  # never proven: half of the samples lie beyond their mean

    def proven(place: int) -> bool:
        return place >= grid or p_value(lost, gained, rows, place / grid, alpha) <= alpha

    step = 4 * _STEPS
    while not proven(low + step):
        low, step = low + step, 2 * step
    high = min(low + step, grid)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proven(middle) else (middle, high)
    return high / grid


class _Tails:
    """Pr(T(X, Y) <= t) at one drop, as a function of the rate s = lost + gained of discordant rows.

    Given K = X + Y discordant rows, X is binomial with rate (1 + d/s)/2, and T <= t means X <= c(K).
    By Barnard's criterion c rises by 0 or 1 from each K to the next, so the binomial tails of all K
    follow from one another by one addition each.
    """

    def __init__(self, rows: int, drop: float, discordant: tuple[float, float]) -> None:
        self.rows, self.drop = rows, drop
        self.lowest, self.highest = discordant
        self.first, self.last = self._window(self.lowest)[0], self._window(self.highest)[1]
        self.log_choose = _log_choose(self.last, rows)
        self.log_factorial = _log_factorial(1 << max(10, self.last.bit_length()))
        self.most: Counts = np.zeros(0, np.int64)

    def _window(self, rate: float) -> tuple[int, int]:
        mean = self.rows * rate
        reach = _REACH * math.sqrt(mean * (1.0 - rate) + 1.0) + _REACH
        return max(0, int(mean - reach)), min(self.rows, int(mean + reach) + 1)

    def order(self, statistic: float) -> None:
        """Find c(K), -1 where there is none, for every K that matters."""
        discordant = np.arange(self.first, self.last + 1)
        low, high = np.full(len(discordant), -1), discordant + 1
        while np.any(high - low > 1):
            middle = (low + high) // 2
            taken = np.maximum(middle, 0)
            below = score(taken, discordant - taken, self.rows, self.drop) <= statistic + _TIE
            apart = high - low > 1
            low, high = np.where(apart & below, middle, low), np.where(apart & ~below, middle, high)
        self.most = low

    def worst(self) -> float:
        """The largest tail over the rates: on a grid, then again around the best of it."""
        grid = self._grid()
        found = [self.at(rate) for rate in grid]
        best = int(np.argmax(found))
        around = np.linspace(grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)], 17)
        return max(found[best], *(self.at(float(rate)) for rate in around))

    def _grid(self) -> list[float]:
        """Steps of a third of the standard deviation, or a twentieth of the rate where that is wider."""
        grid = [self.lowest]
        while grid[-1] < self.highest:
            rate = grid[-1]
            deviation = math.sqrt(rate * max(1.0 - rate, 1.0 / self.rows) / self.rows)
            grid.append(min(self.highest, rate + max(deviation / 3.0, min(rate, 1.0 - rate) / 20.0)))
        return grid

    def at(self, rate: float) -> float:
        """The tail when a row is discordant with probability `rate`."""
        start, stop = self._window(rate)
        start, stop = max(start, self.first), min(stop, self.last)
        discordant = np.arange(start, stop + 1)
        most = self.most[start - self.first : stop + 1 - self.first]
        if rate >= 1.0:
            weights = (discordant == self.rows).astype(np.float64)
        else:
            logs = discordant * math.log(rate) + (self.rows - discordant) * math.log1p(-rate)
            weights = np.exp(self.log_choose[start : stop + 1] + logs)
        return float(
            weights @ self._given(discordant, most, min(1.0, max(0.0, (1.0 + self.drop / rate) / 2)))
        )

    def _given(self, discordant: Counts, most: Counts, rate: float) -> Numbers:
        """Pr(X <= most | K) for successive K, X binomial with `rate`."""
        if rate >= 1.0:
            return (most >= discordant).astype(np.float64)
        if rate <= 0.0:
            return (most >= 0).astype(np.float64)
        known = max(int(most[0]), -1) + 1
        first = float(self._terms(np.arange(known), np.full(known, discordant[0]), rate).sum())
        lost = rate * self._terms(most[:-1], discordant[:-1], rate)
        won = np.where(most[1:] > most[:-1], self._terms(most[1:], discordant[1:], rate), 0.0)
        return first + np.concatenate(([0.0], np.cumsum(won - lost)))

    def _terms(self, seen: Counts, total: Counts, rate: float) -> Numbers:
        """Pr(Binomial(total, rate) = seen), 0 for `seen` outside 0 ... total."""
        inside = (seen >= 0) & (seen <= total)
        taken = np.where(inside, seen, 0)
        table = self.log_factorial
        logs = table[total] - table[taken] - table[total - taken]
        logs = logs + taken * math.log(rate) + (total - taken) * math.log1p(-rate)
        return np.where(inside, np.exp(logs), 0.0)


@lru_cache(maxsize=4)
def _log_factorial(count: int) -> Numbers:
    """log k! for k = 0 ... count."""
    return np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, count + 1)))))


@lru_cache(maxsize=4)
def _log_choose(count: int, total: int) -> Numbers:
    """log C(total, k) for k = 0 ... count."""
    steps = np.arange(1, count + 1)
    return np.concatenate(([0.0], np.cumsum(np.log((total - steps + 1) / steps))))
