"""entity-f1: entities found in sequences of IOB2 tags, as seqeval counts them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.measuring.metrics.base import TAGS, Numbers, Summed, check_rows, library, ratio, refuse


class EntityF1(Summed):
    """Micro F1 of entities. An answer is one tag for each token ("B-PER", "I-PER", "O"); an entity is
    right when its kind, first and last token are."""

    name, takes = "entity-f1", TAGS

    def parts(self, answers: Sequence[Any], truths: Sequence[Any]) -> Numbers:
        """[rows, 3]: entities found and right, found, true."""
        check_rows(self.name, answers, truths)
        entities = library("seqeval.metrics.sequence_labeling", "seqeval", self.name).get_entities
        found = np.zeros((len(truths), 3))
        for row, (answer, truth) in enumerate(zip(answers, truths, strict=True)):
            _check(row, answer, truth)
            seen, true = (set(entities(list(tags))) for tags in (answer, truth))
            found[row] = len(seen & true), len(seen), len(true)
        return found

    def of_sums(self, sums: Numbers) -> Numbers:
        """2 right / (found + true)."""
        return ratio(2.0 * sums[:, 0], sums[:, 1] + sums[:, 2])


def _check(row: int, answer: Any, truth: Any) -> None:
    hint = "give one tag for each token, such as B-PER, I-PER or O"
    for tags in (answer, truth):
        if isinstance(tags, str) or not isinstance(tags, Sequence):
            raise refuse(EntityF1.name, row, f"{tags!r} is no list of tags", hint)
        for tag in tags:
            if not isinstance(tag, str) or not (tag == "O" or tag[:2] in ("B-", "I-")):
                raise refuse(EntityF1.name, row, f"{tag!r} is no IOB2 tag", hint)
    if len(answer) != len(truth):
        raise refuse(EntityF1.name, row, f"{len(answer)} tags for {len(truth)} tokens", hint)
