"""Logits to labels: the post-processing of a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

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
    logits = np.asarray(outputs[name])
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise RunFailed(f"output {name!r} has the shape {logits.shape}, a classifier gives (rows, classes)")
    words = tuple(labels) or tuple(str(index) for index in range(logits.shape[1]))
    if len(words) != logits.shape[1]:
        raise RunFailed(f"output {name!r} has {logits.shape[1]} classes, but there are {len(words)} labels")
    if not np.isfinite(logits).all():
        raise RunFailed(f"output {name!r} holds values that are not finite numbers")
    return [_prediction(row, words) for row in softmax(logits)]


def softmax(logits: Array) -> Array:
    """Probabilities along the last axis, in double precision."""
    values = np.asarray(logits, dtype=np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def logits_name(outputs: Mapping[str, Array]) -> str:
    """The output that holds the logits: "logits", or the only output there is."""
    if "logits" in outputs:
        return "logits"
    if len(outputs) == 1:
        return next(iter(outputs))
    raise RunFailed(
        f"none of the outputs {', '.join(sorted(outputs)) or '(there are none)'} is called 'logits'",
        hint="a classifier has one output, or one that is called 'logits'",
    )


def _prediction(row: Array, labels: tuple[str, ...]) -> Prediction:
    scores = {label: float(score) for label, score in zip(labels, row, strict=True)}
    best = int(np.argmax(row))
    return Prediction(label=labels[best], score=float(row[best]), scores=scores)
