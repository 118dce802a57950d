"""validate: artifact + test rows -> report. Golden agreement, accuracy, latency, memory, size, verdict."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from edgekit.devices import open_device
from edgekit.discovery import engine_versions, find_backend, load_backend
from edgekit.errors import UsageError
from edgekit.files.digests import file_digest
from edgekit.files.directories import new_directory, refuse_foreign
from edgekit.files.manifests import MANIFEST_NAME, Manifest, read_manifest, verify, write_manifest
from edgekit.host.client import WorkerClient
from edgekit.host.sessions import remote_machine
from edgekit.measuring.accuracy import overlapping
from edgekit.measuring.footprint import artifact_mib
from edgekit.measuring.inputs import fresh_feeds
from edgekit.measuring.launches import LaunchSetup, measure_launches
from edgekit.measuring.plan import MeasurementPlan, check_confidence
from edgekit.measuring.verdict import (
    Evidence,
    decider,
    figures,
    judge,
    measurement_notes,
    method_sentences,
    overall_verdict,
)
from edgekit.report import write_report_files
from edgekit.stages.common import (
    OnProgress,
    StageResult,
    announce,
    path_input,
    quiet,
    relative_path,
    up_to_date,
    value_input,
)
from edgekit.stages.observing import Observed, Subject, observe
from edgekit.stages.parents import Parent, find_parent, table_of
from edgekit.targets import (
    apply_budget,
    check_threads,
    has_budget,
    load_target,
    match_machine,
    usable_threads,
    workload_shape,
)
from edgekit.tasks import Mapped, Row, load_task
from edgekit.tasks.data import read_rows
from edgekit.values import (
    ArtifactTable,
    InputEntry,
    ModelTable,
    Outcome,
    ReportTable,
    Target,
)
from edgekit_runtime.goldens import read_goldens
from edgekit_runtime.session import Feeds
from edgekit_runtime.values import Machine

#: Different inputs in one launch, so that no cache of inputs or results can help.
FEEDS_PER_LAUNCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateOptions:
    """What may be asked of a validation.

    data: labelled rows that judge accuracy; columns, labels: how that file names them;
    model: the exported model, by default where the artifact's manifest says;
    target: a target to take budget and workload from, by default the artifact's own;
    budget: limits such as "latency_p90_ms=20", over the target's; no_budget: measure, judge nothing;
    confidence: one-sided, for every claim; max_seconds: for the launches;
    device: "local" or a device uri, by default the target's.
    """

    data: Path | str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    model: Path | str | None = None
    target: Target | Path | str = ""
    budget: tuple[str, ...] = ()
    no_budget: bool = False
    confidence: float = 0.99
    max_seconds: float = 120.0
    threads: int | None = None
    device: str = ""
    seed: int = 0
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Everything that is settled before anything is run."""

    artifact: Path
    manifest: Manifest
    table: ArtifactTable
    model: Parent
    model_table: ModelTable
    target: Target
    shape: Mapping[str, int]
    subject: Subject
    machine: Machine
    mismatches: tuple[str, ...]
    output: Path
    options: ValidateOptions


def validate(
    artifact: Path | str,
    output: Path | str | None = None,
    options: ValidateOptions | None = None,
    on_progress: OnProgress = quiet,
) -> StageResult:
    """Measure an artifact against its budget; the result is a report directory, ARTIFACT.report.

    The manifest's `report.verdict` is PASS only when every limit is proven at `confidence`. Raises
    UsageError without a budget (unless `no_budget`), DataError for rows the model cannot be judged
    on, DigestMismatch when a file was changed since it was made.
    """
    started = time.monotonic()
    plan = _settle(Path(artifact), Path(output) if output else None, options or ValidateOptions())
    rows = _rows(plan)
    inputs = _inputs(plan)
    refuse_foreign(plan.output, "report")
    verify(plan.artifact, plan.manifest)
    verify(plan.model.path, plan.model.manifest)
    found = None if plan.options.force else up_to_date(plan.output, "report", inputs)
    if found is not None and table_of(found.report).verdict is not Outcome.INCONCLUSIVE:
        return _finished(plan, found, started, fresh=False)
    with new_directory(plan.output, "report") as work:
        report = _measure(plan, rows, on_progress)
        draft = write_manifest(work, name=plan.output.name, inputs=inputs, table=report)
        write_report_files(work, draft)
        manifest = write_manifest(work, name=plan.output.name, inputs=inputs, table=report)
    return _finished(plan, manifest, started, fresh=True)


def _finished(plan: _Plan, manifest: Manifest, started: float, *, fresh: bool) -> StageResult:
    result = StageResult(path=plan.output, manifest=manifest, up_to_date=not fresh)
    return announce("validate", result, started, table_of(manifest.report).verdict)


def _settle(artifact: Path, output: Path | None, options: ValidateOptions) -> _Plan:
    check_confidence(options.confidence)
    manifest = read_manifest(artifact, "artifact")
    table = table_of(manifest.artifact)
    find_backend(table.backend)
    target = _target(table, options)
    model = find_parent(artifact, manifest, "model", options.model)
    run = dataclasses.replace(table.run, threads=options.threads or table.run.threads)
    device = open_device(options.device or target.device.uri)
    with WorkerClient(device) as worker:
        machine = remote_machine(worker)
    match = match_machine(target, machine)
    if match.ok or options.threads:
        check_threads(run.threads, machine)
    else:  # nothing here speaks for the target; its threads may be more than this machine has
        run = dataclasses.replace(run, threads=min(run.threads, usable_threads(machine)))
    subject = Subject(
        artifact=artifact,
        table=table,
        model=model.path,
        model_table=table_of(model.manifest.model),
        run=run,
        device=device,
    )
    return _Plan(
        artifact=artifact,
        manifest=manifest,
        table=table,
        model=model,
        model_table=subject.model_table,
        target=target,
        shape=workload_shape(target.workload, table.signature),
        subject=subject,
        machine=machine,
        mismatches=() if match.ok else match.reasons,
        output=output or artifact.with_name(artifact.name + ".report"),
        options=options,
    )


