"""compile: model + target -> artifact, built by one backend in a worker and checked before it is kept."""

from __future__ import annotations

import dataclasses
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.discovery import BackendEntry, engine_versions, find_backend, load_backend, missing_engine
from edgekit.errors import BackendUnavailable, ModelNotSupported, UnknownName, UsageError
from edgekit.files.directories import new_directory, refuse_foreign
from edgekit.files.manifests import Manifest, read_manifest, verify, write_manifest
from edgekit.files.tables import nearest
from edgekit.host.compiling import check_model
from edgekit.host.compiling import compile_model as compile_in_worker
from edgekit.stages.backends import engine_hint
from edgekit.stages.common import (
    OnProgress,
    StageResult,
    announce,
    quiet,
    relative_path,
    up_to_date,
    value_input,
)
from edgekit.stages.earning import Findings, check_artifact
from edgekit.stages.options import backend_options
from edgekit.stages.rows import CalibrationRows, Draw, data_input, read_calibration
from edgekit.targets import load_target, match_machine, runs_on
from edgekit.tasks import Mapped, load_task
from edgekit.values import (
    ArtifactTable,
    BackendSpec,
    Compiled,
    CompileRequest,
    InputEntry,
    ModelTable,
    Recipe,
    RunSettings,
    Target,
)
from edgekit_runtime.machine import read_machine
from edgekit_runtime.values import OptionValue

ONNX_NAME = "model.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """What may be asked of a compile; the defaults compile for this machine as its target says.

    target: a Target, a file, or a name; backend, precision: "" takes the target's;
    calibration: rows that int8 is calibrated on, at most `calibration_rows` of them;
    columns, labels: how that file names them; options: backend options by name;
    keep_high: ONNX nodes left in the model's precision; keep_anyway: keep what a gate refuses.
    """

    target: Target | Path | str = "this-machine"
    backend: str = ""
    precision: str = ""
    calibration: Path | str | None = None
    calibration_rows: int = 300
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    keep_high: tuple[str, ...] = ()
    keep_anyway: bool = False
    threads: int | None = None
    seed: int = 0
    force: bool = False
    timeout: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Everything that is settled before a compiler starts."""

    model: Path
    model_manifest: Manifest
    table: ModelTable
    output: Path
    target: Target
    entry: BackendEntry
    spec: BackendSpec
    recipe: Recipe
    run: RunSettings
    calibration: Path | None
    options: CompileOptions


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
    plan = _settle(Path(model), Path(output), options or CompileOptions())
    inputs = _inputs(plan)
    refuse_foreign(plan.output, "artifact")
    found = None if plan.options.force else up_to_date(plan.output, "artifact", inputs)
    if found is not None:
        return announce("compile", StageResult(path=plan.output, manifest=found, up_to_date=True), started)
    verify(plan.model, plan.model_manifest)
    on_progress(0, 0, "asking the backend")
    _refuse_unsupported(plan)
    with tempfile.TemporaryDirectory(prefix="edgekit-calibration-") as scratch:
        rows = read_calibration(plan.calibration, plan.model, plan.table, _draw(plan.options), Path(scratch))
        with new_directory(plan.output, "artifact") as work:
            compiled = compile_in_worker(
                plan.spec.name,
                _request(plan, work, rows),
                on_progress=on_progress,
                timeout=plan.options.timeout,
            )
            on_progress(0, 0, "checking the artifact against the model")
            findings = check_artifact(
                work, plan.model, plan.table, plan.spec, plan.recipe.precision, plan.run
            )
            findings.enforce(keep_anyway=plan.options.keep_anyway)
            table = _table(plan, compiled, findings, rows)
            manifest = write_manifest(work, name=plan.output.name, inputs=inputs, table=table)
    return announce("compile", StageResult(path=plan.output, manifest=manifest, up_to_date=False), started)


def _settle(model: Path, output: Path, options: CompileOptions) -> _Plan:
    manifest = read_manifest(model, "model")
    target = options.target if isinstance(options.target, Target) else load_target(options.target)
    name = options.backend or target.backend
    if not name:
        hint = 'give --backend, or put backend = "…" into the target file'
        raise UsageError(
            f"target {target.name!r} names no backend", hint=f"{hint}; `edgekit backend list` shows them"
        )
    entry, spec = find_backend(name), load_backend(name)
    precision = options.precision or target.precision
    _refuse_unbuildable(entry, spec, precision, target)
    threads = options.threads or target.run.threads
    run = RunSettings(
        threads=threads,
        device=target.run.device,
        options=backend_options(spec, "run", target.run.options, {}),
    )
    recipe = Recipe(
        precision=precision,
        options=backend_options(spec, "compile", target.compile.options, options.options),
        keep_high=options.keep_high,
        calibration_rows=options.calibration_rows if options.calibration else 0,
        seed=options.seed,
    )
    return _Plan(
        model=model,
        model_manifest=manifest,
        table=_model_table(manifest),
        output=output,
        target=target,
        entry=entry,
        spec=spec,
        recipe=recipe,
        run=run,
        calibration=Path(options.calibration) if options.calibration else None,
        options=options,
    )


