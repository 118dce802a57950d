"""compile: model + target -> artifact, built by one backend in a worker and checked before it is kept."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

from edgekit.files.directories import new_directory, refuse_foreign
from edgekit.files.manifests import verify, write_manifest
from edgekit.stages.building import Build
from edgekit.stages.common import OnProgress, StageResult, announce, quiet, up_to_date
from edgekit.stages.compile_plan import CompileOptions, CompilePlan, inputs, refuse_unsupported, settle
from edgekit.stages.keeping import Gates, Kept, build_and_check
from edgekit.stages.reducing import Reduction
from edgekit.stages.rows import CalibrationRows, CalibrationSource, read_calibration
from edgekit.stages.tune_rows import TuneRows, read_tuning
from edgekit.values import ArtifactTable
from edgekit_runtime.machine import read_machine

__all__ = ["CompileOptions", "compile_model"]


def compile_model(
    model: Path | str,
    output: Path | str,
    options: CompileOptions | None = None,
    on_progress: OnProgress = quiet,
) -> StageResult:
    """Compile an exported model for one target; the result is an artifact directory.

    Raises UnknownName or UsageError for names and options that do not exist, CompileFailed when
    the backend cannot build it, PrecisionNotGiven or ArtifactWrong (exit code 1) when the artifact
    does not execute in the precision asked for or disagrees with the model. Nothing is left then.
    """
    started = time.monotonic()
    plan = settle(Path(model), Path(output), options or CompileOptions())
    decided = inputs(plan)
    refuse_foreign(plan.output, "artifact")
    found = None if plan.options.force else up_to_date(plan.output, "artifact", decided)
    if found is not None:
        return announce("compile", StageResult(path=plan.output, manifest=found, up_to_date=True), started)
    verify(plan.model, plan.model_manifest)
    on_progress(0, 0, "asking the backend")
    refuse_unsupported(plan)
    gates = Gates(spec=plan.spec, keep_anyway=plan.options.keep_anyway, check_isa=plan.options.check_isa)
    with tempfile.TemporaryDirectory(prefix="edgekit-calibration-") as scratch:
        source = CalibrationSource(model=plan.model, table=plan.table, graphs=plan.graphs)
        rows = read_calibration(plan.calibration, source, plan.draw, Path(scratch), on_progress)
        tuning = read_tuning(plan, rows.digests)
        with new_directory(plan.output, "artifact") as work:
            kept = build_and_check(_reduction(plan, rows, tuning), gates, work, on_progress)
            table = _table(plan, kept, rows, tuning)
            manifest = write_manifest(work, name=plan.output.name, inputs=decided, table=table)
    return announce("compile", StageResult(path=plan.output, manifest=manifest, up_to_date=False), started)


def _reduction(plan: CompilePlan, rows: CalibrationRows, tuning: TuneRows) -> Reduction:
    build = Build(
        backend=plan.spec.name,
        graphs=plan.graphs,
        recipe=plan.recipe,
        target=plan.target,
        threads=plan.run.threads,
        timeout=plan.options.timeout,
    )
    return Reduction(
        build=build,
        feeds=rows.feeds,
        model=plan.model,
        table=plan.table,
        run=plan.run,
        pair_seconds=plan.options.max_seconds,
        identity=[entry.digest for entry in inputs(plan)],
        tuning=tuning.tuning,
    )


def _table(plan: CompilePlan, kept: Kept, rows: CalibrationRows, tuning: TuneRows) -> ArtifactTable:
    compiled, findings = kept.reduced.compiled, kept.findings
    return ArtifactTable(
        target=dataclasses.replace(plan.target, origin=""),  # a path of this machine says nothing elsewhere
        backend=plan.spec.name,
        backend_version=plan.entry.version,
        precision=compiled.precision,
        recipe=kept.reduced.recipe,
        run=plan.run,
        signature=findings.signature,
        engine_versions=compiled.engine_versions,
        built_on=read_machine(),
        placement=findings.placement,
        notes=(*rows.notes, *tuning.notes, *compiled.notes, *kept.notes, *findings.notes(plan.target)),
        row_digests=tuple(dict.fromkeys((*rows.digests, *tuning.digests))),
        earned=kept.reduced.earned,
        restored=kept.reduced.restored,
    )
