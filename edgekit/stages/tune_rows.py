"""Rows that choose which nodes stay high: given, or rows of the calibration file beside those drawn."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import DataError, UsageError
from edgekit.files.digests import value_digest
from edgekit.stages.compile_plan import CompilePlan
from edgekit.stages.judging import JudgingOptions, read_judging_rows
from edgekit.stages.reducing import Tuning
from edgekit.tasks import Row
from edgekit_runtime.errors import MissingDependency

#: Fewer rows choose nothing: one answer more or less would decide.
LEAST_ROWS = 50
_HOW = "; --tune-data gives some"


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneRows:
    """tuning: None when nodes are not chosen; digests: of the rows; notes: for the manifest."""

    tuning: Tuning | None = None
    digests: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_tuning(plan: CompilePlan, calibrated: Collection[str]) -> TuneRows:
    """The tune rows of a plan whose target limits the drop of accuracy. calibrated: digests of the
    calibration rows, of which none is taken.

    Raises UsageError for tune rows that nothing is to be done with, DataError for too few or unlabelled ones.
    """
    given = plan.options.tune_data
    if plan.drop is None:
        if given is not None:
            raise UsageError(
                "--tune-data chooses nodes of a quantized artifact by a limit on accuracy, and there is none",
                hint="give --budget accuracy_drop=POINTS and --precision int8 or auto",
            )
        return TuneRows()
    path = Path(given) if given is not None else plan.calibration
    if path is None:
        return TuneRows(notes=(f"accuracy was not tuned: no rows were given to choose nodes by{_HOW}",))
    try:
        rows = _rows(plan, path, calibrated)
    except (UsageError, MissingDependency) as problem:
        if given is not None:
            raise
        return TuneRows(notes=(f"accuracy was not tuned: {problem.message}{_HOW}",))
    if len(rows) < LEAST_ROWS:
        if given is not None:
            raise DataError(
                f"{path}: {len(rows)} rows are too few to choose nodes by",
                hint=f"give at least {LEAST_ROWS} labelled rows that are not calibrated on",
            )
        return TuneRows(
            notes=(f"accuracy was not tuned: {len(rows)} rows are left beside calibration{_HOW}",)
        )
    return _tuning(plan, rows, path, given is None)


def _rows(plan: CompilePlan, path: Path, calibrated: Collection[str]) -> Sequence[Row]:
    """At most as many as asked for, drawn by seed; different from each other and from those calibrated on."""
    found = read_judging_rows(path, plan.task, plan.table.labels, plan.mapped, "")
    own = {row.digest: row for row in found if row.digest not in calibrated}
    rows = list(own.values())
    most = plan.options.tune_rows
    return rows if len(rows) <= most else random.Random(plan.options.seed).sample(rows, most)


def _tuning(plan: CompilePlan, rows: Sequence[Row], path: Path, split: bool) -> TuneRows:
    digests = tuple(row.digest for row in rows)
    where = "rows of the calibration file that are not calibrated on" if split else f"rows of {path.name}"
    tuning = Tuning(
        rows=rows,
        budget=plan.drop or 0.0,
        seconds=plan.options.time_limit,
        log=plan.output.with_name(f"{plan.output.name}.trials.jsonl"),
        digest=value_digest(digests),
        how=JudgingOptions(seed=plan.options.seed),
    )
    return TuneRows(tuning=tuning, digests=digests, notes=(f"tuned on {len(rows):,} {where}",))
