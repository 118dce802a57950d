"""diff: two artifacts, packages or reports -> is NEW faster, slower, bigger, less accurate; and gates."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.errors import BackendUnavailable
from edgekit.host.remote import bringing_files
from edgekit.measuring.pairs import (
    LATENCY,
    Pair,
    decider,
    disturbed_pairs,
    measure_pairs,
    pair_records,
    paired_figures,
    stored_figures,
    unmeasured_figures,
)
from edgekit.measuring.plan import MeasurementPlan, check_confidence
from edgekit.report.wording import generated as generated_text
from edgekit.stages.common import OnProgress, quiet
from edgekit.stages.diffing.accuracy import (
    Judging,
    Seen,
    check_judging,
    look,
    paired_figure,
    stored_figure,
)
from edgekit.stages.diffing.gates import (
    SLOWER,
    Compared,
    Margins,
    check_gates,
    check_margins,
    judge_gates,
    size_figure,
)
from edgekit.stages.diffing.scene import Asked, NotHere, Scene, find_scene
from edgekit.stages.diffing.sides import Runnable, Side, open_side, placed
from edgekit.stages.verdicts import EXIT_CODES, worst_exit_code
from edgekit.values import (
    AccuracyRecord,
    Change,
    DiffFigure,
    DiffSide,
    DiffTable,
    PairRecord,
    PlacementChange,
    ReportTable,
    SettingChange,
)
from edgekit_runtime.values import Machine, Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffOptions:
    """What may be asked of a diff.

    fail_on: gates, of "slower", "less-accurate", "bigger", "fallback"; margin, size_margin: shares,
    accuracy_margin: points, that are not yet worse; confidence: one-sided, of every bound;
    max_seconds: for the pairs; threads, workload, device: for both, by default what their targets say;
    data: labelled rows that both answer; columns, labels: how that file names them; metric: what judges
    them, by default the task's own.
    """

    fail_on: tuple[str, ...] = ()
    margin: float = 0.05
    accuracy_margin: float = 0.5
    size_margin: float = 0.01
    confidence: float = 0.99
    max_seconds: float = 120.0
    threads: int | None = None
    workload: tuple[str, ...] = ()
    device: str = ""
    data: Path | str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    metric: str = ""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What was measured, or read from reports, of both."""

    old: DiffSide
    new: DiffSide
    figures: tuple[DiffFigure, ...]
    accuracy: DiffFigure
    record: AccuracyRecord | None = None
    overlap: int = 0
    threads: int | None = None
    workload: tuple[Mapping[str, int], ...] = ()
    machine: Machine | None = None
    pairs: tuple[PairRecord, ...] = ()
    notes: tuple[str, ...] = ()


def diff(
    old: Path | str, new: Path | str, options: DiffOptions | None = None, on_progress: OnProgress = quiet
) -> DiffTable:
    """Compare NEW with OLD: in paired launches where both run here, else from their reports.

    Raises UsageError for sides that cannot be compared, DigestMismatch, ManifestError or PackageError for
    a damaged one, BackendUnavailable when neither a backend nor reports can tell anything.
    """
    options = options or DiffOptions()
    check_confidence(options.confidence)
    gates = check_gates(options.fail_on)
    margins = Margins(latency=options.margin, accuracy=options.accuracy_margin, size=options.size_margin)
    check_margins(margins)
    judging = _judging(options)
    check_judging(judging)
    with ExitStack() as scratch:
        ours, theirs = open_side("OLD", Path(old), scratch), open_side("NEW", Path(new), scratch)
        asked = Asked(
            device=options.device, threads=options.threads, workload=options.workload, seed=options.seed
        )
        scene = find_scene(ours, theirs, asked)
        if isinstance(scene, NotHere):
            found = _from_reports(ours, theirs, scene, options)
        else:
            found = _measure((ours, theirs), _with_files(scene, scratch), judging, options, on_progress)
    figures = (*found.figures, size_figure(found.old, found.new), found.accuracy)
    compared = Compared(
        old=found.old,
        new=found.new,
        figures=figures,
        confidence=options.confidence,
        accuracy=found.record,
        overlap=found.overlap,
    )
    return DiffTable(
        old=found.old,
        new=found.new,
        confidence=options.confidence,
        margin=options.margin,
        figures=figures,
        gates=judge_gates(gates, compared, margins),
        threads=found.threads,
        workload=found.workload,
        machine=found.machine,
        pairs=found.pairs,
        settings=tuple(_settings(found.old, found.new)),
        placement=_placements(found.old.placement, found.new.placement),
        accuracy=found.record,
        notes=found.notes,
    )


