"""Metrics by name: `load_metric("macro-f1")`, or a function of the user's own.

base.py     what a metric is
labels.py   accuracy, top-K, macro-f1, micro-f1, labels-f1     tags.py     entity-f1, tag-accuracy
spans.py    exact-match, span-f1 (question answering)          speech.py   wer
characters.py  chrf (generated text)
boxes.py    map (object detection)                             masks.py    miou (segmentation)
numbers.py  rmse, mae, spearman, cosine, perplexity            users.py    a function of the user's own
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec

from edgekit.errors import UnknownName
from edgekit.files.tables import nearest
from edgekit.measuring.metrics.base import ANY, Metric, missing_library
from edgekit.measuring.metrics.boxes import MeanAveragePrecision
from edgekit.measuring.metrics.characters import ChrF
from edgekit.measuring.metrics.labels import Accuracy, LabelsF1, MacroF1, MicroF1, TopK
from edgekit.measuring.metrics.masks import MeanIoU
from edgekit.measuring.metrics.numbers import Cosine, Distance, Perplexity, Spearman
from edgekit.measuring.metrics.spans import ExactMatch, SpanF1
from edgekit.measuring.metrics.speech import WordErrorRate
from edgekit.measuring.metrics.tags import EntityF1, TagAccuracy
from edgekit.measuring.metrics.users import load_users_metric

BUILT_IN: Mapping[str, Callable[[], Metric]] = {
    "accuracy": Accuracy,
    "top-5": lambda: TopK(5),
    "macro-f1": MacroF1,
    "micro-f1": MicroF1,
    "labels-f1": LabelsF1,
    "entity-f1": EntityF1,
    "tag-accuracy": TagAccuracy,
    "exact-match": ExactMatch,
    "span-f1": SpanF1,
    "chrf": ChrF,
    "map": MeanAveragePrecision,
    "miou": MeanIoU,
    "wer": WordErrorRate,
    "perplexity": Perplexity,
    "spearman": Spearman,
    "cosine": Cosine,
    "rmse": lambda: Distance(squared=True),
    "mae": lambda: Distance(squared=False),
}
#: What a metric imports beyond edgekit's own dependencies.
_NEEDS = {"entity-f1": "seqeval", "map": "pycocotools", "spearman": "scipy", "wer": "jiwer"}
_TOP = re.compile(r"top-([1-9][0-9]{0,3})")


def load_metric(name: str) -> Metric:
    """The metric of that name ("top-3" and the like too), or the function that "place:function" names.

    Raises UnknownName, or UsageError for a function that cannot be had.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]()
    top = _TOP.fullmatch(name)
    if top:
        return TopK(int(top[1]))
    if ":" in name:
        return load_users_metric(name)
    raise UnknownName(
        f"unknown metric {name!r}",
        hint=f"{nearest(name, BUILT_IN)} Or give your own: path/file.py:function",
    )


def check_library(metric: Metric) -> None:
    """Raise MissingDependency, before rows are run for nothing, when the metric's library is not here."""
    needed = _NEEDS.get(metric.name)
    if needed is not None and find_spec(needed) is None:
        raise missing_library(metric.name, needed, "it is not installed")


def metrics_for(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the built-in metrics that judge answers of these kinds."""
    return tuple(name for name, make in BUILT_IN.items() if make().takes in (*kinds, ANY))


__all__ = ["BUILT_IN", "Metric", "check_library", "load_metric", "metrics_for"]
