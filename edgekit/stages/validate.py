"""validate: artifact + test rows -> report. Golden agreement, accuracy, latency, memory, size, verdict."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from edgekit.files.digests import file_digest
from edgekit.files.directories import new_directory, refuse_foreign
from edgekit.files.manifests import MANIFEST_NAME, Manifest, verify, write_manifest
from edgekit.host.remote import bringing_files
from edgekit.measuring.accuracy import overlapping
from edgekit.measuring.footprint import artifact_mib
from edgekit.measuring.launches import Decide, LaunchSetup, expected_seconds, heat_up, measure_launches
from edgekit.measuring.plan import MeasurementPlan, Proof
from edgekit.measuring.verdict import (
    LAUNCH_KEYS,
    Evidence,
    decider,
    figures,
    judge,
    measurement_notes,
    method_sentences,
    overall_verdict,
)
from edgekit.report import write_report_files
from edgekit.stages.answers.judging import JudgingOptions
from edgekit.stages.answers.observing import Observed, TimedInputs, observe, observe_answers, unopened
from edgekit.stages.common import OnProgress, StageResult, announce, quiet, up_to_date
from edgekit.stages.parents import table_of
from edgekit.stages.validating.inputs import MeasuringInputs, Model, row_inputs, shaped_inputs
from edgekit.stages.validating.reproducing import validate_command
from edgekit.stages.validating.settling import (
    Plan,
    ValidateOptions,
    judges_rows,
    read_test_rows,
    report_inputs,
    settle,
)
from edgekit.targets import match_machine
from edgekit.targets.budgets import BUDGET_UNITS
from edgekit.targets.workloads import DATA
from edgekit.tasks import Row
from edgekit.values import HeatRecord, LaunchRecord, Outcome, ReportTable
from edgekit_runtime.errors import HardwareMissing

#: Why nothing is launched there.
EMULATED = "the CPU is emulated: its times, memory and placement say nothing about the target"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What was found out, and how it is to be judged."""

    inputs: MeasuringInputs
    observed: Observed
    evidence: Evidence
    proof: Proof
    heat: HeatRecord | None


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
    plan = settle(Path(artifact), Path(output) if output else None, options or ValidateOptions())
    rows = read_test_rows(plan)
    inputs = report_inputs(plan)
    refuse_foreign(plan.output, "report")
    verify(plan.artifact, plan.manifest)
    verify(plan.model.path, plan.model.manifest)
    found = None if plan.options.force else up_to_date(plan.output, "report", inputs)
    if found is not None and _settled(table_of(found.report)):
        return _finished(plan, found, started, fresh=False)
    with bringing_files(plan.subject.device) as device, new_directory(plan.output, "report") as work:
        there = dataclasses.replace(plan, subject=dataclasses.replace(plan.subject, device=device))
        report = _report(plan, _measure(there, rows, on_progress))
        draft = write_manifest(work, name=plan.output.name, inputs=inputs, table=report)
        write_report_files(work, draft)
        manifest = write_manifest(work, name=plan.output.name, inputs=inputs, table=report)
    return _finished(plan, manifest, started, fresh=True)


def _settled(report: ReportTable) -> bool:
    """Whether measuring again would tell the same: not what noise left open, nor what missed its hardware."""
    unopened = report.golden is not None and report.golden.outcome is Outcome.NOT_MEASURED
    return report.verdict is not Outcome.INCONCLUSIVE and not unopened


def _finished(plan: Plan, manifest: Manifest, started: float, *, fresh: bool) -> StageResult:
    result = StageResult(path=plan.output, manifest=manifest, up_to_date=not fresh)
    return announce("validate", result, started, table_of(manifest.report).verdict)


def _measure(plan: Plan, rows: tuple[Row, ...], on_progress: OnProgress) -> _Measured:
    options, workload = plan.options, plan.workload
    measuring = MeasurementPlan(max_seconds=options.max_seconds)
    inputs = _measuring_inputs(plan, rows, measuring)
    how = JudgingOptions(
        metric=options.metric,
        include_rows=options.include_rows,
        confidence=options.confidence,
        seed=options.seed,
    )
    judging = rows if judges_rows(plan) else ()
    try:
        if plan.machine.emulated:
            observed = observe_answers(plan.subject, judging, how, on_progress)
        else:
            timed = TimedInputs(typical=inputs.typical, some=inputs.launch(0))
            observed = observe(plan.subject, judging, timed, how, on_progress)
    except HardwareMissing as missing:
        observed = unopened(missing)
    proof = Proof(
        confidence=options.confidence,
        launch_seconds=expected_seconds(
            observed.cold_seconds, observed.run_seconds, measuring, workload.streams
        ),
        max_seconds=options.max_seconds,
        assume_nothing=options.assume_nothing,
    )
    evidence = _evidence(plan, observed, judging, inputs.batch)
    setup = _launch_setup(plan, inputs)
    heat = None
    if plan.machine.emulated or observed.unopened:
        return _Measured(inputs=inputs, observed=observed, evidence=evidence, proof=proof, heat=None)
    if workload.heat_seconds > 0:
        on_progress(0, 0, f"heating up for {workload.heat_seconds:g} s")
        heat = heat_up(setup, workload.heat_seconds, measuring)
    launches = measure_launches(
        setup,
        measuring,
        decider(plan.target.budget, evidence, proof),
        on_progress,
        wait_for_quiet=heat is None,  # a pause would let the machine cool down
    )
    evidence = dataclasses.replace(evidence, launches=launches)
    return _Measured(inputs=inputs, observed=observed, evidence=evidence, proof=proof, heat=heat)


