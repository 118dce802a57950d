"""What a compile is asked for, and everything about it that is settled before a compiler starts."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.discovery import BackendEntry, engine_versions, find_backend, load_backend, missing_engine
from edgekit.errors import BackendUnavailable, ModelNotSupported, UnknownName, UsageError
from edgekit.files.graphs import Graph, model_graphs
from edgekit.files.manifests import Manifest, read_manifest
from edgekit.files.tables import nearest
from edgekit.stages.backends import engine_hint
from edgekit.stages.building import check_graphs, kept_by_part
from edgekit.stages.common import relative_path, value_input
from edgekit.stages.options import backend_options
from edgekit.stages.reducing import HIGH, QUANTIZED
from edgekit.stages.rows import Draw, data_input
from edgekit.targets import apply_budget, load_target, match_machine, runs_on
from edgekit.tasks import Mapped, Task, load_task
from edgekit.values import AUTO, BackendSpec, InputEntry, ModelTable, Recipe, RunSettings, Target
from edgekit_runtime.machine import read_machine
from edgekit_runtime.values import OptionValue


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """What may be asked of a compile; the defaults compile for this machine as its target says.

    target: a Target, a file, or a name; backend, precision: "" takes the target's;
    calibration: rows that int8 is calibrated on, at most `calibration_rows` of them;
    columns, labels: how that file names them; options: backend options by name;
    keep_high: ONNX nodes left in the model's precision, of a model of several graphs as PART/NODE;
    keep_anyway: keep what a gate refuses;
    budget: limits put over the target's, of which accuracy_drop decides which nodes stay high;
    tune_data: labelled rows that choose those nodes, by default rows of `calibration` that are not
    calibrated on, when they are labelled; tune_rows: at most so many; time_limit: seconds for choosing;
    max_seconds: for timing a quantized artifact beside the higher precision, 0 for not doing it;
    check_isa: run a quantized artifact on an emulated CPU like the target's, where this machine's is another.
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
    budget: tuple[str, ...] = ()
    tune_data: Path | str | None = None
    tune_rows: int = 1000
    time_limit: float = 900.0
    max_seconds: float = 30.0
    check_isa: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CompilePlan:
    """Everything that is settled before a compiler starts."""

    model: Path
    model_manifest: Manifest
    table: ModelTable
    graphs: tuple[Graph, ...]
    output: Path
    target: Target
    entry: BackendEntry
    spec: BackendSpec
    recipe: Recipe
    run: RunSettings
    calibration: Path | None
    options: CompileOptions

    @property
    def task(self) -> Task:
        """What the model is for."""
        return load_task(self.table.task)

    @property
    def draw(self) -> Draw:
        """How calibration rows are drawn."""
        return Draw(rows=self.options.calibration_rows, seed=self.options.seed, mapped=self.mapped)

    @property
    def mapped(self) -> Mapped:
        """How the user's files name columns and labels."""
        return Mapped(columns=self.options.columns, labels=self.options.labels)

    @property
    def drop(self) -> float | None:
        """Points that the accuracy may drop when nodes are chosen; None when they are not."""
        chooses = self.recipe.precision in (*QUANTIZED, AUTO)
        return self.target.budget.accuracy_drop if chooses else None


def settle(model: Path, output: Path, options: CompileOptions) -> CompilePlan:
    """Raises UnknownName or UsageError for what does not exist, BackendUnavailable."""
    manifest = read_manifest(model, "model")
    target = options.target if isinstance(options.target, Target) else load_target(options.target)
    target = apply_budget(target, options.budget)
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
    table = _model_table(manifest)
    return CompilePlan(
        model=model,
        model_manifest=manifest,
        table=table,
        graphs=model_graphs(model, table),
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
    wanted = HIGH if precision == AUTO else precision
    if wanted not in spec.precisions:
        raise UnknownName(
            f"backend {spec.name!r} does not build {precision!r}",
            hint=nearest(precision, (*spec.precisions, AUTO)),
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


def refuse_unsupported(plan: CompilePlan) -> None:
    """Every operator that the backend will not take, named before anything is built; and nodes to be kept
    high that the model has not."""
    kept_by_part(plan.recipe.keep_high, plan.graphs)
    support = check_graphs(plan.spec.name, plan.graphs, plan.target)
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


def inputs(plan: CompilePlan) -> tuple[InputEntry, ...]:
    """What decides the artifact. Of the budget only the accuracy that chooses nodes does: another new limit
    needs no new artifact."""
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
        "choosing": None if plan.drop is None else (plan.drop, plan.options.tune_rows),
        "paired": plan.options.max_seconds > 0,
        "check_isa": plan.options.check_isa,
    }
    model = InputEntry(
        role="model", digest=plan.model_manifest.digest, path=relative_path(plan.model, plan.output)
    )
    rows = [
        data_input(role, Path(path), plan.task, plan.mapped, need_label=role == "tune")
        for role, path in (("calibration", plan.calibration), ("tune", plan.options.tune_data))
        if path
    ]
    return (model, *rows, value_input("settings", settings))
