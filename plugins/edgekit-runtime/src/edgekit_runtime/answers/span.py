"""span: the part of a context that answers a question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit_runtime.answers.base import TEXT, Asked, Decision
from edgekit_runtime.answers.outputs import (
    attended,
    context_of,
    one_line,
    one_row,
    output,
    own_tokens,
    softmax,
    trimmed,
)
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.processors.base import TextContext
from edgekit_runtime.session import Array

#: Tokens that an answer has at most, as in the evaluation of BERT on SQuAD.
LONGEST = 30

_NAMES = ("start_logits", "end_logits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """start, end: in characters of the context; score: probability of this start times that of this end."""

    text: str
    start: int
    end: int
    score: float


_FORMS: Mapping[str, Callable[[Any], Any]] = {TEXT: lambda answer: answer.text}


class SpanKind:
    """The likeliest start and end, in this order, in the second text of a pair."""

    name = "span"
    every = True
    forms = _FORMS

    def read(self, asked: Asked) -> Span:
        """The best span; an empty one, of score 0, when no token of the context was seen.

        Probabilities are over the tokens of the context.
        """
        entry = asked.only
        context = context_of(entry, TextContext)
        if not isinstance(context.row, tuple):
            raise RunFailed("an answer is looked for in the second text of a pair, found one text")
        starts, ends = (
            own_tokens(one_row(entry.outputs, name, ("tokens",)), context, name) for name in _NAMES
        )
        places = [place for place, text in enumerate(context.texts) if text == 1]
        if not places:
            return Span(text="", start=0, end=0, score=0.0)
        first, last, score = best_span(starts[places], ends[places], LONGEST)
        passage = context.row[1]
        begin, end = trimmed(passage, context.offsets[places[first]][0], context.offsets[places[last]][1])
        return Span(text=passage[begin:end], start=begin, end=end, score=score)

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """The start and the end of each row, among the tokens that are no padding."""
        return tuple(_place(output(outputs, name, ("rows", "tokens")), feeds) for name in _NAMES)

    def json(self, answer: Span) -> object:
        """text, start, end, score."""
        return {"text": answer.text, "start": answer.start, "end": answer.end, "score": answer.score}

    def text(self, answer: Span) -> str:
        """Text, probability, place."""
        return f"{one_line(answer.text)}\t{answer.score:.4f}\t{answer.start}-{answer.end}"


def best_span(starts: Array, ends: Array, longest: int) -> tuple[int, int, float]:
    """Places of the first and the last token, at most `longest` tokens in all, and their probability.

    starts, ends: logits [tokens]. Of spans that are equally likely the shortest, then the first.
    """
    start, end = softmax(starts), softmax(ends)
    best = (0, 0, -1.0)
    for extra in range(min(longest, len(start))):
        likely = start[: len(start) - extra] * end[extra:]
        first = int(np.argmax(likely))
        if likely[first] > best[2]:
            best = (first, first + extra, float(likely[first]))
    return best


def _place(logits: Array, feeds: Mapping[str, Array]) -> Decision:
    mask = attended(feeds, logits.shape)
    counts: Array = np.asarray(mask.any(axis=-1))
    # Padding never wins; a row of nothing else does not count.
    scores = np.where(mask | ~counts[:, None], logits, -np.inf)
    return Decision(scores=scores, counts=counts)
