"""zero-shot: one of any labels, by a model that tells whether one text follows from another.

Each candidate is one run on (text, hypothesis); the candidate whose hypothesis the text entails most
wins (Yin, Hay and Roth, "Benchmarking Zero-shot Text Classification", EMNLP 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit_runtime.answers.base import Asked, Decision, Entry
from edgekit_runtime.answers.classification import (
    FORMS,
    Prediction,
    classes_decided,
    prediction_json,
    prediction_text,
)
from edgekit_runtime.answers.outputs import class_words, context_of, logits_name, one_row, softmax
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.processors.base import TextContext
from edgekit_runtime.session import Array

#: The hypothesis for a candidate; transformers' default too.
TEMPLATE = "This example is {}."
_BEFORE, _, _AFTER = TEMPLATE.partition("{}")


def hypothesis(choice: str) -> str:
    """What is asked of a candidate."""
    return f"{_BEFORE}{choice}{_AFTER}"


def choice_of(hypothesis: str) -> str:
    """The candidate of a hypothesis. Raises `RunFailed` for a text that is none."""
    if not (hypothesis.startswith(_BEFORE) and hypothesis.endswith(_AFTER)):
        raise RunFailed(f"{hypothesis!r} is not made of the template {TEMPLATE!r}")
    return hypothesis[len(_BEFORE) : len(hypothesis) - len(_AFTER)]


class ZeroShot:
    """The softmax over candidates of the logit that means entailment."""

    name = "zero-shot"
    every = True
    forms = FORMS

    def read(self, asked: Asked) -> Prediction:
        """The likeliest candidate."""
        if not asked.entries:
            raise RunFailed("there are no candidates to choose from")
        choices = [_choice(entry) for entry in asked.entries]
        if len(set(choices)) != len(choices):
            raise RunFailed(f"a candidate is given twice: {', '.join(choices)}")
        scores = softmax(np.array([_entailment(entry, asked.labels) for entry in asked.entries]))
        best = int(np.argmax(scores))
        return Prediction(
            label=choices[best],
            score=float(scores[best]),
            scores={choice: float(score) for choice, score in zip(choices, scores, strict=True)},
        )

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """The class of each run: whether its hypothesis follows."""
        return classes_decided(outputs)

    def json(self, answer: Prediction) -> object:
        """label, score, scores."""
        return prediction_json(answer)

    def text(self, answer: Prediction) -> str:
        """Candidate and probability."""
        return prediction_text(answer)


def _choice(entry: Entry) -> str:
    row = context_of(entry, TextContext).row
    if not isinstance(row, tuple):
        raise RunFailed("a candidate is asked for with the text and a hypothesis")
    return choice_of(row[1])


def _entailment(entry: Entry, labels: Sequence[str]) -> float:
    name = logits_name(entry.outputs)
    logits = one_row(entry.outputs, name, ("classes",))
    words = class_words(labels, len(logits), name)
    places = [place for place, word in enumerate(words) if word.lower().startswith("entail")]
    if len(places) != 1:
        raise RunFailed(f"one label must be called 'entailment', found {', '.join(words)}")
    return float(logits[places[0]])
