"""A lower precision, built beside a higher one: nodes put back where accuracy asks for it, and kept only
where it has earned its place.

    higher precision ── the same backend, in a scratch directory
    lower precision  ── restored on tune rows (search/restore.py), then timed beside the higher (speed.py)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.errors import PrecisionNotGiven
from edgekit.files.digests import value_digest
from edgekit.measuring.inputs import mixed_feeds
from edgekit.measuring.paired_score import drop_upper
from edgekit.search.groups import quantizable_groups
from edgekit.search.log import TrialLog
from edgekit.search.restore import TIME_UP, Search, restore
from edgekit.stages.answers.judging import JudgingOptions
from edgekit.stages.common import OnProgress
from edgekit.stages.compiling.building import Build
from edgekit.stages.compiling.speed import Candidate, Track, earned
from edgekit.stages.compiling.tuning import Trials, Tried
from edgekit.targets import within_ranges, workload_shapes
from edgekit.tasks import Row
from edgekit.values import Compiled, Earned, ModelTable, Recipe, Restored, RunSettings, Trial
from edgekit_runtime.errors import HardwareMissing
from edgekit_runtime.goldens import read_goldens
from edgekit_runtime.session import Feeds

#: Precisions that must earn their place beside `HIGH`.
QUANTIZED = ("int8", "fp8", "int8-weights", "int4-weights")
HIGH = "fp32"
ANYWAY = "choose another --precision or --precision auto, or --keep-anyway to look at it"
_TIMED_FEEDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Rows that choose which nodes stay high. budget: points that the accuracy may drop; seconds: for the
    search; log: where its trials are kept until it is over; digest: of the rows' file."""

    rows: Sequence[Row]
    budget: float
    seconds: float
    log: Path
    digest: str
    how: JudgingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """What is asked for. build: in the lower precision; feeds: calibration rows by part; pair_seconds: for
    timing both precisions, 0 for no timing; identity: what decides how trials come out, for the log;
    keep_anyway: built though the search reached no accuracy within the budget."""

    build: Build
    feeds: Mapping[str, Path]
    model: Path
    table: ModelTable
    run: RunSettings
    pair_seconds: float
    identity: object
    tuning: Tuning | None = None
    keep_anyway: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduced:
    """What was built, and why it is so. recipe: with the nodes that were put back."""

    compiled: Compiled
    recipe: Recipe
    earned: Earned | None = None
    restored: Restored | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def refusal(self) -> str:
        """Why it should not be kept, "" when it should."""
        if self.restored is not None and not self.restored.reached:
            return f"{self.recipe.precision}: {self.restored.reason}"
        return "" if self.earned is None else self.earned.refusal


def build_higher(reduction: Reduction, work: Path, on_progress: OnProgress) -> Compiled:
    """The same model by the same backend in the higher precision, nothing kept apart."""
    build = reduction.build
    recipe = replace(build.recipe, precision=HIGH, keep_high=())
    return replace(build, recipe=recipe).into(work, {}, on_progress)


def build_alone(reduction: Reduction, work: Path, why: str, on_progress: OnProgress) -> Reduced:
    """The lower precision where the higher one cannot be built: for want of kernels, or because the graph was
    quantized before it came here. why: in words."""
    compiled = reduction.build.into(work, reduction.feeds, on_progress)
    note = f"{compiled.precision} was compared with no higher precision: {HIGH} cannot be built: {why}"
    return Reduced(compiled=compiled, recipe=reduction.build.recipe, notes=(note,))


def reduce_precision(reduction: Reduction, work: Path, higher: Path, on_progress: OnProgress) -> Reduced:
    """Build the lower precision into `work`, which is empty, beside the artifact at `higher`.

    Raises PrecisionNotGiven where no accuracy within the budget was found, unless it is kept anyway. Where
    neither can be run for want of hardware, no node is put back, and a note says so.
    """
    restored: Restored | None = None
    notes: tuple[str, ...] = ()
    if reduction.tuning is not None:
        try:
            restored = _restored(reduction, reduction.tuning, higher, on_progress)
        except HardwareMissing as missing:
            notes = (f"unproven: accuracy_drop chose no node to keep high: {missing.message}",)
    build = reduction.build
    recipe = build.recipe
    if restored is not None and restored.groups:
        nodes = _nodes(build, restored.groups)
        recipe = replace(recipe, keep_high=tuple(dict.fromkeys((*recipe.keep_high, *nodes))))
    compiled = replace(build, recipe=recipe).into(work, reduction.feeds, on_progress)
    low = Candidate(directory=work, precision=compiled.precision)
    found = earned(low, Candidate(directory=higher, precision=HIGH), _track(reduction), on_progress)
    return Reduced(compiled=compiled, recipe=recipe, earned=found, restored=restored, notes=notes)


