"""classification: logits to one label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit_runtime.answers.base import LABEL, RANKING, Asked, Decision
from edgekit_runtime.answers.outputs import (
    check_finite,
    class_words,
    logits_name,
    one_line,
    output,
    softmax,
)
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.session import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The likeliest label of a row, its probability, and the probability of every label."""

    label: str
    score: float
    scores: Mapping[str, float]


def classify(outputs: Mapping[str, Array], labels: Sequence[str]) -> list[Prediction]:
    """One prediction per row of the logits. `labels` in the order of the classes.

    Without labels the classes are called "0", "1", ... Raises `RunFailed` for outputs that are not
    the finite logits of as many classes.
    """
    name = logits_name(outputs)
    logits = output(outputs, name, ("rows", "classes"))
    if logits.shape[1] < 2:
        raise RunFailed(f"output {name!r} has the shape {logits.shape}, a classifier has two classes or more")
    words = class_words(labels, logits.shape[1], name)
    check_finite(name, logits)
    return [_prediction(row, words) for row in softmax(logits)]


def ranking(prediction: Prediction) -> tuple[str, ...]:
    """All labels, the likeliest first."""
    return tuple(sorted(prediction.scores, key=lambda label: -prediction.scores[label]))


def prediction_json(prediction: Prediction) -> dict[str, object]:
    """As JSON keeps it."""
    return {"label": prediction.label, "score": prediction.score, "scores": dict(prediction.scores)}


def prediction_text(prediction: Prediction) -> str:
    """Label and probability."""
    return f"{one_line(prediction.label)}\t{prediction.score:.4f}"


def classes_decided(outputs: Mapping[str, Array]) -> tuple[Decision, ...]:
    """The class of each row of logits [rows, classes]."""
    logits = output(outputs, logits_name(outputs), ("rows", "classes"))
    return (Decision(scores=logits, counts=np.ones(logits.shape[:1], dtype=np.bool_)),)


FORMS: Mapping[str, Callable[[Any], Any]] = {LABEL: lambda answer: answer.label, RANKING: ranking}


class Classification:
    """One label for a row: the class of the highest logit."""

    name = "classification"
    every = True
    forms = FORMS

    def read(self, asked: Asked) -> Prediction:
        """The likeliest label."""
        found = classify(asked.only.outputs, asked.labels)
        if len(found) != 1:
            raise RunFailed(f"the outputs hold {len(found)} rows, expected one")
        return found[0]

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """The class of each row."""
        return classes_decided(outputs)

    def json(self, answer: Prediction) -> object:
        """label, score, scores."""
        return prediction_json(answer)

    def text(self, answer: Prediction) -> str:
        """Label and probability."""
        return prediction_text(answer)


def _prediction(row: Array, labels: tuple[str, ...]) -> Prediction:
    scores = {label: float(score) for label, score in zip(labels, row, strict=True)}
    best = int(np.argmax(row))
    return Prediction(label=labels[best], score=float(row[best]), scores=scores)
