"""compile: model + target -> artifact, built by one backend in a worker and checked before it is kept."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

from edgekit.files.directories import new_directory, refuse_foreign
from edgekit.files.manifests import Manifest, verify, write_manifest
from edgekit.host.places import Place
from edgekit.stages.common import OnProgress, StageResult, announce, quiet, up_to_date
from edgekit.stages.compiling.building import Build
from edgekit.stages.compiling.keeping import Gates, Kept, build_and_check
from edgekit.stages.compiling.plan import (
    CompileOptions,
    CompilePlan,
    inputs,
    refuse_unsupported,
    settle,
    trial_identity,
)
from edgekit.stages.compiling.rebuilding import model_of_package
from edgekit.stages.compiling.reducing import Reduction
from edgekit.stages.compiling.tune_rows import TuneRows, read_tuning
from edgekit.stages.rows.reading import CalibrationRows, CalibrationSource, read_calibration
from edgekit.values import ArtifactTable, InputEntry
from edgekit_runtime.reader import is_package

__all__ = ["CompileOptions", "compile_model"]


def compile_model(
    model: Path | str,
    output: Path | str,
    options: CompileOptions | None = None,
    on_progress: OnProgress = quiet,
) -> StageResult:
    """Compile an exported model for one target; the result is an artifact directory.

    model: its directory, or a package that carries its source, compiled as its artifact was unless the
    options say otherwise; the model is then left at OUTPUT.model.

    Raises UnknownName or UsageError for names and options that do not exist, CompileFailed when
    the backend cannot build it, PrecisionNotGiven or ArtifactWrong (exit code 1) when the artifact
    does not execute in the precision asked for or disagrees with the model. Nothing is left then.
    """
    started = time.monotonic()
    model, output, options = Path(model), Path(output), options or CompileOptions()
    if is_package(model):
        model, options = model_of_package(model, output, options, on_progress)
    plan = settle(model, output, options)
    decided = inputs(plan)
    refuse_foreign(plan.output, "artifact")
    found = None if plan.options.force else up_to_date(plan.output, "artifact", decided)
    if found is not None:
        return announce("compile", StageResult(path=plan.output, manifest=found, up_to_date=True), started)
    verify(plan.model, plan.model_manifest)
    with plan.place.bringing_files() as place:
        manifest = _compile(plan, place, decided, on_progress)
    return announce("compile", StageResult(path=plan.output, manifest=manifest, up_to_date=False), started)


def _compile(
    plan: CompilePlan, place: Place, decided: tuple[InputEntry, ...], on_progress: OnProgress
) -> Manifest:
    on_progress(0, 0, "asking the backend")
    refuse_unsupported(plan, place, on_progress)
    gates = Gates(spec=plan.spec, keep_anyway=plan.options.keep_anyway, check_isa=plan.options.check_isa)
    with tempfile.TemporaryDirectory(prefix="edgekit-calibration-") as scratch:
        source = CalibrationSource(
            model=plan.model, table=plan.table, graphs=plan.graphs, workload=plan.promised
        )
        rows = read_calibration(plan.calibration, source, plan.draw, Path(scratch), on_progress)
        tuning = read_tuning(plan, rows)
        with new_directory(plan.output, "artifact") as work:
            reduction = _reduction(plan, place, decided, rows, tuning)
            kept = build_and_check(reduction, gates, work, on_progress)
            table = _table(plan, kept, rows, tuning)
            return write_manifest(work, name=plan.output.name, inputs=decided, table=table)


def _reduction(
    plan: CompilePlan,
    place: Place,
    decided: tuple[InputEntry, ...],
    rows: CalibrationRows,
    tuning: TuneRows,
) -> Reduction:
    build = Build(
        backend=plan.spec.name,
        graphs=plan.graphs,
        recipe=plan.recipe,
        target=plan.target,
        threads=plan.run.threads,
        timeout=plan.options.timeout,
        place=place,
        axes=plan.table.axes,
    )
    return Reduction(
        build=build,
        feeds=rows.feeds,
        model=plan.model,
        table=plan.table,
        run=plan.run,
        pair_seconds=plan.options.max_seconds,
        identity=trial_identity(plan, decided),
        tuning=tuning.tuning,
    )


def _table(plan: CompilePlan, kept: Kept, rows: CalibrationRows, tuning: TuneRows) -> ArtifactTable:
    compiled, findings = kept.reduced.compiled, kept.findings
    return ArtifactTable(
        target=dataclasses.replace(plan.target, origin=""),  # a path of this machine says nothing elsewhere
        backend=plan.spec.name,
        backend_version=plan.installed.version,
        precision=compiled.precision,
        recipe=kept.reduced.recipe,
        run=plan.run,
        signature=findings.signature,
        engine_versions=compiled.engine_versions,
        built_on=plan.place.machine,
        placement=findings.placement,
        notes=(
            *rows.notes,
            *tuning.notes,
            *compiled.notes,
            *kept.notes,
            *findings.notes(plan.target, plan.place.machine),
        ),
        row_digests=tuple(dict.fromkeys((*rows.digests, *tuning.digests))),
        calibration=rows.reported(compiled.ranges, tuning.warnings),
        earned=kept.reduced.earned,
        restored=kept.reduced.restored,
    )
