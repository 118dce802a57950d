"""Metrics of numbers, vectors and likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.errors import DataError
from edgekit.measuring.metrics.base import (
    LIKELIHOODS,
    NUMBER,
    VECTOR,
    Numbers,
    Summed,
    check_rows,
    library,
    ratio,
    refuse,
)

#: exp of more than this is no float.
_LARGEST_EXPONENT = 700.0


class Distance(Summed):
    """Mean absolute error, or the root of the mean squared error, of numbers."""

    takes = NUMBER
    higher_is_better = False

    def __init__(self, *, squared: bool) -> None:
        self.squared = squared
        self.name = "rmse" if squared else "mae"

    def parts(self, answers: Sequence[Any], truths: Sequence[Any]) -> Numbers:
        """[rows, 2]: error of the row, 1."""
        check_rows(self.name, answers, truths)
        error = np.abs(_numbers(self.name, answers) - _numbers(self.name, truths))
        return np.stack([error**2 if self.squared else error, np.ones(len(error))], axis=1)

    def of_sums(self, sums: Numbers) -> Numbers:
        """The mean, and its root for rmse."""
        mean = ratio(sums[:, 0], sums[:, 1])
        found: Numbers = np.sqrt(mean) if self.squared else mean
        return found


class Spearman:
    """The correlation of ranks, by scipy."""

    name, takes, higher_is_better = "spearman", NUMBER, True

    def score(self, answers: Sequence[Any], truths: Sequence[Any]) -> float:
        """In [-1, 1]. Raises DataError where one side is constant: it has no ranks."""
        check_rows(self.name, answers, truths)
        one, other = _numbers(self.name, answers), _numbers(self.name, truths)
        if np.ptp(one) == 0.0 or np.ptp(other) == 0.0:
            raise DataError(
                f"{self.name}: all answers or all truths are the same, so that they have no order",
                hint="judge with rows that differ",
            )
        stats = library("scipy.stats", "scipy", self.name)
        return float(stats.spearmanr(one, other).statistic)

    def right(self, answers: Sequence[Any], truths: Sequence[Any]) -> None:
        """A row is neither right nor wrong."""


class Cosine(Summed):
    """The mean cosine between an answer (an embedding) and the truth (the embedding it should be)."""

    name, takes = "cosine", VECTOR

    def parts(self, answers: Sequence[Any], truths: Sequence[Any]) -> Numbers:
        """[rows, 2]: cosine of the row, 1."""
        check_rows(self.name, answers, truths)
        found = np.ones((len(truths), 2))
        for row, (answer, truth) in enumerate(zip(answers, truths, strict=True)):
            one, other = _vector(self.name, row, answer), _vector(self.name, row, truth)
            if one.shape != other.shape:
                what = f"{one.size} numbers against {other.size}"
                raise refuse(self.name, row, what, "both embeddings must be of one size")
            found[row, 0] = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
        return found

    def of_sums(self, sums: Numbers) -> Numbers:
        """The mean."""
        return ratio(sums[:, 0], sums[:, 1])


class Perplexity(Summed):
    """exp of the mean negative log-likelihood of tokens. An answer holds the natural logarithm of the
    likelihood of each token of the row; truths are not looked at."""

    name, takes = "perplexity", LIKELIHOODS
    higher_is_better = False

    def parts(self, answers: Sequence[Any], truths: Sequence[Any]) -> Numbers:
        """[rows, 2]: negative log-likelihood, tokens."""
        check_rows(self.name, answers, truths)
        found = np.zeros((len(answers), 2))
        for row, answer in enumerate(answers):
            logs = _array(self.name, row, answer)
            if logs.ndim != 1 or not logs.size or not np.all(np.isfinite(logs)) or np.any(logs > 0.0):
                what = "not the log-likelihoods of one token or more"
                raise refuse(self.name, row, what, "give natural logarithms, each at most 0")
            found[row] = -logs.sum(), logs.size
        return found

    def of_sums(self, sums: Numbers) -> Numbers:
        """exp of the mean over tokens."""
        found: Numbers = np.exp(np.minimum(ratio(sums[:, 0], sums[:, 1]), _LARGEST_EXPONENT))
        return found


def _array(name: str, row: int, value: Any) -> Numbers:
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise refuse(name, row, f"{value!r} holds something that is no number", "give numbers") from None


def _numbers(name: str, values: Sequence[Any]) -> Numbers:
    found = np.zeros(len(values))
    for row, value in enumerate(values):
        number = _array(name, row, value)
        if number.size != 1 or not np.isfinite(number).all():
            raise refuse(name, row, f"{value!r} is no finite number", "give one number for each row")
        found[row] = number.item()
    return found


def _vector(name: str, row: int, value: Any) -> Numbers:
    vector = _array(name, row, value)
    if vector.ndim != 1 or not np.isfinite(vector).all() or not np.any(vector):
        raise refuse(name, row, "no vector of finite numbers other than 0", "give one embedding for each row")
    return vector