def _model_table(manifest: Manifest) -> ModelTable:
    if manifest.model is None:
        raise UsageError("the manifest has no model table", hint="make the model with `edgekit export`")
    return manifest.model


def _refuse_unbuildable(entry: BackendEntry, spec: BackendSpec, precision: str, target: Target) -> None:
    if precision not in spec.precisions:
        raise UnknownName(
            f"backend {spec.name!r} does not build {precision!r}", hint=nearest(precision, spec.precisions)
        )
    arch = target.match.arch or platform.machine()
    if not runs_on(spec.arches, arch):
        raise UsageError(
            f"backend {spec.name!r} does not run on {arch}, which target {target.name!r} is",
            hint=f"it runs on {', '.join(spec.arches)}",
        )
    missing = missing_engine(spec)
    if missing:
        raise BackendUnavailable(
            f"backend {spec.name!r} is installed but its engine is not: {', '.join(missing)}",
            hint=engine_hint(entry),
        )
    if spec.builds_on == "target":
        match = match_machine(target, read_machine())
        if not match.ok:
            raise BackendUnavailable(
                f"backend {spec.name!r} builds on the target itself, and this is not {target.name!r}: "
                + "; ".join(match.reasons),
                hint="run `edgekit compile` on the target",
            )


def _refuse_unsupported(plan: _Plan) -> None:
    """Every operator that the backend will not take, named before anything is built."""
    support = check_model(plan.spec.name, plan.model / ONNX_NAME, plan.target)
    if support.supported:
        return
    refused = [row for row in support.operators if not row.supported]
    named = "; ".join(
        f"{row.op_type} ({row.count}): {row.reason or 'no reason given'}" for row in refused[:5]
    )
    raise ModelNotSupported(
        f"backend {plan.spec.name!r} does not take {plan.model}: {named or '; '.join(support.notes)}",
        hint=f"`edgekit backend check {plan.spec.name} --model {plan.model}` shows every operator",
    )


def _inputs(plan: _Plan) -> tuple[InputEntry, ...]:
    """What decides the artifact. The budget does not: a new limit needs no new artifact."""
    settings = {
        "target": plan.target.name,
        "hardware": plan.target.match,
        "workload": plan.target.workload,
        "recipe": plan.recipe,
        "run": plan.run,
        "backend": (plan.spec.name, plan.entry.version, engine_versions(plan.spec)),
        "columns": plan.options.columns,
        "labels": plan.options.labels,
        "keep_anyway": plan.options.keep_anyway,
    }
    model = InputEntry(
        role="model", digest=plan.model_manifest.digest, path=relative_path(plan.model, plan.output)
    )
    rows = [_calibration_input(plan, plan.calibration)] if plan.calibration else []
    return (model, *rows, value_input("settings", settings))


def _request(plan: _Plan, work: Path, rows: CalibrationRows) -> CompileRequest:
    return CompileRequest(
        model=(plan.model / ONNX_NAME).resolve(),
        signature=plan.table.signature,
        workdir=work.resolve(),
        precision=plan.recipe.precision,
        target=plan.target,
        options=plan.recipe.options,
        calibration=rows.feeds,
        keep_high=plan.recipe.keep_high,
        seed=plan.recipe.seed,
        threads=plan.run.threads,
    )


def _calibration_input(plan: _Plan, path: Path) -> InputEntry:
    task, mapped = load_task(plan.table.task), _draw(plan.options).mapped
    return data_input("calibration", path, task, mapped, need_label=False)


def _draw(options: CompileOptions) -> Draw:
    mapped = Mapped(columns=options.columns, labels=options.labels)
    return Draw(rows=options.calibration_rows, seed=options.seed, mapped=mapped)


def _table(plan: _Plan, compiled: Compiled, findings: Findings, rows: CalibrationRows) -> ArtifactTable:
    notes: Sequence[str] = (*compiled.notes, *findings.notes(plan.target))
    return ArtifactTable(
        target=dataclasses.replace(plan.target, origin=""),  # a path of this machine says nothing elsewhere
        backend=plan.spec.name,
        backend_version=plan.entry.version,
        precision=compiled.precision,
        recipe=plan.recipe,
        run=plan.run,
        signature=findings.signature,
        engine_versions=compiled.engine_versions,
        built_on=read_machine(),
        placement=findings.placement,
        notes=tuple(notes),
        row_digests=rows.digests,
    )
