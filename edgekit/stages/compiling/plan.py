"""What a compile is asked for, and everything about it that is settled before a compiler starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.devices import open_device
from edgekit.discovery import BackendEntry, find_backend, load_backend
from edgekit.errors import BackendUnavailable, ModelNotSupported, TargetFileError, UnknownName, UsageError
from edgekit.files.graphs import Graph, model_graphs
from edgekit.files.manifests import Manifest, read_manifest
from edgekit.files.tables import nearest
from edgekit.host.installed import InstalledBackend, installed_backend
from edgekit.host.places import Place, find_place
from edgekit.stages.common import OnProgress, relative_path, value_input
from edgekit.stages.compiling.building import check_graphs, kept_by_part
from edgekit.stages.compiling.options import backend_options
from edgekit.stages.compiling.places import building_device, builds_on_target, engine_hint
from edgekit.stages.compiling.reducing import HIGH, QUANTIZED
from edgekit.stages.rows.reading import Draw, data_input
from edgekit.targets import apply_budget, load_target, match_machine, run_device, runs_on, workload_shapes
from edgekit.targets.workloads import DATA
from edgekit.tasks import Mapped, Task, load_task
from edgekit.values import AUTO, BackendSpec, InputEntry, ModelTable, Recipe, RunSettings, Target
from edgekit_runtime.values import OptionValue

#: What is compiled for unless the user names a target.
THIS_MACHINE = "this-machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """What may be asked of a compile; the defaults compile for this machine as its target says.

    target: a Target, a file, or a name, by default THIS_MACHINE; backend, precision: "" takes the target's;
    calibration: rows that int8 is calibrated on, at most `calibration_rows` of them;
    columns, labels: how that file names them; options: backend options by name;
    keep_high: ONNX nodes left in the model's precision, of a model of several graphs as PART/NODE;
    keep_anyway: keep what a gate refuses;
    budget: limits put over the target's, of which accuracy_drop decides which nodes stay high;
    tune_data: labelled rows that choose those nodes, by default rows of `calibration` that are not
    calibrated on, when they are labelled; tune_rows: at most so many; time_limit: seconds for choosing;
    max_seconds: for timing a quantized artifact beside the higher precision, 0 for not doing it;
    check_isa: run a quantized artifact on an emulated CPU like the target's, where this machine's is another;
    device: where it is built and checked, by default the target's where engines are built on the target,
    else this machine.
    """

    target: Target | Path | str = ""
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
    device: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompilePlan:
    """Everything that is settled before a compiler starts. place: where it is built; installed: what that
    has of the backend."""

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
    place: Place
    installed: InstalledBackend

    @property
    def task(self) -> Task:
        """What the model is for."""
        return load_task(self.table.task)

    @property
    def draw(self) -> Draw:
        """How calibration rows are drawn; others of the file choose nodes where no rows are given for it."""
        spare = self.options.tune_rows if self.drop is not None and self.options.tune_data is None else 0
        return Draw(
            rows=self.options.calibration_rows, seed=self.options.seed, mapped=self.mapped, spare=spare
        )

    @property
    def promised(self) -> tuple[Mapping[str, int], ...]:
        """The shapes that the target's workload names."""
        try:
            found = workload_shapes(self.target.workload, self.table.signature)
        except TargetFileError:  # `validate` refuses a workload that the model does not fit, compile need not
            return ()
        return () if found.source == DATA else found.shapes

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
    given = options.target or THIS_MACHINE
    target = given if isinstance(given, Target) else load_target(given)
    target = apply_budget(target, options.budget)
    name = options.backend or target.backend
    if not name:
        hint = 'give --backend, or put backend = "…" into the target file'
        raise UsageError(
            f"target {target.name!r} names no backend", hint=f"{hint}; `edgekit backend list` shows them"
        )
    entry, spec = find_backend(name), load_backend(name)
    precision = options.precision or target.precision
    _refuse_precision(spec, precision)
    place = find_place(open_device(building_device(spec, target, options.device)))
    installed = installed_backend(entry, place)
    _refuse_unbuildable(spec, target, place)
    _refuse_without_engine(entry, installed, place)
    threads = options.threads or target.run.threads
    run = RunSettings(
        threads=threads,
        device=run_device(target, spec),
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
        place=place,
        installed=installed,
    )


def _model_table(manifest: Manifest) -> ModelTable:
    if manifest.model is None:
        raise UsageError("the manifest has no model table", hint="make the model with `edgekit export`")
    return manifest.model


def _refuse_precision(spec: BackendSpec, precision: str) -> None:
    wanted = HIGH if precision == AUTO else precision
    if wanted not in spec.precisions:
        raise UnknownName(
            f"backend {spec.name!r} does not build {precision!r}",
            hint=nearest(precision, (*spec.precisions, AUTO)),
        )


def _refuse_unbuildable(spec: BackendSpec, target: Target, place: Place) -> None:
    arch = target.match.arch or place.machine.arch
    if not runs_on(spec.arches, arch):
        raise UsageError(
            f"backend {spec.name!r} does not run on {arch}, which target {target.name!r} is",
            hint=f"it runs on {', '.join(spec.arches)}",
        )
    match = match_machine(target, place.machine)
    if builds_on_target(spec, target) and not match.ok:
        where = "this" if place.local else place.device.uri
        raise BackendUnavailable(
            f"backend {spec.name!r} builds on the target itself, and {where} is not {target.name!r}: "
            + "; ".join(match.reasons),
            hint="give that machine by --device, or by uri under [device] of the target file, or run "
            "`edgekit compile` on it",
        )


def _refuse_without_engine(entry: BackendEntry, installed: InstalledBackend, place: Place) -> None:
    if installed.missing:
        where = "" if place.local else f" on {place.device.uri}"
        raise BackendUnavailable(
            f"backend {entry.name!r} is installed{where} but its engine is not: "
            f"{', '.join(installed.missing)}",
            hint=engine_hint(entry),
        )


def refuse_unsupported(plan: CompilePlan, place: Place, on_progress: OnProgress) -> None:
    """Every operator that the backend will not take, named before anything is built; and nodes to be kept
    high that the model has not."""
    kept_by_part(plan.recipe.keep_high, plan.graphs)
    support = check_graphs(plan.spec.name, plan.graphs, plan.target, place.device, on_progress)
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
        **_of_each_trial(plan),
        "recipe": plan.recipe,
        "keep_anyway": plan.options.keep_anyway,
        "choosing": None if plan.drop is None else (plan.drop, plan.options.tune_rows),
        "paired": plan.options.max_seconds > 0,
        "check_isa": plan.options.check_isa,
        "auto": plan.target.compile.auto if plan.recipe.precision == AUTO else (),
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


def trial_identity(plan: CompilePlan, decided: Sequence[InputEntry]) -> object:
    """What decides how a trial of the search comes out, beside its rows and precision: with another budget,
    or when anything is to be kept, the search goes on from the trials that it has."""
    files = [entry.digest for entry in decided if entry.role in ("model", "calibration")]
    return [files, _of_each_trial(plan), replace(plan.recipe, precision="")]


def _of_each_trial(plan: CompilePlan) -> dict[str, object]:
    return {
        "target": plan.target.name,
        "hardware": plan.target.match,
        "workload": plan.target.workload,
        "run": plan.run,
        "backend": (plan.spec.name, plan.installed.version, plan.installed.engine_versions),
        "columns": plan.options.columns,
        "labels": plan.options.labels,
        "built_on": None if plan.place.local else plan.place.machine,
    }
