"""fill-mask: the word that a mask token stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit_runtime.answers.base import LABEL, RANKING, TEXT, Asked, Decision
from edgekit_runtime.answers.classification import FORMS, Prediction, prediction_json, prediction_text
from edgekit_runtime.answers.outputs import (
    attended,
    context_of,
    logits_name,
    one_row,
    output,
    own_tokens,
    softmax,
)
from edgekit_runtime.errors import InputError, RunFailed
from edgekit_runtime.processors.base import TextContext
from edgekit_runtime.session import Array

#: Words that an answer holds.
SHOWN = 5

_FORMS: Mapping[str, Callable[[Any], Any]] = {
    LABEL: FORMS[LABEL],
    RANKING: FORMS[RANKING],
    TEXT: lambda answer: answer.label,
}


class FillMask:
    """The likeliest tokens at the first mask, without the spaces around them."""

    name = "fill-mask"
    every = False
    forms = _FORMS

    def read(self, asked: Asked) -> Prediction:
        """The five likeliest words with their probabilities among all tokens of the vocabulary.

        Of two tokens of one text ("the" with and without a space before it) the likelier is kept.
        Raises `InputError` for a row without a mask.
        """
        entry = asked.only
        context = context_of(entry, TextContext)
        if asked.decode is None:
            raise RunFailed("the processor has no vocabulary, so that a token has no text")
        if not context.masked:
            raise InputError(
                "there is no mask token in the part of the text that the model sees",
                hint="put the model's mask token, such as [MASK] or <mask>, in place of one word",
            )
        name = logits_name(entry.outputs)
        tokens = own_tokens(one_row(entry.outputs, name, ("tokens", "vocabulary")), context, name)
        scores = softmax(tokens[context.masked[0]])
        found: dict[str, float] = {}
        for token in np.argsort(-scores, kind="stable")[:SHOWN]:
            found.setdefault(asked.decode([int(token)]).strip(), float(scores[token]))
        label = next(iter(found))
        return Prediction(label=label, score=found[label], scores=found)

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """The token at each place that is no padding."""
        logits = output(outputs, logits_name(outputs), ("rows", "tokens", "vocabulary"))
        return (Decision(scores=logits, counts=attended(feeds, logits.shape[:2])),)

    def json(self, answer: Prediction) -> object:
        """label, score, scores."""
        return prediction_json(answer)

    def text(self, answer: Prediction) -> str:
        """The likeliest word and its probability."""
        return prediction_text(answer)
