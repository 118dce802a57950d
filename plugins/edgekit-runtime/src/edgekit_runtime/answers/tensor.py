"""tensor: numbers, for whatever comes after the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit_runtime.answers.base import Asked, Decision
from edgekit_runtime.answers.outputs import check_finite
from edgekit_runtime.session import Array

_NO_FORMS: Mapping[str, Callable[[Any], Any]] = {}


class Tensor:
    """The outputs as they are. No metric takes them."""

    name = "tensor"
    every = True
    forms = _NO_FORMS

    def read(self, asked: Asked) -> dict[str, Array]:
        """Every output, finite numbers all."""
        found = {name: np.asarray(array) for name, array in asked.only.outputs.items()}
        for name, array in found.items():
            check_finite(name, array)
        return found

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """None."""
        return ()

    def json(self, answer: Mapping[str, Array]) -> object:
        """Output -> its values as nested lists."""
        return {name: array.tolist() for name, array in answer.items()}

    def text(self, answer: Mapping[str, Array]) -> str:
        """Each output's name, type and shape."""
        return "\t".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in answer.items())
