"""Two answers that were generated, made comparable: up to and with the first token that differs.

What follows another token hangs on it, so nothing behind the first difference can be judged.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit_runtime.generation import NOT_ALLOWED, SCORES, TOKENS, generated_lengths
from edgekit_runtime.session import Array

#: Stands in `TOKENS` for what is not judged: places after the end of a row, or after its first difference.
NO_TOKEN = -1


def up_to_difference(
    wanted: Mapping[str, Array], found: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Both, of one shape: tokens [rows, places] and scores [rows, places, 2] as far as they are judged.

    Behind that `NO_TOKEN` and zeros stand in both. Zeros are also the scores of a token that is the only
    one allowed in both: it was no choice. Both must pass `is_generated`, of as many rows.
    """
    width = max(np.shape(outputs[TOKENS])[1] for outputs in (wanted, found))
    tokens, scores = zip(*(_widened(outputs, width) for outputs in (wanted, found)), strict=True)
    differs = tokens[0] != tokens[1]
    # How many differences there were before a place: one or more leaves it out.
    behind = np.cumsum(differs, axis=1) - differs > 0
    forced = ~differs & (scores[0][..., 1] <= NOT_ALLOWED) & (scores[1][..., 1] <= NOT_ALLOWED)
    for ids, numbers in zip(tokens, scores, strict=True):
        ids[behind] = NO_TOKEN
        numbers[behind | forced] = 0
    first, second = ({TOKENS: ids, SCORES: numbers} for ids, numbers in zip(tokens, scores, strict=True))
    return first, second


def _widened(outputs: Mapping[str, Array], width: int) -> tuple[Array, Array]:
    """Copies with `width` places, `NO_TOKEN` and zeros after each row's end."""
    given, numbers = np.asarray(outputs[TOKENS]), np.asarray(outputs[SCORES])
    tokens = np.full((len(given), width), NO_TOKEN, dtype=np.int64)
    scores = np.zeros((*tokens.shape, 2), dtype=numbers.dtype)
    own = np.arange(given.shape[1]) < generated_lengths(numbers)[:, None]
    tokens[:, : given.shape[1]][own] = given[own]
    scores[:, : given.shape[1]][own] = numbers[own]
    return tokens, scores