def exit_code(table: DiffTable) -> int:
    """0 when every gate is PASS, or none was asked for; 1 for a FAIL; 5 for one that is undecided."""
    return worst_exit_code(EXIT_CODES[gate.outcome] for gate in table.gates)


def _judging(options: DiffOptions) -> Judging:
    return Judging(
        data=None if options.data is None else Path(options.data),
        columns=options.columns,
        labels=options.labels,
        metric=options.metric,
        confidence=options.confidence,
        seed=options.seed,
    )


# --- both run here ----------------------------------------------------------------------------------


def _with_files(scene: Scene, open_until: ExitStack) -> Scene:
    """The scene with a device that keeps what is brought there."""
    return dataclasses.replace(scene, device=open_until.enter_context(bringing_files(scene.device)))


def _measure(
    sides: tuple[Side, Side], scene: Scene, judging: Judging, options: DiffOptions, on_progress: OnProgress
) -> _Found:
    ours, theirs = (_runnable(side) for side in sides)
    plan = MeasurementPlan(max_seconds=options.max_seconds)
    seen = look(ours, theirs, scene, judging, on_progress)
    decide = decider(options.confidence, options.margin, gate=SLOWER in options.fail_on)
    pairs = measure_pairs(scene.setup(ours), scene.setup(theirs), plan, decide, on_progress)
    shown = [
        placed(side.shown, placement, run.run.device) if placement is not None else side.shown
        for side, run, placement in zip(sides, (ours, theirs), seen.placements, strict=True)
    ]
    return _Found(
        old=shown[0],
        new=shown[1],
        figures=paired_figures(pairs, options.confidence, options.margin),
        accuracy=_accuracy(sides, seen, options.confidence),
        record=seen.accuracy,
        overlap=seen.overlap,
        threads=scene.threads,
        workload=scene.shapes,
        machine=scene.machine,
        pairs=pair_records(pairs),
        notes=(*_generated_notes(sides, seen), *_pair_notes(scene, pairs)),
    )


def _runnable(side: Side) -> Runnable:
    if side.runnable is None:  # `find_scene` has seen to it
        raise BackendUnavailable(f"{side.role} cannot be run: {side.no_run}")
    return side.runnable


def _accuracy(sides: tuple[Side, Side], seen: Seen, confidence: float) -> DiffFigure:
    if seen.accuracy is not None:
        return paired_figure(seen.accuracy, seen.overlap, confidence)
    stored = stored_figure(*sides, confidence)
    if stored.change is not Change.NOT_MEASURED:
        return stored
    return dataclasses.replace(stored, reason=f"{stored.reason}; or give --data, and both answer the rows")


def _generated_notes(sides: tuple[Side, Side], seen: Seen) -> Iterator[str]:
    told = [
        f"{side.role} {generated_text(found)}"
        for side, found in zip(sides, seen.generated, strict=True)
        if found is not None
    ]
    if told:
        yield f"answers to the timed inputs have: {'; '.join(told)}"


def _pair_notes(scene: Scene, pairs: tuple[Pair, ...]) -> Iterator[str]:
    if scene.as_in_data:
        yield "the workload asks for lengths as in data; pairs are timed at its sizes instead"
    disturbed = sum(disturbed_pairs(pairs, LATENCY))
    if disturbed:
        yield (
            f"disturbed pairs: {disturbed} of {len(pairs)}; they count against whichever side is to be proven"
        )


# --- from reports -----------------------------------------------------------------------------------