# --- restoring ---------------------------------------------------------------------------------------


def _restored(reduction: Reduction, tuning: Tuning, higher: Path, on_progress: OnProgress) -> Restored:
    quantized = reduction.build.recipe.precision in QUANTIZED  # 16 bits hold for the whole graph
    trials = Trials(_tried(reduction, tuning), higher, HIGH)
    key = value_digest([reduction.identity, reduction.build.recipe.precision, tuning.digest])
    log = TrialLog(tuning.log, key)
    ends = time.monotonic() + tuning.seconds
    search = Search(
        groups=quantizable_groups(reduction.build.graphs) if quantized else (),
        attempt=log.remembering(trials.attempt),
        good=within(tuning.budget, len(tuning.rows), tuning.how.confidence),
        over=lambda: time.monotonic() >= ends,
        tell=lambda what: on_progress(0, 0, f"restoring accuracy: {what}"),
    )
    found = restore(search)
    if found.reached:
        log.remove()
    elif not reduction.keep_anyway:
        raise _unreached(reduction.build.recipe.precision, found, tuning)
    return found


def _unreached(precision: str, found: Restored, tuning: Tuning) -> PrecisionNotGiven:
    reason, hint = found.reason, ANYWAY
    if reason.startswith(TIME_UP):
        reason = reason.replace(TIME_UP, f"{TIME_UP} (--time-limit {tuning.seconds:g})", 1)
        again = f"run it again, perhaps with a longer --time-limit: it goes on from {tuning.log.name}"
        hint = f"{again}; or {ANYWAY}"
    return PrecisionNotGiven(f"{precision}: {reason}", hint=hint)


def within(budget: float, rows: int, confidence: float) -> Callable[[Trial], bool]:
    """Whether a trial's accuracy is within the budget, in points.

    Proven, where so many rows can prove it at all; else an estimate of at most half of it is taken.
    """
    provable = 100.0 * drop_upper(0, 0, rows, 1.0 - confidence) <= budget

    def good(trial: Trial) -> bool:
        if trial.drop is None:
            return False
        if provable:
            return trial.drop.high is not None and trial.drop.high <= budget
        return trial.drop.estimate <= budget / 2

    return good


def _tried(reduction: Reduction, tuning: Tuning) -> Tried:
    return Tried(
        build=reduction.build,
        feeds=reduction.feeds,
        model=reduction.model,
        table=reduction.table,
        run=reduction.run,
        rows=tuning.rows,
        timed=_timed(reduction),
        how=tuning.how,
    )


def _timed(reduction: Reduction) -> list[Feeds]:
    signature, shapes = reduction.table.signature, _shapes(reduction)
    examples = [golden.feeds for golden in read_goldens(reduction.model / "golden")]
    count = max(_TIMED_FEEDS, 2 * len(shapes))
    return list(mixed_feeds(signature, shapes, examples, count=count, seed=reduction.build.recipe.seed))


def _shapes(reduction: Reduction) -> tuple[Mapping[str, int], ...]:
    """Of the workload, as far as the model goes: `validate` refuses one beyond it, compile need not."""
    found = workload_shapes(reduction.build.target.workload, reduction.table.signature)
    return within_ranges(found.shapes, reduction.table.axes)


def _nodes(build: Build, groups: Sequence[str]) -> list[str]:
    found = {group.name: group.nodes for group in quantizable_groups(build.graphs)}
    return [node for name in groups for node in found[name]]


def _track(reduction: Reduction) -> Track:
    return Track(
        backend=reduction.build.backend,
        run=reduction.run,
        target=reduction.build.target,
        signature=reduction.table.signature,
        shapes=_shapes(reduction),
        golden=reduction.model / "golden",
        seconds=reduction.pair_seconds,
        seed=reduction.build.recipe.seed,
        place=reduction.build.place,
    )
