"""chrF: generated text against a right text, by the n-grams of their characters.

Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015, with recall counting as
twice precision (chrF2) and n up to 6, over the whole corpus, as sacrebleu computes it (Post, "A Call for
Clarity in Reporting BLEU Scores", WMT 2018): white space does not count, letter case does. It needs no
words, so it suits every language.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.measuring.metrics.base import TEXT, Numbers, Summed, check_rows, ratio, refuse, texts

ORDERS = range(1, 7)
_BETA = 2


class ChrF(Summed):
    """chrF2 in [0, 1]. A truth is a text."""

    name, takes = "chrf", TEXT

    def parts(self, answers: Sequence[Any], truths: Sequence[Any]) -> Numbers:
        """[rows, 18]: for each n, n-grams of the answer, of the truth, and of both."""
        check_rows(self.name, answers, truths)
        for row, truth in enumerate(truths):
            if not isinstance(truth, str):
                raise refuse(self.name, row, f"{truth!r} is no text", "give the right answer as a text")
        rows = zip(texts(self.name, answers), truths, strict=True)
        return np.array([_counts(answer, truth) for answer, truth in rows], np.float64)

    def of_sums(self, sums: Numbers) -> Numbers:
        """The F of mean precision and mean recall, over the lengths of n-gram that both texts have."""
        found, right, shared = (sums[:, part::3] for part in range(3))
        both = (found > 0) & (right > 0)
        orders = both.sum(axis=1).astype(np.float64)
        precision = ratio(np.where(both, ratio(shared, found), 0.0).sum(axis=1), orders)
        recall = ratio(np.where(both, ratio(shared, right), 0.0).sum(axis=1), orders)
        return ratio((1 + _BETA**2) * precision * recall, _BETA**2 * precision + recall)


def _counts(answer: str, truth: str) -> list[int]:
    found, right = "".join(answer.split()), "".join(truth.split())
    counts: list[int] = []
    for size in ORDERS:
        one, other = _grams(found, size), _grams(right, size)
        # As sacrebleu has it: a truth too short for this length says nothing of the answer's n-grams.
        counts += [one.total() if other else 0, other.total(), (one & other).total()]
    return counts


def _grams(text: str, size: int) -> Counter[str]:
    return Counter(text[start : start + size] for start in range(len(text) - size + 1))
