"""Everything that validate settles before anything is run: what is asked, of what, on which machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from edgekit.devices import open_device
from edgekit.discovery import engine_versions, find_backend, load_backend
from edgekit.errors import UsageError
from edgekit.files.digests import file_digest
from edgekit.files.manifests import MANIFEST_NAME, Manifest, read_manifest
from edgekit.host.client import WorkerClient
from edgekit.host.sessions import remote_machine
from edgekit.measuring.plan import check_confidence
from edgekit.stages.answers.judging import read_judging_rows
from edgekit.stages.answers.observing import Subject
from edgekit.stages.common import path_input, relative_path, value_input
from edgekit.stages.parents import Parent, find_parent, table_of
from edgekit.stages.rows.reading import data_input
from edgekit.targets import (
    WorkloadShapes,
    apply_budget,
    apply_workload,
    check_threads,
    has_budget,
    load_target,
    match_machine,
    refuse_beyond,
    usable_threads,
    workload_shapes,
)
from edgekit.targets.workloads import DATA
from edgekit.tasks import Mapped, Row, load_task
from edgekit.tasks.data import read_rows
from edgekit.values import ArtifactTable, InputEntry, ModelTable, Target, Workload
from edgekit_runtime.values import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateOptions:
    """What may be asked of a validation.

    data: labelled rows that judge accuracy; columns, labels: how that file names them;
    metric: "" for the task's own, a name, or "file.py:function"; include_rows: the text of changed rows
    may go into the report; model: the exported model, by default where the artifact's manifest says;
    target: a target to take budget and workload from, by default the artifact's own;
    budget: limits such as "latency_p90_ms=20", over the target's; no_budget: measure, judge nothing;
    workload: shapes and settings such as "sequence=128", "data", "streams=4", over the target's;
    confidence: one-sided, for every claim; max_seconds: for the launches;
    assume_nothing: never let the random-effects model decide, which needs fewer launches;
    device: "local" or a device uri, by default the target's.
    """

    data: Path | str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    metric: str = ""
    include_rows: bool = False
    model: Path | str | None = None
    target: Target | Path | str = ""
    budget: tuple[str, ...] = ()
    no_budget: bool = False
    workload: tuple[str, ...] = ()
    confidence: float = 0.99
    max_seconds: float = 120.0
    assume_nothing: bool = False
    threads: int | None = None
    device: str = ""
    seed: int = 0
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is validated, how, and where. asked_output: the report directory as the user gave it."""

    artifact: Path
    manifest: Manifest
    table: ArtifactTable
    model: Parent
    model_table: ModelTable
    target: Target
    shapes: WorkloadShapes
    subject: Subject
    machine: Machine
    mismatches: tuple[str, ...]
    output: Path
    asked_output: Path | None
    options: ValidateOptions

    @property
    def workload(self) -> Workload:
        """The target's, with what the options put over it."""
        return self.target.workload


def settle(artifact: Path, output: Path | None, options: ValidateOptions) -> Plan:
    """Read, check and resolve what was asked. Raises UsageError, TargetFileError, ManifestError."""
    check_confidence(options.confidence)
    manifest = read_manifest(artifact, "artifact")
    table = table_of(manifest.artifact)
    find_backend(table.backend)
    target = _target(table, options)
    shapes = workload_shapes(target.workload, table.signature)
    _check_data(shapes, options)
    model = find_parent(artifact, manifest, "model", options.model)
    model_table = table_of(model.manifest.model)
    refuse_beyond(shapes, model_table.axes)
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
        model_table=model_table,
        run=run,
        device=device,
    )
    return Plan(
        artifact=artifact,
        manifest=manifest,
        table=table,
        model=model,
        model_table=model_table,
        target=target,
        shapes=shapes,
        subject=subject,
        machine=machine,
        mismatches=() if match.ok else match.reasons,
        output=output or artifact.with_name(artifact.name + ".report"),
        asked_output=output,
        options=options,
    )


def _target(table: ArtifactTable, options: ValidateOptions) -> Target:
    given = options.target
    target = given if isinstance(given, Target) else load_target(given) if given else table.target
    target = apply_budget(target, options.budget)
    target = dataclasses.replace(target, workload=apply_workload(target.workload, options.workload))
    if options.no_budget:
        return dataclasses.replace(target, budget=type(target.budget)())
    if not has_budget(target.budget):
        raise UsageError(
            f"target {target.name!r} sets no budget, so there is nothing to prove",
            hint="give --budget latency_p90_ms=20, a --target with a [budget], or --no-budget",
        )
    return target


def _check_data(shapes: WorkloadShapes, options: ValidateOptions) -> None:
    if options.data is not None:
        return
    if shapes.source == DATA:
        raise UsageError(
            "the workload is as in data, and no rows were given",
            hint="give them by --data, or a shape such as --workload sequence=128",
        )
    if options.metric:
        raise UsageError(f"--metric {options.metric} judges rows, and none were given", hint="add --data")


def judges_rows(plan: Plan) -> bool:
    """Whether the rows of --data judge accuracy. Where no metric does, they may still give the workload its
    lengths."""
    options = plan.options
    if options.data is None:
        return False
    return plan.shapes.source != DATA or bool(options.metric or load_task(plan.model_table.task).metric)


def read_test_rows(plan: Plan) -> tuple[Row, ...]:
    """The rows of --data, once the metric is known to fit; () without. Raises DataError, UsageError."""
    if plan.options.data is None:
        return ()
    path, task, labels = Path(plan.options.data), load_task(plan.model_table.task), plan.model_table.labels
    if judges_rows(plan):
        return read_judging_rows(path, task, labels, _mapped(plan), plan.options.metric)
    return read_rows(path, task=task, labels=labels, mapped=_mapped(plan), need_label=False)


def _mapped(plan: Plan) -> Mapped:
    return Mapped(columns=plan.options.columns, labels=plan.options.labels)


def report_inputs(plan: Plan) -> tuple[InputEntry, ...]:
    """What decides the report: a stored one made from the same is up to date.

    The time that launches may take is left out: what was decided in time stays decided.
    """
    options = plan.options
    settings = {
        "target": plan.target.name,
        "budget": plan.target.budget,
        "workload": (plan.shapes.shapes, plan.shapes.source),
        "use": (plan.workload.streams, plan.workload.heat_seconds),
        "match": plan.target.match,
        "run": plan.subject.run,
        "confidence": options.confidence,
        "assume_nothing": options.assume_nothing,
        "columns": options.columns,
        "labels": options.labels,
        "metric": options.metric,
        "include_rows": options.include_rows,
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
    read = []
    if options.data is not None:
        task = load_task(plan.model_table.task)
        read.append(data_input("data", Path(options.data), task, _mapped(plan), need_label=True))
    metric = _metric_file(options.metric)
    if metric is not None:
        read.append(path_input("metric", metric))
    return (artifact, *read, value_input("settings", settings), value_input("machine", plan.machine))


def _metric_file(metric: str) -> Path | None:
    """The user's file that holds the metric, where it is in one."""
    path = Path(metric.rpartition(":")[0])
    return path if path.suffix == ".py" and path.is_file() else None
