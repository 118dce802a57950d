"""multi-label: logits to every label that holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit_runtime.answers.base import LABELS, Asked, Decision
from edgekit_runtime.answers.outputs import class_words, logits_name, one_line, one_row, output, sigmoid
from edgekit_runtime.session import Array

#: A label holds when its probability is above this.
THRESHOLD = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSet:
    """labels: those that hold, in the order of the classes; scores: the probability of every label."""

    labels: tuple[str, ...]
    scores: Mapping[str, float]


_FORMS: Mapping[str, Callable[[Any], Any]] = {LABELS: lambda answer: answer.labels}


class MultiLabel:
    """Each label whose sigmoid is above one half, by itself."""

    name = "multi-label"
    every = True
    forms = _FORMS

    def read(self, asked: Asked) -> LabelSet:
        """The labels that hold."""
        outputs = asked.only.outputs
        name = logits_name(outputs)
        row = sigmoid(one_row(outputs, name, ("classes",)))
        words = class_words(asked.labels, len(row), name)
        return LabelSet(
            labels=tuple(word for word, score in zip(words, row, strict=True) if score > THRESHOLD),
            scores={word: float(score) for word, score in zip(words, row, strict=True)},
        )

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """Each label or not: the softmax of (0, logit) is the sigmoid of the logit."""
        logits = output(outputs, logits_name(outputs), ("rows", "classes"))
        scores = np.stack([np.zeros_like(logits), logits], axis=-1)
        return (Decision(scores=scores, counts=np.ones(logits.shape, dtype=np.bool_)),)

    def json(self, answer: LabelSet) -> object:
        """labels, scores."""
        return {"labels": list(answer.labels), "scores": dict(answer.scores)}

    def text(self, answer: LabelSet) -> str:
        """Labels with their probabilities."""
        return "\t".join(f"{one_line(label)} {answer.scores[label]:.4f}" for label in answer.labels) or "-"
