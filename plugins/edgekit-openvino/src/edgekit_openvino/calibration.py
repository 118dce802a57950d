"""Calibration rows: read one at a time, and looked at before an hour is spent on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgekit.api import CompileFailed, Feeds, InputError, ProgressCallback, Signature, read_feeds
from edgekit_openvino.engine import ov
from edgekit_runtime.signatures import check_feeds

#: Rows on which the model is run to see that it gives numbers.
_TRIED = 8


class CalibrationRows:
    """The rows on disk, read anew in each of NNCF's passes, so that one row is in memory at a time.

    Raises `CompileFailed` when there are none, for a row that does not fit the model, that holds NaN or
    infinity, and for several rows that are all the same.
    """

    def __init__(self, directory: Path, signature: Signature, progress: ProgressCallback) -> None:
        self._directory = directory
        self._progress = progress
        self._passes = 0
        self._rows = sum(1 for _ in directory.glob("*.safetensors"))
        if self._rows < 1:
            raise CompileFailed(f"{directory} holds no calibration rows", hint="--calibration FILE")
        self._check(signature)

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[Feeds]:
        self._passes += 1
        for row, feeds in self._numbered():
            self._progress(row, self._rows, f"calibrating, pass {self._passes}")
            yield feeds

    def spread(self, count: int) -> Iterator[tuple[int, Feeds]]:
        """About `count` rows from all over the file, with their numbers."""
        step = max(1, self._rows // count)
        for row, feeds in self._numbered():
            if row % step == 0:
                self._progress(row, self._rows, "looking at calibration rows")
                yield row, feeds

    def _numbered(self) -> Iterator[tuple[int, Feeds]]:
        return enumerate(read_feeds(self._directory))

    def _check(self, signature: Signature) -> None:
        seen = set()
        for row, feeds in self._numbered():
            try:
                check_feeds(signature, feeds)
            except InputError as problem:
                raise CompileFailed(
                    f"calibration row {row + 1} does not fit the model: {problem.message}", hint=problem.hint
                ) from problem
            for name, value in feeds.items():
                if value.dtype.kind == "f" and not np.isfinite(value).all():
                    raise CompileFailed(
                        f"calibration row {row + 1} holds NaN or infinity in input {name!r}",
                        hint="take the row out, or look at how it was made",
                    )
            seen.add(_digest(feeds))
        if self._rows > 1 and len(seen) == 1:
            raise CompileFailed(
                f"all {self._rows} calibration rows are the same, so they tell no ranges",
                hint="give rows like those the model will see, each another one",
            )


def check_answers(core: ov.Core, model: ov.Model, rows: CalibrationRows) -> None:
    """Run some rows on the model as it is; raise `CompileFailed` naming the node that gives no number."""
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for row, feeds in rows.spread(_TRIED):
        answers = compiled(dict(feeds))
        if all(_is_finite(np.asarray(value)) for value in answers.values()):
            continue
        name = _first_without_number(core, model, feeds)
        raise CompileFailed(
            f"calibration row {row + 1} gives NaN or infinity"
            + (f", first in node {name!r}" if name else ""),
            hint="no range can be learnt from that: look at the row, and at the model's fp32 answers to it",
        )


def check_ranges(model: ov.Model) -> None:
    """Raise `CompileFailed` naming the node whose learnt range is no number."""
    for node in model.get_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        limits = [source.get_source_output().get_node() for source in node.inputs()[1:]]
        constants = [limit for limit in limits if limit.get_type_name() == "Constant"]
        if not all(np.isfinite(constant.get_data()).all() for constant in constants):
            name = node.input(0).get_source_output().get_node().get_friendly_name()
            raise CompileFailed(
                f"node {name!r} gives NaN or infinity on calibration rows, so it has no range",
                hint="look at the rows and at the fp32 answers to them; --keep-high leaves a node out",
            )


def _first_without_number(core: ov.Core, model: ov.Model, feeds: Feeds) -> str:
    """The first node in the graph's order whose inputs are numbers and whose output is not; "" if unseen."""
    seen = model.clone()
    named = [node for node in seen.get_ordered_ops() if _gives_one_float(node)]
    seen.add_outputs([node.output(0) for node in named])
    # An output of the model itself is not added again, so values are found by what feeds each result.
    sources = [result.input(0).get_source_output().get_node() for result in seen.get_results()]
    compiled = core.compile_model(seen, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers = compiled(dict(feeds))
    values = {source.get_friendly_name(): np.asarray(answers[place]) for place, source in enumerate(sources)}
    names = [str(node.get_friendly_name()) for node in named]
    return next((name for name in names if not _is_finite(values[name])), "")


def _gives_one_float(node: ov.Node) -> bool:
    if node.get_output_size() != 1 or node.get_type_name() in ("Parameter", "Constant", "Result"):
        return False
    return bool(node.get_output_element_type(0).is_real())


def _is_finite(value: np.ndarray) -> bool:
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())


def _digest(feeds: Feeds) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(feeds):
        digest.update(f"{name}{feeds[name].shape}".encode())
        digest.update(np.ascontiguousarray(feeds[name]).tobytes())
    return digest.digest()
