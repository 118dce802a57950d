"""wer: the word error rate of transcripts, by jiwer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.measuring.metrics.base import TEXT, Numbers, Summed, check_rows, library, ratio, refuse, texts


class WordErrorRate(Summed):
    """(substitutions + deletions + insertions) / words of the truths, over all rows together."""

    name, takes = "wer", TEXT
    higher_is_better = False

    def parts(self, answers: Sequence[Any], truths: Sequence[Any]) -> Numbers:
        """[rows, 2]: errors, words of the truth."""
        check_rows(self.name, answers, truths)
        heard, said = texts(self.name, answers), texts(self.name, truths)
        process = library("jiwer", "jiwer", self.name).process_words
        found = np.zeros((len(said), 2))
        for row, (answer, truth) in enumerate(zip(heard, said, strict=True)):
            if not truth.split():
                raise refuse(self.name, row, "the truth holds no word", "leave the row out")
            seen = process(truth, answer)
            errors = seen.substitutions + seen.deletions + seen.insertions
            found[row] = errors, seen.substitutions + seen.deletions + seen.hits
        return found

    def of_sums(self, sums: Numbers) -> Numbers:
        """Errors for each word."""
        return ratio(sums[:, 0], sums[:, 1])
