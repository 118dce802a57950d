"""Goldens at the workload's shape, which recorded ones hardly ever have.

A recorded row is repeated or cut to the sizes of the workload, and the model answers it in the reference
backend. An engine that treats this one shape apart, as one that is compiled for it does, is judged there too.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.errors import BackendUnavailable, TargetFileError, WorkerError
from edgekit.host.reference import open_reference_model
from edgekit.host.sessions import RemoteSession
from edgekit.measuring.inputs import feeds_count, sizes_of
from edgekit.stages.answers.golden import judge
from edgekit.targets import shape_text, within_ranges, workload_shapes
from edgekit.values import GoldenRecord, ModelTable, Outcome, Workload
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.goldens import Golden, read_goldens
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.values import Signature

#: Cases of each shape, fewer where their feeds would be large.
MOST_CASES, MOST_BYTES = 4, 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapedGoldens:
    """Goldens of every shape of a workload that no recorded golden has.

    where: those shapes in words, "" when there are none; unchecked: why there are no goldens of them.
    """

    goldens: tuple[Golden, ...] = ()
    where: str = ""
    unchecked: str = ""


class Answers:
    """What a model answers, to judge artifacts by: its goldens, and those at a workload's shape."""

    def __init__(self, model: Path, table: ModelTable, workload: Workload) -> None:
        self.model = model
        self.table = table
        self._workload = workload

    @functools.cached_property
    def shaped(self) -> ShapedGoldens:
        """Made when first asked for, by running the model."""
        recorded = read_goldens(self.model / "golden")
        try:
            shapes = _shapes(self._workload, self.table, recorded)
        except TargetFileError as problem:  # `validate` refuses such a workload; a build does not need one
            return ShapedGoldens(where="the workload's shape", unchecked=problem.message)
        asked = list(_asked(self.table.signature, shapes, recorded))
        if not asked:
            return ShapedGoldens()
        where = "; ".join(map(shape_text, shapes))
        try:
            with open_reference_model(self.model, self.table) as session:
                outputs = session.run_many([feeds for _, feeds in asked])
        except (BackendUnavailable, RunFailed, WorkerError) as problem:
            return ShapedGoldens(where=where, unchecked=f"the model itself was not run: {problem.message}")
        found = tuple(
            Golden(name=name, feeds=feeds, outputs=answer)
            for (name, feeds), answer in zip(asked, outputs, strict=True)
            if all(np.isfinite(value).all() for value in answer.values())
        )
        unchecked = "" if found else "the model itself gives NaN or infinity there"
        return ShapedGoldens(goldens=found, where=where, unchecked=unchecked)


def check_shaped(
    session: RemoteSession, shaped: ShapedGoldens, table: ModelTable, precision: str
) -> GoldenRecord | None:
    """An opened artifact at the workload's shape, judged as goldens are; None where there are none."""
    goldens = shaped.goldens
    if not goldens:
        return None
    try:
        outputs = session.run_many([golden.feeds for golden in goldens])
    except RunFailed as problem:
        return GoldenRecord(
            cases=len(goldens),
            agreeing=0,
            max_abs_error=0.0,
            min_cosine=0.0,
            outcome=Outcome.FAIL,
            reason=f"it cannot run there: {problem.message}",
        )
    return judge(goldens, outputs, table, precision)


def _shapes(
    workload: Workload, table: ModelTable, recorded: Sequence[Golden]
) -> tuple[Mapping[str, int], ...]:
    """The workload's shapes as far as the model goes, without those that recorded goldens have."""
    found = within_ranges(workload_shapes(workload, table.signature).shapes, table.axes)
    known = [sizes_of(table.signature, golden.feeds) for golden in recorded]
    return tuple(shape for shape in found if dict(shape) not in known)


def _asked(
    signature: Signature, shapes: Sequence[Mapping[str, int]], recorded: Sequence[Golden]
) -> Iterator[tuple[str, Feeds]]:
    """Names and feeds, of unpadded goldens first: repeated padding is like nothing that a user feeds."""
    if not shapes or not recorded:
        return
    most = min(MOST_CASES, len(recorded))
    count = feeds_count(signature, shapes, most=most * len(shapes), limit=MOST_BYTES) // len(shapes)
    for shape in shapes:
        for golden in sorted(recorded, key=_is_padded)[:count]:
            feeds = {
                spec.name: _resized(golden.feeds[spec.name], spec.shape, shape) for spec in signature.inputs
            }
            yield f"{golden.name} at {shape_text(shape)}", feeds


def _is_padded(golden: Golden) -> bool:
    return any("mask" in name.casefold() and not value.all() for name, value in golden.feeds.items())


def _resized(value: Array, axes: Sequence[int | str], shape: Mapping[str, int]) -> Array:
    """`value` repeated or cut along its symbolic axes."""
    for place, axis in enumerate(axes):
        if isinstance(axis, str) and value.shape[place]:
            value = np.take(value, np.arange(shape[axis]) % value.shape[place], axis=place)
    return np.ascontiguousarray(value)
