"""Trials of artifacts on rows that choose the recipe. The rows that judge it are others."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import NothingLowered
from edgekit.host.sessions import open_remote
from edgekit.search.groups import Group
from edgekit.stages.answers.asking import Asker
from edgekit.stages.answers.judging import AnswerForm, JudgingOptions, compared
from edgekit.stages.common import quiet
from edgekit.stages.compiling.building import Build
from edgekit.tasks import Row, load_task
from edgekit.values import ModelTable, RunSettings, Trial
from edgekit_runtime.clock import TimingPlan
from edgekit_runtime.session import Array, Feeds

#: Runs whose outputs are kept in memory to compare numbers; answers are compared on all rows.
KEPT_RUNS = 64
#: Rows put to a session in one call.
_CHUNK = 64
_TIMING = TimingPlan(warmup_runs=10, max_runs=40, max_seconds=2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What is tried: builds of one model in a lower precision, on the tune rows.

    feeds: calibration rows by part; timed: feeds at the workload, for the latency.
    """

    build: Build
    feeds: Mapping[str, Path]
    model: Path
    table: ModelTable
    run: RunSettings
    rows: Sequence[Row]
    timed: Sequence[Feeds]
    how: JudgingOptions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """One artifact's answers to every row, the outputs of the first runs, and its least latency."""

    answers: tuple[Any, ...]
    outputs: tuple[Mapping[str, Array], ...]
    ms: float


class Trials:
    """Tries artifacts beside the one of the higher precision at `high`, which is asked once."""

    def __init__(self, tried: Tried, high: Path, precision: str) -> None:
        self._tried = tried
        self._form = AnswerForm(load_task(tried.table.task), tried.how.metric)
        self._asker = Asker(
            self._form.task, tried.table.labels, tried.model / "processor", tried.table.signature
        )
        self._high = self._look(high, precision)

    def attempt(self, kept: Sequence[Group]) -> Trial:
        """Build the lower precision with these groups in the higher one, and look at it.

        With every group kept it is built all the same: groups need not hold all that a backend lowers. Where
        the backend says that nothing is left to lower, it is the artifact of the higher precision.
        """
        build = self._tried.build
        nodes = tuple(node for group in kept for node in group.nodes)
        recipe = replace(build.recipe, keep_high=(*build.recipe.keep_high, *nodes))
        with tempfile.TemporaryDirectory(prefix="edgekit-trial-") as name:
            work = Path(name)
            try:
                replace(build, recipe=recipe).into(work, self._tried.feeds, quiet)
            except NothingLowered:
                if not kept:
                    raise
                return replace(self._trial(kept, self._high), lowered=False)
            return self._trial(kept, self._look(work, recipe.precision))

    def _trial(self, kept: Sequence[Group], seen: _Seen) -> Trial:
        record = compared(self._form, (self._high.answers, seen.answers), self._tried.rows, self._tried.how)
        return Trial(
            kept=tuple(group.name for group in kept),
            error=output_error(self._high.outputs, seen.outputs),
            flips=record.flips,
            ms=seen.ms,
            drop=record.drop,
        )

    def _look(self, directory: Path, precision: str) -> _Seen:
        run, backend = self._tried.run, self._tried.build.backend
        with (
            self._tried.build.place.worker(run.threads) as worker,
            open_remote(worker, directory, backend, precision, run) as session,
        ):
            answers: list[Any] = []
            outputs: list[Mapping[str, Array]] = []
            for start in range(0, len(self._tried.rows), _CHUNK):
                rows = self._tried.rows[start : start + _CHUNK]
                asked = [(row, self._asker.runs(row)) for row in rows]
                found = session.run_many([each.feeds for _, runs in asked for each in runs])
                outputs += found[: max(0, KEPT_RUNS - len(outputs))]
                given = iter(found)
                answers += [
                    self._asker.answer(row, runs, [next(given) for _ in runs], self._form.of_answer)
                    for row, runs in asked
                ]
            timing = session.time_runs(self._tried.timed, _TIMING)
        return _Seen(answers=tuple(answers), outputs=tuple(outputs), ms=min(timing.wall_ns) / 1e6)


def output_error(expected: Sequence[Mapping[str, Array]], got: Sequence[Mapping[str, Array]]) -> float:
    """Mean over runs of the root mean square difference, as a share of the expected outputs' own.

    Only outputs of floats count; a run whose outputs have another shape or are not finite counts as 1.
    """
    errors = [_run_error(*pair) for pair in zip(expected, got, strict=True)]
    return float(np.mean(errors)) if errors else 0.0


def _run_error(expected: Mapping[str, Array], got: Mapping[str, Array]) -> float:
    off = size = 0.0
    for name, wanted in expected.items():
        if wanted.dtype.kind != "f":
            continue
        found = got.get(name)
        if found is None or found.shape != wanted.shape or not np.isfinite(found).all():
            return 1.0
        values = wanted.astype(np.float64)
        off += float(np.square(found.astype(np.float64) - values).sum())
        size += float(np.square(values).sum())
    return min(1.0, float(np.sqrt(off / size))) if size else 0.0
