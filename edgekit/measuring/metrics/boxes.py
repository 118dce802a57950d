"""map: the mean average precision of object detection, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.measuring.metrics.base import BOXES, Numbers, check_rows, library, refuse

_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST_BOXES = 100
_HINT = 'give boxes such as {"box": [x, y, width, height], "label": "cat", "score": 0.9}'


@dataclass(frozen=True, slots=True)
class _Found:
    """One class in one image. matched, ignored: [IoU thresholds, boxes]; true: boxes that were there."""

    scores: Numbers
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    true: int


class MeanAveragePrecision:
    """Average precision at IoU 0.50 ... 0.95, mean over thresholds and over the classes of the truths
    (Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; 101 recalls, 100 boxes an image).

    An answer is a list of {"box": [x, y, width, height], "label", "score"}; a truth has no scores, and
    "crowd": true for a box that stands for many.
    """

    name, takes, higher_is_better = "map", BOXES, True

    def score(self, answers: Sequence[Any], truths: Sequence[Any]) -> float:
        """In [0, 1]."""
        return self.of_units(self.units(answers, truths))

    def right(self, answers: Sequence[Any], truths: Sequence[Any]) -> None:
        """A row is neither right nor wrong."""

    def units(self, answers: Sequence[Any], truths: Sequence[Any]) -> list[dict[str, _Found]]:
        """For each image, what was found of each class: boxes are matched by pycocotools."""
        check_rows(self.name, answers, truths)
        for row, (answer, truth) in enumerate(zip(answers, truths, strict=True)):
            _check(row, truth, ("box", "label"))
            _check(row, answer, ("box", "label", "score"))
        labels = sorted({str(box["label"]) for side in (answers, truths) for boxes in side for box in boxes})
        coco = library("pycocotools.coco", "pycocotools", self.name).COCO
        matcher = library("pycocotools.cocoeval", "pycocotools", self.name).COCOeval
        with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress
            sides = [_dataset(coco, boxes, labels) for boxes in (truths, answers)]
            evaluation = matcher(*sides, "bbox")
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
            evaluation.params.maxDets = [_MOST_BOXES]
            evaluation.evaluate()
        units: list[dict[str, _Found]] = [{} for _ in truths]
        for seen in evaluation.evalImgs:
            if seen is not None:
                units[seen["image_id"] - 1][labels[seen["category_id"] - 1]] = _Found(
                    np.asarray(seen["dtScores"], np.float64),
                    np.asarray(seen["dtMatches"]) > 0,
                    np.asarray(seen["dtIgnore"], bool),
                    int(np.sum(np.asarray(seen["gtIgnore"]) == 0)),
                )
        return units

    def of_units(self, units: Sequence[dict[str, _Found]]) -> float:
        """The mean over the classes that have true boxes; 0 when there are none."""
        by_class: dict[str, list[_Found]] = {}
        for image in units:
            for label, found in image.items():
                by_class.setdefault(label, []).append(found)
        means = [
            _average_precision(found) for found in by_class.values() if sum(one.true for one in found) > 0
        ]
        return float(np.mean(means)) if means else 0.0


def _average_precision(found: Sequence[_Found]) -> float:
    """Mean over IoU thresholds of the mean precision at 101 recalls, as COCOeval.accumulate has it."""
    true = sum(one.true for one in found)
    order = np.argsort(-np.concatenate([one.scores for one in found]), kind="mergesort")
    matched = np.concatenate([one.matched for one in found], axis=1)[:, order]
    counted = ~np.concatenate([one.ignored for one in found], axis=1)[:, order]
    right = np.cumsum(matched & counted, axis=1, dtype=np.float64)
    wrong = np.cumsum(~matched & counted, axis=1, dtype=np.float64)
    precision = right / np.maximum(right + wrong, np.spacing(1.0))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.concatenate([best, np.zeros((len(best), 1))], axis=1)  # recalls that are never reached
    places = [np.searchsorted(row, _RECALLS, side="left") for row in right / true]
    return float(np.mean(np.take_along_axis(best, np.array(places), axis=1)))


def _dataset(coco: Any, rows: Sequence[Any], labels: Sequence[str]) -> Any:
    """The boxes of one side as a COCO data set held in memory."""
    numbers = {label: place for place, label in enumerate(labels, start=1)}
    boxes = [(image, box) for image, found in enumerate(rows, start=1) for box in found]
    made = coco()
    made.dataset = {
        "images": [{"id": image} for image in range(1, len(rows) + 1)],
        "categories": [{"id": number, "name": label} for label, number in numbers.items()],
        "annotations": [
            {
                "id": place,
                "image_id": image,
                "category_id": numbers[str(box["label"])],
                "bbox": [float(side) for side in box["box"]],
                "area": float(box["box"][2]) * float(box["box"][3]),
                "iscrowd": int(bool(box.get("crowd", False))),
                "score": float(box.get("score", 1.0)),
            }
            for place, (image, box) in enumerate(boxes, start=1)
        ],
    }
    made.createIndex()
    return made


def _check(row: int, boxes: Any, keys: Sequence[str]) -> None:
    name = MeanAveragePrecision.name
    if isinstance(boxes, str) or not isinstance(boxes, Sequence):
        raise refuse(name, row, f"{boxes!r} is no list of boxes", _HINT)
    for box in boxes:
        if not isinstance(box, Mapping) or any(key not in box for key in keys):
            raise refuse(name, row, f"{box!r} lacks one of {', '.join(keys)}", _HINT)
        sides = [*box["box"], box.get("score", 0.0)] if isinstance(box["box"], Sequence) else []
        numbers = all(isinstance(side, int | float) and np.isfinite(side) for side in sides)
        if len(sides) != 5 or not numbers or sides[2] < 0 or sides[3] < 0:
            raise refuse(name, row, f"{box!r} has no box of four numbers, or no score that is one", _HINT)
