"""text: what a model writes in answer to a row, token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit_runtime.answers.base import TEXT, Asked, Decision
from edgekit_runtime.answers.outputs import one_line, one_row
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.generation import SCORES, TOKENS, generated_lengths, is_generated
from edgekit_runtime.session import Array

_FORMS: Mapping[str, Callable[[Any], Any]] = {TEXT: str}


class Text:
    """Tokens as text, special ones left out. Goldens are judged token by token, see `token_agreement`."""

    name = "text"
    every = True
    forms = _FORMS

    def read(self, asked: Asked) -> str:
        """The text."""
        return generated_text(asked)

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """None: each token hangs on those before it, so that no choice can be looked at alone."""
        check_generated(outputs)
        return ()

    def json(self, answer: str) -> object:
        """The text."""
        return answer

    def text(self, answer: str) -> str:
        """The text."""
        return one_line(answer)


def check_generated(outputs: Mapping[str, Array]) -> None:
    """Raise `RunFailed` for outputs that were not generated token by token."""
    if not is_generated(outputs):
        shapes = ", ".join(f"{name} {np.shape(outputs[name])}" for name in sorted(outputs))
        raise RunFailed(
            f"the outputs are {shapes or 'none at all'}; what is generated comes as {TOKENS} "
            f"(rows, generated) and finite {SCORES} (rows, generated, 2)"
        )


def generated_text(asked: Asked) -> str:
    """The text of the tokens that were generated, without white space around it."""
    if asked.decode is None:
        raise RunFailed("the processor has no vocabulary, so that a token has no text")
    outputs = asked.only.outputs
    tokens, scores = one_row(outputs, TOKENS, ("generated",)), one_row(outputs, SCORES, ("generated", "2"))
    check_generated(outputs)
    return asked.decode([int(token) for token in tokens[: generated_lengths(scores)]]).strip()
