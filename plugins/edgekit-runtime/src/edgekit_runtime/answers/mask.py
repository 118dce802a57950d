"""mask: a class for each pixel of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit_runtime.answers.base import MASK, Asked, Decision
from edgekit_runtime.answers.outputs import (
    class_words,
    context_of,
    logits_name,
    one_line,
    one_row,
    output,
    seen_part,
)
from edgekit_runtime.processors.base import ImageContext
from edgekit_runtime.session import Array

#: What a pixel holds that the model does not see. Metrics leave it out of truths, and it is no class.
UNSEEN = 255

#: Scores that are made at once: 16 MiB of float32, whatever the size of the image.
_BLOCK = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segmentation:
    """classes: [height, width] of the image as given, the number of each pixel's class.

    uint8 with `UNSEEN` for pixels that the model does not see; with more than 255 classes uint16, and
    65535 for these. labels: in the order of the classes.
    """

    classes: Array
    labels: tuple[str, ...]


_FORMS: Mapping[str, Callable[[Any], Any]] = {MASK: lambda answer: answer.classes}


class Mask:
    """The class of the highest logit at each pixel. Logits in between are interpolated first."""

    name = "mask"
    every = False
    forms = _FORMS

    def read(self, asked: Asked) -> Segmentation:
        """The class of each pixel of the image as given."""
        entry = asked.only
        name = logits_name(entry.outputs)
        logits = one_row(entry.outputs, name, ("classes", "height", "width"))
        labels = class_words(asked.labels, len(logits), name)
        context = context_of(entry, ImageContext)
        top, left, bottom, right = seen_part(context)
        height, width = context.size
        rows, columns = _inside(top, bottom, height), _inside(left, right, width)
        kind = np.uint8 if len(labels) <= UNSEEN else np.uint16
        classes = np.full((height, width), UNSEEN if kind is np.uint8 else 65535, dtype=kind)
        if rows.size and columns.size:
            found = _classes(logits, (rows - top) / (bottom - top), (columns - left) / (right - left))
            classes[np.ix_((rows - 0.5).astype(int), (columns - 0.5).astype(int))] = found
        return Segmentation(classes=classes, labels=labels)

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """The class at each place of the logits, before they are interpolated."""
        logits = output(outputs, logits_name(outputs), ("rows", "classes", "height", "width"))
        scores = np.moveaxis(logits, 1, -1)
        return (Decision(scores=scores, counts=np.ones(scores.shape[:-1], dtype=np.bool_)),)

    def json(self, answer: Segmentation) -> object:
        """Size, and the classes as runs of (class, pixels), row after row from the upper left."""
        flat = answer.classes.ravel()
        starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]])
        lengths = np.diff(np.r_[starts, flat.size])
        height, width = answer.classes.shape
        runs = np.stack([flat[starts].astype(np.int64), lengths], axis=-1).tolist()
        return {"height": height, "width": width, "runs": runs}

    def text(self, answer: Segmentation) -> str:
        """The share of the image that each class has, the largest first."""
        counts = np.bincount(answer.classes.ravel(), minlength=len(answer.labels))[: len(answer.labels)]
        order = [index for index in np.argsort(-counts, kind="stable") if counts[index]]
        return (
            "\t".join(
                f"{one_line(answer.labels[index])} {counts[index] / answer.classes.size:.1%}"
                for index in order
            )
            or "-"
        )


def interpolate(values: Array, places: Array, axis: int) -> Array:
    """Linear interpolation of `values` along `axis`, at `places` in [0, 1] of its length.

    The n values lie at (i + 0.5) / n; beyond the first and the last nothing changes any more. So torch's
    `interpolate(mode="bilinear", align_corners=False)` has it, one axis after the other.
    """
    count = values.shape[axis]
    position = np.clip(np.asarray(places) * count - 0.5, 0.0, count - 1.0)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, count - 1)
    shape = [1] * values.ndim
    shape[axis] = len(low)
    share = (position - low).astype(values.dtype).reshape(shape)
    below: Array = np.take(values, low, axis=axis)
    found: Array = np.take(values, high, axis=axis)
    found -= below
    found *= share
    found += below
    return found


def _inside(start: float, stop: float, size: int) -> Array:
    """Centres of the pixels of an axis that lie between `start` and `stop`."""
    centres = np.arange(size) + 0.5
    found: Array = centres[(centres >= start) & (centres < stop)]
    return found


def _classes(logits: Array, rows: Array, columns: Array) -> Array:
    """The class [rows, columns] at these places, in blocks of rows: all scores at once may not fit."""
    # With the classes last both the copies and the search for the highest go through memory in order.
    values = np.ascontiguousarray(np.moveaxis(logits, 0, -1), dtype=np.float32)
    step = max(1, _BLOCK // (len(logits) * len(columns)))
    found = np.empty((len(rows), len(columns)), dtype=np.uint16)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        found[part] = interpolate(interpolate(values, rows[part], 0), columns, 1).argmax(axis=-1)
    return found
