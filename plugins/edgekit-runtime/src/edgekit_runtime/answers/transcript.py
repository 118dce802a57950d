"""transcript: what is said in a recording, by a model with a CTC head or one that writes token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit_runtime.answers.base import TEXT, Asked, Decision
from edgekit_runtime.answers.generated import check_generated, generated_text
from edgekit_runtime.answers.outputs import logits_name, one_line, one_row, output
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.generation import TOKENS
from edgekit_runtime.session import Array

_FORMS: Mapping[str, Callable[[Any], Any]] = {TEXT: str}


class Transcript:
    """The tokens that were generated, where they are an output; else, of a CTC head, its best path.

    The best path (Graves et al., "Connectionist Temporal Classification", ICML 2006).

    The likeliest symbol of each frame; repetitions are merged here. Then `decode` drops blanks, which
    are a special symbol of its vocabulary, and puts a space for the symbol between words. In this
    order, since a blank is what keeps two equal letters apart.
    """

    name = "transcript"
    every = False
    forms = _FORMS

    def read(self, asked: Asked) -> str:
        """The text."""
        outputs = asked.only.outputs
        if TOKENS in outputs:
            return generated_text(asked)
        if asked.decode is None:
            raise RunFailed("the processor has no vocabulary, so that a symbol has no text")
        logits = one_row(outputs, logits_name(outputs), ("frames", "symbols"))
        return asked.decode(merged(logits.argmax(axis=-1))).strip()

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """The symbol of each frame; none where tokens are generated, which hang on each other."""
        if TOKENS in outputs:
            check_generated(outputs)
            return ()
        logits = output(outputs, logits_name(outputs), ("rows", "frames", "symbols"))
        return (Decision(scores=logits, counts=np.ones(logits.shape[:2], dtype=np.bool_)),)

    def json(self, answer: str) -> object:
        """The text."""
        return answer

    def text(self, answer: str) -> str:
        """The text."""
        return one_line(answer)


def merged(ids: Array) -> list[int]:
    """`ids` with each run of one id made one."""
    kept = np.r_[True, ids[1:] != ids[:-1]][: len(ids)]
    return [int(value) for value in ids[kept]]
