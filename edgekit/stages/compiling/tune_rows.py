"""Rows that choose which nodes stay high: given, or rows of the calibration file beside those drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import DataError, UsageError
from edgekit.files.digests import value_digest
from edgekit.stages.answers.asking import Asker
from edgekit.stages.answers.judging import JudgingOptions, needs_labels
from edgekit.stages.compiling.plan import CompilePlan
from edgekit.stages.compiling.reducing import Tuning
from edgekit.stages.rows.calibration_report import Statistics, unlike
from edgekit.stages.rows.drawing import different_rows
from edgekit.stages.rows.reading import CalibrationRows
from edgekit.tasks import Row
from edgekit.tasks.data import each_row
from edgekit_runtime.errors import MissingDependency

#: Fewer rows choose nothing: one answer more or less would decide.
LEAST_ROWS = 50
#: Runs of tune rows that calibration rows are compared with; more tell no more.
_COMPARED = 300
_HOW = "; --tune-data gives some"


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneRows:
    """tuning: None when nodes are not chosen; digests: of the rows; notes: for the manifest; warnings: how
    the calibration rows differ from them."""

    tuning: Tuning | None = None
    digests: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_tuning(plan: CompilePlan, calibrated: CalibrationRows) -> TuneRows:
    """The tune rows of a plan whose target limits the drop of accuracy, of which none is calibrated on.

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
    if given is not None:
        return _given(plan, Path(given), calibrated)
    if plan.calibration is None:
        return _not_tuned("no rows were given to choose nodes by")
    try:
        needed = needs_labels(plan.task, "")
    except (UsageError, MissingDependency) as problem:
        return _not_tuned(problem.message)
    if calibrated.unlabelled and (needed or not calibrated.spare):
        return _not_tuned(calibrated.unlabelled)
    if len(calibrated.spare) < LEAST_ROWS:
        return _not_tuned(f"{len(calibrated.spare)} rows are left beside calibration")
    return _tuning(plan, calibrated.spare, "rows of the calibration file that are not calibrated on")


def _given(plan: CompilePlan, path: Path, calibrated: CalibrationRows) -> TuneRows:
    """At most as many as asked for, drawn by seed; different from each other and from those calibrated on."""
    found = each_row(
        path,
        task=plan.task,
        labels=plan.table.labels,
        mapped=plan.mapped,
        need_label=needs_labels(plan.task, ""),
    )
    rows = different_rows(found, plan.options.tune_rows, plan.options.seed, set(calibrated.digests))
    if len(rows) < LEAST_ROWS:
        raise DataError(
            f"{path}: {len(rows)} rows are too few to choose nodes by",
            hint=f"give at least {LEAST_ROWS} labelled rows that are not calibrated on",
        )
    return _tuning(plan, rows, f"rows of {path.name}", _compared(plan, rows, calibrated))


def _compared(plan: CompilePlan, rows: Sequence[Row], calibrated: CalibrationRows) -> tuple[str, ...]:
    if calibrated.seen is None:
        return ()
    asker = Asker(plan.task, plan.table.labels, plan.model / "processor", plan.table.signature)
    there = Statistics(plan.table.signature)
    for row in rows[:_COMPARED]:
        for run in asker.runs(row):
            there.see(run.feeds)
    return tuple(unlike(calibrated.seen, there, "tune rows"))


def _not_tuned(why: str) -> TuneRows:
    return TuneRows(notes=(f"accuracy was not tuned: {why}{_HOW}",))


def _tuning(plan: CompilePlan, rows: Sequence[Row], where: str, warnings: tuple[str, ...] = ()) -> TuneRows:
    digests = tuple(row.digest for row in rows)
    tuning = Tuning(
        rows=rows,
        budget=plan.drop or 0.0,
        seconds=plan.options.time_limit,
        log=plan.output.with_name(f"{plan.output.name}.trials.jsonl"),
        digest=value_digest(digests),
        how=JudgingOptions(seed=plan.options.seed),
    )
    notes = (f"tuned on {len(rows):,} {where}",)
    return TuneRows(tuning=tuning, digests=digests, notes=notes, warnings=warnings)
