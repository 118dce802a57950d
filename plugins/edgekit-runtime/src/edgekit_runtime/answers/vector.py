"""vector: an embedding, or how alike two rows are by theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit_runtime.answers.base import NUMBER, VECTOR, Asked, Decision, Entry
from edgekit_runtime.answers.outputs import one_row
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.session import Array

#: Ending of the output's name, where a model has several outputs.
ENDING = "embedding"


def _vector(answer: Array | float) -> Array:
    if not isinstance(answer, np.ndarray):
        raise RunFailed("the answer to two rows is their cosine, not a vector")
    return answer


def _number(answer: Array | float) -> float:
    if isinstance(answer, np.ndarray):
        raise RunFailed("the answer to one row is a vector, not a number", hint="give pairs to compare")
    return answer


_FORMS: Mapping[str, Callable[[Any], Any]] = {VECTOR: _vector, NUMBER: _number}


class Vector:
    """Of one run its embedding, float32 [size]; of two runs the cosine of theirs, a float."""

    name = "vector"
    every = True
    forms = _FORMS

    def read(self, asked: Asked) -> Array | float:
        """The embedding, or the cosine."""
        vectors = [_embedding(entry) for entry in asked.entries]
        if len(vectors) == 1:
            return vectors[0]
        if len(vectors) != 2 or vectors[0].shape != vectors[1].shape:
            sizes = ", ".join(str(len(vector)) for vector in vectors) or "none"
            raise RunFailed(f"one embedding or two of one size are needed, found sizes: {sizes}")
        return cosine(*vectors)

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """None."""
        return ()

    def json(self, answer: Array | float) -> object:
        """A list of numbers, or the cosine."""
        return answer.tolist() if isinstance(answer, np.ndarray) else answer

    def text(self, answer: Array | float) -> str:
        """Six digits of each number."""
        return "\t".join(f"{value:.6g}" for value in np.atleast_1d(answer))


def cosine(one: Array, other: Array) -> float:
    """Cosine of two vectors, in [-1, 1]; 0 when one of them is all zeros."""
    a, b = (np.asarray(vector, dtype=np.float64) for vector in (one, other))
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.clip(a @ b / lengths, -1.0, 1.0)) if lengths else 0.0


def _embedding(entry: Entry) -> Array:
    names = [name for name in entry.outputs if len(entry.outputs) == 1 or name.endswith(ENDING)]
    if len(names) != 1:
        listed = ", ".join(sorted(entry.outputs)) or "(there are none)"
        raise RunFailed(
            f"which of the outputs {listed} is the embedding is not clear",
            hint=f"a model of this kind has one output, or one whose name ends with {ENDING!r}",
        )
    return one_row(entry.outputs, names[0], ("size",)).astype(np.float32)
