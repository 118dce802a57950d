"""Metrics of classifiers: one label for a row, labels in order of likelihood, or every label that holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.measuring.metrics.base import (
    LABEL,
    LABELS,
    RANKING,
    Numbers,
    ShareRight,
    Summed,
    check_rows,
    ratio,
    refuse,
)


class Accuracy(ShareRight):
    """The share of answers that equal the truth."""

    name, takes = "accuracy", LABEL

    def right(self, answers: Sequence[Any], truths: Sequence[Any]) -> tuple[bool, ...]:
        """Exact match."""
        check_rows(self.name, answers, truths)
        return tuple(bool(answer == truth) for answer, truth in zip(answers, truths, strict=True))


class TopK(ShareRight):
    """The share of rows whose truth is among the `count` likeliest labels. An answer is the labels, the
    likeliest first."""

    takes = RANKING

    def __init__(self, count: int) -> None:
        self.count = count
        self.name = f"top-{count}"

    def right(self, answers: Sequence[Any], truths: Sequence[Any]) -> tuple[bool, ...]:
        """Whether the truth is among the first."""
        check_rows(self.name, answers, truths)
        for row, answer in enumerate(answers):
            if isinstance(answer, str) or not isinstance(answer, Sequence | np.ndarray):
                raise refuse(
                    self.name, row, "the answer is no list of labels", "give labels, the likeliest first"
                )
        return tuple(
            any(label == truth for label in answer[: self.count])
            for answer, truth in zip(answers, truths, strict=True)
        )


class MicroF1(Accuracy):
    """F1 of the counts of all classes together. With one label a row every wrong answer is one false
    positive and one false negative, so that it equals accuracy."""

    name = "micro-f1"


class MacroF1(Summed):
    """The mean over classes of F1 = 2 TP / (2 TP + FP + FN), 0 where nothing of a class was right."""

    name, takes = "macro-f1", LABEL

    def parts(self, answers: Sequence[Any], truths: Sequence[Any]) -> Numbers:
        """[rows, 3 classes]: right, answered, true, each by class. Classes are those of the truths; answers
        that are none of them make one class more."""
        check_rows(self.name, answers, truths)
        classes = {label: place for place, label in enumerate(sorted(set(truths), key=str))}
        other = len(classes)
        answered = np.array([classes.get(answer, other) for answer in answers])
        true = np.array([classes[truth] for truth in truths])
        found = np.zeros((len(truths), 3, other + 1))
        rows = np.arange(len(truths))
        found[rows, 0, answered] = answered == true
        found[rows, 1, answered] = 1.0
        found[rows, 2, true] = 1.0
        return found.reshape(len(truths), -1)

    def of_sums(self, sums: Numbers) -> Numbers:
        """The mean over the classes that were answered or true."""
        right, answered, true = np.moveaxis(sums.reshape(len(sums), 3, -1), 1, 0)
        seen = (answered + true) > 0
        return ratio(ratio(2.0 * right, answered + true).sum(axis=1), seen.sum(axis=1).astype(np.float64))


class LabelsF1(Summed):
    """F1 of all labels of all rows together: 2 right / (answered + true). An answer is every label that
    holds, none twice."""

    name, takes = "labels-f1", LABELS

    def parts(self, answers: Sequence[Any], truths: Sequence[Any]) -> Numbers:
        """[rows, 3]: labels right, answered, true."""
        check_rows(self.name, answers, truths)
        found = np.zeros((len(truths), 3))
        for row, sides in enumerate(zip(answers, truths, strict=True)):
            for side in sides:
                if isinstance(side, str) or not isinstance(side, Sequence):
                    raise refuse(
                        self.name, row, f"{side!r} is no list of labels", "give a list, which may be empty"
                    )
            answer, truth = (set(side) for side in sides)
            found[row] = len(answer & truth), len(answer), len(truth)
        return found

    def of_sums(self, sums: Numbers) -> Numbers:
        """2 right / (answered + true)."""
        return ratio(2.0 * sums[:, 0], sums[:, 1] + sums[:, 2])