def launches_of(
    artifact: Path | str, options: ValidateOptions, decide: Decide, measuring: MeasurementPlan | None = None
) -> tuple[LaunchRecord, ...]:
    """Launches as `validate` makes them, without judging: for studies of a machine."""
    plan = settle(Path(artifact), None, options)
    measuring = measuring or MeasurementPlan(max_seconds=options.max_seconds)
    inputs = _measuring_inputs(plan, read_test_rows(plan), measuring)
    return measure_launches(_launch_setup(plan, inputs), measuring, decide)


def _measuring_inputs(plan: Plan, rows: tuple[Row, ...], measuring: MeasurementPlan) -> MeasuringInputs:
    model = Model(path=plan.model.path, table=plan.model_table, signature=plan.table.signature)
    if plan.shapes.source == DATA:
        return row_inputs(model, rows, plan.options.seed, measuring.max_runs)
    return shaped_inputs(model, plan.shapes, plan.options.seed)


def _launch_setup(plan: Plan, inputs: MeasuringInputs) -> LaunchSetup:
    return LaunchSetup(
        start_worker=plan.subject.worker,
        directory=plan.artifact,
        backend=plan.table.backend,
        precision=plan.table.precision,
        run=plan.subject.run,
        inputs=inputs.launch,
        mix=inputs.mix,
        batch=inputs.batch,
        streams=plan.workload.streams,
        cores=plan.machine.usable_cores,
    )


def _evidence(plan: Plan, observed: Observed, rows: tuple[Row, ...], batch: int) -> Evidence:
    gaps = {} if rows else {"accuracy_drop": _no_accuracy(plan)}
    if observed.unopened:
        gaps = dict.fromkeys(BUDGET_UNITS.keys() - {"artifact_mib"}, f"nothing was run: {observed.unopened}")
    elif plan.machine.emulated:
        gaps |= dict.fromkeys((*LAUNCH_KEYS, "max_fallback"), EMULATED)
    return Evidence(
        precision=plan.table.precision,
        device=plan.subject.run.device,
        batch=batch,
        streams=plan.workload.streams,
        cores=plan.machine.usable_cores,
        artifact_mib=artifact_mib(plan.manifest.files),
        placement=observed.placement,
        accuracy=observed.accuracy,
        overlap=overlapping((row.digest for row in rows), plan.table.row_digests),
        mismatches=() if observed.unopened else _differences(plan),
        gaps=gaps,
    )


def _differences(plan: Plan) -> tuple[str, ...]:
    """Why what is true on this machine need not be on the target. That a CPU is emulated makes its times
    wrong, which are a gap of their own, and not its answers."""
    if not plan.machine.emulated:
        return plan.mismatches
    match = match_machine(plan.target, dataclasses.replace(plan.machine, emulated=False))
    return () if match.ok else match.reasons


def _no_accuracy(plan: Plan) -> str:
    if plan.options.data is None:
        return "no labelled rows were given (--data)"
    return f"task {plan.model_table.task!r} has no metric of its own (--metric)"


def _report(plan: Plan, measured: _Measured) -> ReportTable:
    evidence, observed, inputs = measured.evidence, measured.observed, measured.inputs
    checks = judge(plan.target.budget, evidence, measured.proof)
    found, restored = figures(evidence, measured.proof), plan.table.restored
    return ReportTable(
        artifact_digest=plan.manifest.digest,
        artifact_manifest=file_digest(plan.artifact / MANIFEST_NAME),
        artifact_name=plan.manifest.name,
        backend=plan.table.backend,
        precision=plan.table.precision,
        verdict=overall_verdict(checks, observed.golden),
        confidence=plan.options.confidence,
        checks=checks,
        machine=plan.machine,
        machine_is_target=not plan.mismatches,
        target_name=plan.target.name,
        workload=inputs.workload,
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
        steady_memory_mib=found.steady_memory_mib,
        throughput=found.throughput,
        energy_mj=found.energy_mj,
        shapes=inputs.shapes,
        workload_source=inputs.source,
        streams=plan.workload.streams,
        heat=measured.heat,
        generated=observed.generated,
        operators=observed.operators,
        calibration=plan.table.calibration,
        sensitivity=() if restored is None else restored.ranking,
        kept_high=() if restored is None else restored.groups,
        reproduce=validate_command(plan.artifact, plan.asked_output, plan.options),
        launches=evidence.launches,
        method=method_sentences(checks, measured.proof),
        notes=(*inputs.notes, *_use_notes(plan, measured), *measurement_notes(evidence)),
    )


def _use_notes(plan: Plan, measured: _Measured) -> list[str]:
    """Under which use the figures hold, beyond the shapes."""
    notes, heat = [], measured.heat
    if measured.observed.unopened:
        return [
            f"nothing was run: {measured.observed.unopened}; to have it measured, run `edgekit validate` on "
            f"{plan.target.name!r} itself"
        ]
    if measured.observed.generated is not None and measured.inputs.source != DATA:
        notes.append(
            "timed on made-up inputs, and answers to them may be longer or shorter than to real ones: "
            "--workload data times the rows of --data"
        )
    if heat is not None:
        first, last = heat.windows_ms[0], heat.windows_ms[-1]
        notes.append(
            f"sustained: after {heat.seconds:g} s of heat-up; "
            f"{100 * (last / first - 1):+.0f} % from the first to the last window"
        )
    if plan.machine.emulated:
        notes.append(f"nothing was timed: {EMULATED}")
    streams = plan.workload.streams
    if streams > 1:
        threads = max(1, plan.subject.run.threads // streams)
        each = "1 thread each" if threads == 1 else f"{threads} threads each"
        notes.append(f"throughput and memory are of {streams} concurrent streams in one process, {each}")
    return notes


__all__ = ["ValidateOptions", "launches_of", "validate"]
