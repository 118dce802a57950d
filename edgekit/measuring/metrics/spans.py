"""Question answering: exact match and the F1 of words, as SQuAD v1.1 scores them.

Rajpurkar, Zhang, Lopyrev and Liang, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", EMNLP
2016, and its script evaluate-v1.1.py: texts are lower-cased, stripped of punctuation and of the articles
a, an, the, and split at white space; of several right answers the best counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.measuring.metrics.base import (
    TEXT,
    Numbers,
    ShareRight,
    Summed,
    check_rows,
    ratio,
    refuse,
    texts,
)

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """A text as SQuAD compares it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


class ExactMatch(ShareRight):
    """The share of answers that are one of the right ones. A truth is a text or a list of texts."""

    name, takes = "exact-match", TEXT

    def right(self, answers: Sequence[Any], truths: Sequence[Any]) -> tuple[bool, ...]:
        """Equal once normalised."""
        return tuple(
            any(normalised(answer) == normalised(truth) for truth in allowed)
            for answer, allowed in _paired(self.name, answers, truths)
        )


class SpanF1(Summed):
    """The mean over rows of the F1 of words between answer and best truth."""

    name, takes = "span-f1", TEXT

    def parts(self, answers: Sequence[Any], truths: Sequence[Any]) -> Numbers:
        """[rows, 2]: F1 of the row, 1."""
        pairs = _paired(self.name, answers, truths)
        return np.array([[max(_f1(answer, truth) for truth in allowed), 1.0] for answer, allowed in pairs])

    def of_sums(self, sums: Numbers) -> Numbers:
        """The mean."""
        return ratio(sums[:, 0], sums[:, 1])


def _f1(answer: str, truth: str) -> float:
    found, right = normalised(answer).split(), normalised(truth).split()
    shared = sum((Counter(found) & Counter(right)).values())
    return 2.0 * shared / (len(found) + len(right)) if shared else 0.0


def _paired(name: str, answers: Sequence[Any], truths: Sequence[Any]) -> list[tuple[str, list[str]]]:
    check_rows(name, answers, truths)
    allowed = []
    for row, truth in enumerate(truths):
        listed = [truth] if isinstance(truth, str) else truth
        if not isinstance(listed, Sequence) or not listed or not all(isinstance(one, str) for one in listed):
            raise refuse(name, row, f"{truth!r} is no text", "give the right answer, or a list of right ones")
        allowed.append(list(listed))
    return list(zip(texts(name, answers), allowed, strict=True))
