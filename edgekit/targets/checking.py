"""`edgekit target check`: what would go wrong with a target, before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from edgekit import discovery
from edgekit.files.tables import nearest
from edgekit.targets.budgets import GENERATION_KEYS, MACHINE_KEYS, budget_items
from edgekit.targets.matching import match_machine, runs_on
from edgekit.targets.options import option_value, wanted_value
from edgekit.targets.probing import usable_threads
from edgekit.targets.rules import check_values
from edgekit.values import AUTO, BackendSpec, DeviceSettings, Probe, Target
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.machine import ARM_FEATURES, X86_FEATURES
from edgekit_runtime.values import Machine, OptionValue

Level = Literal["error", "warning", "note"]
KNOWN_ISA = (*X86_FEATURES, *ARM_FEATURES)
NO_BACKEND = 4
UNPROVEN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing about a target. error: it cannot be used so; key: where in the file.

    exit_code: what `edgekit target check` ends with because of it: 2 a bad file, 4 no backend,
    5 limits that cannot be measured on this machine, 0 nothing.
    """

    level: Level
    key: str
    message: str
    exit_code: int = 0


def check_target(
    target: Target, machine: Machine, *, probe: Callable[[str], Probe] | None = None
) -> tuple[Finding, ...]:
    """Everything worth knowing before the target is used, errors first.

    Whether the target's backend is installed is asked of discovery, which starts no engine;
    `probe` (backend name -> Probe) is asked as well when given.
    """
    findings = [*_file(target), *_backend(target, machine, probe), *_machine(target, machine)]
    findings += _budget(target, machine)
    order = ("error", "warning", "note")
    return tuple(sorted(findings, key=lambda finding: order.index(finding.level)))


def _file(target: Target) -> Iterator[Finding]:
    try:
        check_values(target, target.origin or target.name)
    except EdgekitError as problem:
        yield _error("", problem.message)
    if not target.hardware.sources:
        yield _note("hardware.sources", "no source is given for the hardware facts")


def _backend(target: Target, machine: Machine, probe: Callable[[str], Probe] | None) -> Iterator[Finding]:
    if not target.backend:
        yield _note("backend", "no backend is named: give --backend, or put one in the target")
        return
    try:
        spec = discovery.load_backend(target.backend)
    except EdgekitError as problem:
        hint = f"; {problem.hint}" if problem.hint else ""
        yield _error("backend", f"{problem.message}{hint}", NO_BACKEND)
        return
    yield from _fits_backend(target, machine, spec)
    missing = ", ".join(discovery.missing_engine(spec))
    if missing:
        yield _error("backend", f"{spec.name} is installed, but its engine is not: no {missing}", NO_BACKEND)
    elif probe is not None:
        answer = probe(spec.name)
        if not answer.available:
            why = answer.reason or "it does not say why"
            yield _error("backend", f"{spec.name} cannot work here: {why}", NO_BACKEND)


def _fits_backend(target: Target, machine: Machine, spec: BackendSpec) -> Iterator[Finding]:
    arch = target.match.arch
    if arch and not runs_on(spec.arches, arch):
        yield _error("backend", f"{spec.name} runs on {', '.join(spec.arches)}, the target is {arch}")
    if spec.precisions and target.precision not in (*spec.precisions, AUTO):
        built = ", ".join(spec.precisions)
        yield _error("precision", f"{spec.name} builds {built}, the target asks for {target.precision}")
    there = "target" in (spec.builds_on, target.compile.builds_on)
    if there and target.device == DeviceSettings() and not match_machine(target, machine).ok:
        said = "this machine is not it, and no other is named ([device] uri)"
        yield _warning("backend", f"{spec.name} builds on the target itself: {said}")
    yield from _options("compile", target.compile.options, spec)
    yield from _options("run", target.run.options, spec)


def _options(stage: str, given: Mapping[str, OptionValue], spec: BackendSpec) -> Iterator[Finding]:
    declared = {option.name: option for option in spec.options if option.stage == stage}
    for name, value in given.items():
        option = declared.get(name)
        if option is None:
            hint = nearest(name, declared) if declared else f"{spec.name} has no {stage} options"
            yield _error(f"{stage}.options.{name}", f"{spec.name} has no such {stage} option; {hint}")
        elif option_value(option, value) is None:
            wanted = wanted_value(option)
            yield _error(f"{stage}.options.{name}", f"is {value!r}, which does not suit {wanted}")


def _machine(target: Target, machine: Machine) -> Iterator[Finding]:
    for word in target.match.isa:
        if word not in KNOWN_ISA:
            hint = nearest(word, KNOWN_ISA)
            yield _error("match.isa", f"{word!r} is read from no machine, so none is ever the target; {hint}")
    result = match_machine(target, machine)
    limited = [key for key, _ in budget_items(target.budget) if key in MACHINE_KEYS]
    if not result.ok:
        why = "; ".join(result.reasons)
        unproven = f"; NOT_MEASURED here: {', '.join(limited)}" if limited else ""
        yield _warning("match", f"this machine is not it: {why}{unproven}", UNPROVEN if limited else 0)
        return
    yield _note("match", f"this machine is the target ({'; '.join(result.reasons)})")
    if result.extra_isa:
        more = ", ".join(result.extra_isa)
        yield _note(
            "match.isa", f"one without {more} is the target too: slower, and int8 may round otherwise"
        )
    usable = usable_threads(machine)
    if target.run.threads > usable:
        yield _warning("run.threads", f"is {target.run.threads}, more than the {usable} usable here")


def _budget(target: Target, machine: Machine) -> Iterator[Finding]:
    limits = dict(budget_items(target.budget))
    if not limits:
        yield _note("budget", "no limit is set: validate needs one, in the target or by --budget key=value")
    memory = target.hardware.memory_mib or (machine.memory_mib if match_machine(target, machine).ok else 0)
    for key in ("peak_memory_mib", "artifact_mib"):
        if memory and limits.get(key, 0) > memory:
            yield _warning(f"budget.{key}", f"is {limits[key]:g} MiB; the machine has {memory} MiB of memory")
    cores = target.hardware.cores
    if cores and target.run.threads > cores:
        yield _warning("run.threads", f"is {target.run.threads}, the hardware has {cores} cores")
    if "energy_mj" in limits:
        yield _note("budget.energy_mj", "NOT_MEASURED unless the machine can read its own energy")
    generation = [key for key in limits if key in GENERATION_KEYS]
    if generation:
        yield _note("budget", f"{', '.join(generation)}: NOT_MEASURED for models that do not generate text")
    for lower, upper in (
        ("latency_p50_ms", "latency_p90_ms"),
        ("latency_p90_ms", "latency_p99_ms"),
        ("tpot_p50_ms", "tpot_p99_ms"),
    ):
        if lower in limits and upper in limits and limits[lower] > limits[upper]:
            yield _warning(f"budget.{lower}", f"is above {upper}, so it decides nothing")


def _error(key: str, message: str, exit_code: int = 2) -> Finding:
    return Finding(level="error", key=key, message=message, exit_code=exit_code)


def _warning(key: str, message: str, exit_code: int = 0) -> Finding:
    return Finding(level="warning", key=key, message=message, exit_code=exit_code)


def _note(key: str, message: str) -> Finding:
    return Finding(level="note", key=key, message=message)