def _from_reports(ours: Side, theirs: Side, scene: NotHere, options: DiffOptions) -> _Found:
    notes = [f"not paired: {scene.reason}"]
    gap = ours.no_report or theirs.no_report
    if gap and scene.backend:
        raise BackendUnavailable(
            f"{scene.reason}, and without it only reports can be compared: {gap}",
            hint="install it (`edgekit backend list` says what is there), or validate both where it runs",
        )
    old, new = (side.report.table if side.report is not None else None for side in (ours, theirs))
    accuracy = stored_figure(ours, theirs, options.confidence)
    if options.data is not None:
        notes.append("the rows of --data were not judged: both must run here for that")
    if options.threads or options.workload or options.device:
        notes.append("--threads, --workload and --device are for launches; reports are as they were made")
    if old is None or new is None:
        figures = unmeasured_figures(f"{scene.reason}; {gap}")
        return _Found(
            old=ours.shown, new=theirs.shown, figures=figures, accuracy=accuracy, notes=tuple(notes)
        )
    unlike = "; ".join(_unlike(old, new))
    if unlike:
        return _Found(
            old=ours.shown,
            new=theirs.shown,
            figures=unmeasured_figures(f"the two reports cannot be compared: {unlike}"),
            accuracy=accuracy,
            notes=tuple(notes),
        )
    return _Found(
        old=ours.shown,
        new=theirs.shown,
        figures=stored_figures(old.launches, new.launches, options.confidence, options.margin),
        accuracy=accuracy,
        threads=new.threads,
        workload=new.shapes or (new.workload,),
        machine=new.machine,
        notes=(*notes, "from stored samples, not paired: what changed on the machine between the two counts"),
    )


def _unlike(old: ReportTable, new: ReportTable) -> Iterator[str]:
    """In what the two measurements differ, so that times cannot be compared."""
    changed = [
        key for key in Machine.__dataclass_fields__ if getattr(old.machine, key) != getattr(new.machine, key)
    ]
    if changed:
        yield f"measured on different machines ({', '.join(changed)} differ)"
    if old.threads != new.threads:
        yield f"their thread counts differ (OLD {old.threads}, NEW {new.threads})"
    if (old.workload, old.shapes, old.workload_source) != (new.workload, new.shapes, new.workload_source):
        yield "different workloads"
    if (old.heat is None) != (new.heat is None):
        yield "only one was measured after heating up"


# --- what else is not the same ----------------------------------------------------------------------


def _settings(old: DiffSide, new: DiffSide) -> Iterator[SettingChange]:
    for key in ("backend", "precision", "target"):
        yield from _changed(key, getattr(old, key), getattr(new, key))
    if "report" in (old.kind, new.kind):
        return  # a report does not tell the rest
    yield from _changed("threads", str(old.threads), str(new.threads))
    yield from _changed("backend version", old.backend_version, new.backend_version)
    for name in sorted({*old.engine_versions, *new.engine_versions}):
        yield from _changed(
            f"engine {name}", old.engine_versions.get(name, ""), new.engine_versions.get(name, "")
        )
    same_backend = old.backend == new.backend  # else each has options that the other has not
    for name in sorted({*old.options, *new.options}):
        if same_backend or " option " not in name:
            yield from _changed(name, old.options.get(name, ""), new.options.get(name, ""))


def _changed(key: str, old: str, new: str) -> Iterator[SettingChange]:
    if old != new:
        yield SettingChange(key=key, old=old, new=new)


def _placements(old: Placement | None, new: Placement | None) -> tuple[PlacementChange, ...]:
    """One row for each precision and device in which either ran nodes; () when neither tells."""
    tables = [
        {(row.precision, row.device): row for row in side.rows} if side is not None else {}
        for side in (old, new)
    ]
    rows = []
    for key in sorted({*tables[0], *tables[1]}):
        ours, theirs = tables[0].get(key), tables[1].get(key)
        rows.append(
            PlacementChange(
                precision=key[0],
                device=key[1],
                old_nodes=ours.nodes if ours is not None else 0,
                new_nodes=theirs.nodes if theirs is not None else 0,
                old_time=ours.time_share if ours is not None else None,
                new_time=theirs.time_share if theirs is not None else None,
            )
        )
    return tuple(rows)
