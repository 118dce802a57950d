"""Metrics of sequences of tags: entities of IOB2 tags, as seqeval counts them, and tags one by one."""

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
            _check_tags(self.name, row, answer, truth)
            _check_iob(row, answer, truth)
            seen, true = (set(entities(list(tags))) for tags in (answer, truth))
            found[row] = len(seen & true), len(seen), len(true)
        return found

    def of_sums(self, sums: Numbers) -> Numbers:
        """2 right / (found + true)."""
        return ratio(2.0 * sums[:, 0], sums[:, 1] + sums[:, 2])


class TagAccuracy(Summed):
    """The share of right tags over all tokens of all rows: for tags that mark no entities, such as parts
    of speech."""

    name, takes = "tag-accuracy", TAGS

    def parts(self, answers: Sequence[Any], truths: Sequence[Any]) -> Numbers:
        """[rows, 2]: tags right, tags."""
        check_rows(self.name, answers, truths)
        found = np.zeros((len(truths), 2))
        for row, (answer, truth) in enumerate(zip(answers, truths, strict=True)):
            _check_tags(self.name, row, answer, truth)
            right = sum(one == other for one, other in zip(answer, truth, strict=True))
            found[row] = right, len(truth)
        return found

    def of_sums(self, sums: Numbers) -> Numbers:
        """Right tags for each tag."""
        return ratio(sums[:, 0], sums[:, 1])


def _check_iob(row: int, answer: Any, truth: Any) -> None:
    for tag in (*answer, *truth):
        if not (tag == "O" or tag[:2] in ("B-", "I-")):
            hint = "--metric tag-accuracy judges tags that mark no entities"
            raise refuse(EntityF1.name, row, f"{tag!r} is no IOB2 tag", hint)


def _check_tags(name: str, row: int, answer: Any, truth: Any) -> None:
    hint = "give one tag for each token, such as B-PER, I-PER or O"
    for tags in (answer, truth):
        if isinstance(tags, str) or not isinstance(tags, Sequence):
            raise refuse(name, row, f"{tags!r} is no list of tags", hint)
        if not all(isinstance(tag, str) for tag in tags):
            raise refuse(name, row, f"{tags!r} holds something that is no tag", hint)
    if len(answer) != len(truth):
        raise refuse(name, row, f"{len(answer)} tags for {len(truth)} tokens", hint)
