"""number: the one output of a regression."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit_runtime.answers.base import NUMBER, Asked, Decision
from edgekit_runtime.answers.outputs import check_finite, logits_name
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.session import Array

_FORMS: Mapping[str, Callable[[Any], Any]] = {NUMBER: float}


class Number:
    """One number for a row."""

    name = "number"
    every = True
    forms = _FORMS

    def read(self, asked: Asked) -> float:
        """The number."""
        outputs = asked.only.outputs
        name = logits_name(outputs)
        array = np.asarray(outputs[name])
        if array.size != 1:
            raise RunFailed(f"output {name!r} has the shape {array.shape}, expected one number")
        check_finite(name, array)
        return float(array.item())

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """None."""
        return ()

    def json(self, answer: float) -> object:
        """The number."""
        return answer

    def text(self, answer: float) -> str:
        """Six digits."""
        return f"{answer:.6g}"