def _target(table: ArtifactTable, options: ValidateOptions) -> Target:
    given = options.target
    target = given if isinstance(given, Target) else load_target(given) if given else table.target
    target = apply_budget(target, options.budget)
    if options.no_budget:
        return dataclasses.replace(target, budget=type(target.budget)())
    if not has_budget(target.budget):
        raise UsageError(
            f"target {target.name!r} sets no budget, so there is nothing to prove",
            hint="give --budget latency_p90_ms=20, a --target with a [budget], or --no-budget",
        )
    return target


def _rows(plan: _Plan) -> tuple[Row, ...]:
    if plan.options.data is None:
        return ()
    task = load_task(plan.model_table.task)
    mapped = Mapped(columns=plan.options.columns, labels=plan.options.labels)
    return read_rows(Path(plan.options.data), task=task, labels=plan.model_table.labels, mapped=mapped)


def _inputs(plan: _Plan) -> tuple[InputEntry, ...]:
    options = plan.options
    settings = {
        "target": plan.target.name,
        "budget": plan.target.budget,
        "workload": plan.shape,
        "match": plan.target.match,
        "run": plan.subject.run,
        "confidence": options.confidence,
        "columns": options.columns,
        "labels": options.labels,
        "seed": options.seed,
        "judges": [metadata.version(name) for name in ("edgekit", "edgekit-runtime")],
        "backend": find_backend(plan.table.backend).version,
        "engine": engine_versions(load_backend(plan.table.backend)),
    }
    artifact = InputEntry(
        role="artifact",
        digest=file_digest(plan.artifact / MANIFEST_NAME),
        path=relative_path(plan.artifact, plan.output),
    )
    data = [path_input("data", Path(options.data))] if options.data else []
    return (artifact, *data, value_input("settings", settings), value_input("machine", plan.machine))


def _measure(plan: _Plan, rows: tuple[Row, ...], on_progress: OnProgress) -> ReportTable:
    setup = _launch_setup(plan)
    observed = observe(plan.subject, rows, setup.inputs(0)[0], on_progress)
    evidence = _evidence(plan, observed, rows)
    launches = measure_launches(
        setup,
        MeasurementPlan(max_seconds=plan.options.max_seconds),
        decider(plan.target.budget, evidence, plan.options.confidence),
        on_progress,
    )
    return _report(plan, observed, dataclasses.replace(evidence, launches=launches))


def _launch_setup(plan: _Plan) -> LaunchSetup:
    """Each launch gets fresh feeds at the workload's shape, drawn from what the goldens hold."""
    examples = [golden.feeds for golden in read_goldens(plan.model.path / "golden")]

    def inputs(number: int) -> Sequence[Feeds]:
        seed = plan.options.seed * 1_000_003 + number
        return fresh_feeds(plan.table.signature, plan.shape, examples, count=FEEDS_PER_LAUNCH, seed=seed)

    return LaunchSetup(
        start_worker=plan.subject.worker,
        directory=plan.artifact,
        backend=plan.table.backend,
        precision=plan.table.precision,
        run=plan.subject.run,
        inputs=inputs,
    )


def _evidence(plan: _Plan, observed: Observed, rows: tuple[Row, ...]) -> Evidence:
    gaps = {} if rows else {"accuracy_drop": "no labelled rows were given (--data)"}
    return Evidence(
        precision=plan.table.precision,
        device=plan.subject.run.device,
        batch=plan.shape.get("batch", 1),
        artifact_mib=artifact_mib(plan.manifest.files),
        placement=observed.placement,
        accuracy=observed.accuracy,
        overlap=overlapping((row.digest for row in rows), plan.table.row_digests),
        mismatches=plan.mismatches,
        gaps=gaps,
    )


def _report(plan: _Plan, observed: Observed, evidence: Evidence) -> ReportTable:
    confidence = plan.options.confidence
    checks = judge(plan.target.budget, evidence, confidence)
    found = figures(evidence.launches, confidence)
    return ReportTable(
        artifact_digest=plan.manifest.digest,
        artifact_manifest=file_digest(plan.artifact / MANIFEST_NAME),
        artifact_name=plan.manifest.name,
        backend=plan.table.backend,
        precision=plan.table.precision,
        verdict=overall_verdict(checks, observed.golden),
        confidence=confidence,
        checks=checks,
        machine=plan.machine,
        machine_is_target=not plan.mismatches,
        target_name=plan.target.name,
        workload=plan.shape,
        threads=plan.subject.run.threads,
        artifact_mib=evidence.artifact_mib or 0.0,
        golden=observed.golden,
        accuracy=observed.accuracy,
        placement=observed.placement,
        latency_p50_ms=found.latency_p50_ms,
        latency_p90_ms=found.latency_p90_ms,
        latency_p99_ms=found.latency_p99_ms,
        cold_start_ms=found.cold_start_ms,
        peak_memory_mib=found.peak_memory_mib,
        launches=evidence.launches,
        method=method_sentences(checks, confidence),
        notes=measurement_notes(evidence),
    )
