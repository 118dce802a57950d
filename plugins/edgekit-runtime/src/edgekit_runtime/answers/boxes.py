"""boxes: objects in an image, by a model of the DETR family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit_runtime.answers.base import BOXES, Asked, Decision
from edgekit_runtime.answers.outputs import (
    context_of,
    one_line,
    one_row,
    output,
    seen_part,
    sigmoid,
    softmax,
)
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.processors.base import ImageContext
from edgekit_runtime.session import Array

#: Boxes that an answer has at most: as many as the metric of COCO looks at.
MOST = 100

#: Least score of a box that people are shown.
SHOWN = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """box: x and y of the upper left corner, width and height, in pixels of the image as given."""

    box: tuple[float, float, float, float]
    label: str
    score: float


def _listed(answer: Sequence[Box]) -> list[dict[str, object]]:
    return [{"box": list(one.box), "label": one.label, "score": one.score} for one in answer]


_FORMS: Mapping[str, Callable[[Any], Any]] = {BOXES: _listed}


class Boxes:
    """Outputs as DETR has them (Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020):
    logits [1, queries, classes], pred_boxes [1, queries, 4] as centre x, centre y, width, height, as shares
    of what the model sees.

    With one class more than there are labels, the last means "no object" and each query has one label, by
    softmax. With as many classes as labels every label of a query stands by itself, by sigmoid.
    """

    name = "boxes"
    every = False
    forms = _FORMS

    def read(self, asked: Asked) -> tuple[Box, ...]:
        """The likeliest boxes, at most `MOST`, the likeliest first."""
        entry = asked.only
        logits = one_row(entry.outputs, "logits", ("queries", "classes"))
        places = one_row(entry.outputs, "pred_boxes", ("queries", "4"))
        if places.shape != (len(logits), 4):
            raise RunFailed(
                f"output 'pred_boxes' has the shape {(1, *places.shape)}, expected (1, {len(logits)}, 4)"
            )
        pixels = _pixels(places, seen_part(context_of(entry, ImageContext)))
        queries, classes, scores = _candidates(logits, asked.labels)
        best = np.argsort(-scores, kind="stable")[:MOST]
        return tuple(
            Box(
                box=_corner(pixels[queries[index]]),
                label=asked.labels[classes[index]],
                score=float(scores[index]),
            )
            for index in best
        )

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """The class of each query."""
        logits = output(outputs, "logits", ("rows", "queries", "classes"))
        return (Decision(scores=logits, counts=np.ones(logits.shape[:2], dtype=np.bool_)),)

    def json(self, answer: Sequence[Box]) -> object:
        """A list of box, label, score."""
        return _listed(answer)

    def text(self, answer: Sequence[Box]) -> str:
        """The boxes of score `SHOWN` and more: label, score, x, y, width, height."""
        shown = [one for one in answer if one.score >= SHOWN]
        return (
            "\t".join(
                f"{one_line(one.label)} {one.score:.2f} [{', '.join(f'{value:.0f}' for value in one.box)}]"
                for one in shown
            )
            or "-"
        )


def _candidates(logits: Array, labels: Sequence[str]) -> tuple[Array, Array, Array]:
    """query, class and score of each box that may be answered."""
    queries, classes = logits.shape
    if labels and classes == len(labels) + 1:
        scores = softmax(logits)[:, :-1]
        return np.arange(queries), scores.argmax(axis=-1), scores.max(axis=-1)
    if classes != len(labels):
        raise RunFailed(f"output 'logits' has {classes} classes, but there are {len(labels)} labels")
    query, label = np.indices(logits.shape).reshape(2, -1)
    return query, label, sigmoid(logits).ravel()


def _pixels(places: Array, seen: tuple[float, float, float, float]) -> Array:
    """[boxes, 4], from centres and sizes in [0, 1] to x, y, width, height in pixels of the image as given."""
    top, left, bottom, right = seen
    x, y, width, height = np.asarray(places, dtype=np.float64).T
    wide, high = right - left, bottom - top
    return np.stack(
        [left + (x - width / 2) * wide, top + (y - height / 2) * high, width * wide, height * high], axis=-1
    )


def _corner(place: Array) -> tuple[float, float, float, float]:
    x, y, width, height = (float(value) for value in place)
    return x, y, width, height
