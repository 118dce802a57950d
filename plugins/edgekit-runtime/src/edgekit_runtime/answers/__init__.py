"""Answers: outputs to what a person asked for. Each kind is one module and one entry in `KINDS`.

The same code reads answers on the device, judges goldens, and feeds metrics on the host.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgekit_runtime.answers.base import AnswerKind, Asked, Decision, Entry
from edgekit_runtime.answers.boxes import Boxes
from edgekit_runtime.answers.classification import Classification
from edgekit_runtime.answers.fill_mask import FillMask
from edgekit_runtime.answers.generated import Text
from edgekit_runtime.answers.mask import Mask
from edgekit_runtime.answers.multi_label import MultiLabel
from edgekit_runtime.answers.number import Number
from edgekit_runtime.answers.span import SpanKind
from edgekit_runtime.answers.tags import Tags
from edgekit_runtime.answers.tensor import Tensor
from edgekit_runtime.answers.transcript import Transcript
from edgekit_runtime.answers.vector import Vector
from edgekit_runtime.answers.zero_shot import ZeroShot

KINDS: Mapping[str, AnswerKind] = {
    kind.name: kind
    for kind in (
        Classification(),
        MultiLabel(),
        ZeroShot(),
        Tags(),
        SpanKind(),
        FillMask(),
        Number(),
        Vector(),
        Boxes(),
        Mask(),
        Transcript(),
        Text(),
        Tensor(),
    )
}

__all__ = ["KINDS", "AnswerKind", "Asked", "Decision", "Entry"]
