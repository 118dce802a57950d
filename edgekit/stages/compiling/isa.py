"""An artifact on the target's CPU features: goldens under an emulator, when this machine has others.

Engines choose their kernels by what the CPU offers. int8 products are added up in 16 bits on x86 without
VNNI, and overflow there, so that a file that is right here may be wrong on the target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.devices import Device, open_device
from edgekit.devices.emulator import find_emulator, known_cpus
from edgekit.devices.emulator_uri import plain_arch
from edgekit.errors import DeviceError, PluginError, UsageError, WorkerError
from edgekit.host.client import WorkerClient
from edgekit.host.sessions import open_remote, remote_machine
from edgekit.stages.answers.golden import check_goldens
from edgekit.stages.compiling.workload_goldens import ShapedGoldens, check_shaped
from edgekit.values import GoldenRecord, ModelTable, Outcome, RunSettings, Target
from edgekit.values.isa import IsaRecord
from edgekit_runtime.errors import MissingDependency, OpenFailed, RunFailed
from edgekit_runtime.machine import read_machine
from edgekit_runtime.values import Machine

#: How long one call may take under the emulator, which is a hundred times slower or more.
CALL_SECONDS = 600.0

#: What only says that the emulator, the Python there or its engine is not fit for this.
_CANNOT_RUN = (DeviceError, UsageError, WorkerError, PluginError, OpenFailed, RunFailed, MissingDependency)

#: Features by which kernels are chosen, the strongest first, and QEMU's CPUs that have this one and none
#: before it; the first that the installed QEMU knows is taken. Where none is named, QEMU emulates none.
_CPUS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "x86_64": {
        "amx_int8": (),
        "avx_vnni_int8": (),
        "avx512_vnni": (),
        "avx_vnni": (),
        "avx512f": (),
        "avx2": ("Haswell",),
        "sse4_2": ("Nehalem",),
    },
    "aarch64": {
        "sme": ("max",),
        "sve2": ("neoverse-n2", "max,sme=off"),
        "sve": ("neoverse-v1",),
        "i8mm": ("max,sve=off,sme=off",),
        "asimddp": ("cortex-a76",),
        "asimd": ("cortex-a53",),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A compiled artifact and the model it was made from. model: the directory with the goldens; shaped:
    goldens at the workload's shape."""

    directory: Path
    model: Path
    table: ModelTable
    backend: str
    precision: str
    run: RunSettings
    shaped: ShapedGoldens = field(default_factory=ShapedGoldens)


def check_isa(built: Built, target: Target, machine: Machine | None = None) -> IsaRecord | None:
    """Run the goldens, at the workload's shape too, on an emulated CPU that has the target's features.

    None when `machine`, by default this one, offers engines the same as the target: nothing is run then,
    since the goldens of the machine itself say it. FAIL only when the artifact ran and was wrong; what
    cannot be run is NOT_MEASURED, with the reason.
    """
    machine = machine or read_machine()
    arch = plain_arch(target.match.arch or machine.arch)
    feature = kernel_feature(arch, (*target.match.isa, *target.hardware.isa))
    if arch == plain_arch(machine.arch) and feature == kernel_feature(arch, machine.isa) != "":
        return None
    why_not = _why_not(target, arch, feature, built.run)
    if why_not:
        return IsaRecord(feature=feature, outcome=Outcome.NOT_MEASURED, reason=why_not)
    try:
        return _ran(built, feature, open_device(f"emulator:{arch}/{_cpu(arch, feature)}"))
    except _CANNOT_RUN as problem:
        hint = f" ({problem.hint})" if problem.hint else ""
        reason = f"it cannot be run there: {problem.message}{hint}"
        return IsaRecord(feature=feature, outcome=Outcome.NOT_MEASURED, reason=reason)


def kernel_feature(arch: str, words: Iterable[str]) -> str:
    """The strongest of a CPU's features that engines have kernels for; "" when no such is among them."""
    have = {word.casefold() for word in words}
    return next((word for word in _CPUS.get(plain_arch(arch), ()) if word in have), "")


def _why_not(target: Target, arch: str, feature: str, run: RunSettings) -> str:
    if run.device.casefold() != "cpu":
        return f"it runs on {run.device}, which is not emulated"
    if arch not in _CPUS:
        return f"no emulated CPU is known here for architecture {arch}"
    if not feature:
        return f"target {target.name!r} names no CPU feature that kernels are chosen by ([match] isa)"
    if not _CPUS[arch][feature]:
        return f"the target's CPU has {feature}, which QEMU does not emulate: validate on the target itself"
    return ""


def _cpu(arch: str, feature: str) -> str:
    """The first of the feature's CPUs that the installed emulator knows, or else the first of all."""
    cpus, emulator = _CPUS[arch][feature], find_emulator(arch)
    known = known_cpus(emulator) if emulator and len(cpus) > 1 else ()
    return next((cpu for cpu in cpus if cpu.partition(",")[0] in known), cpus[0])


def _ran(built: Built, feature: str, device: Device) -> IsaRecord:
    # One thread: the numbers are the same with more, and an emulator's threads wait for one another.
    run = dataclasses.replace(built.run, threads=1)
    with WorkerClient(device) as worker:
        machine = remote_machine(worker)
        if kernel_feature(machine.arch, machine.isa) != feature:
            reason = f"{device.uri} offers {', '.join(machine.isa) or 'no known feature'}, not {feature}"
            return IsaRecord(feature=feature, outcome=Outcome.NOT_MEASURED, reason=reason)
        with open_remote(
            worker, built.directory, built.backend, built.precision, run, CALL_SECONDS
        ) as session:
            golden = check_goldens(session, built.model, built.table, built.precision)
            beyond = built.shaped if golden.outcome is Outcome.PASS else ShapedGoldens()
            shaped = check_shaped(session, beyond, built.table, built.precision)
    return _record(feature, device.uri, golden, shaped, beyond.where)


def _record(
    feature: str, cpu: str, golden: GoldenRecord, shaped: GoldenRecord | None, where: str
) -> IsaRecord:
    """The worse of both, in words that tell which it was."""
    reason = golden.reason or f"{golden.agreeing} of {golden.cases} goldens agree"
    outcome = golden.outcome
    if shaped is not None:
        outcome = shaped.outcome
        wrong = f"at the workload's shape ({where}): {shaped.reason}"
        reason = wrong if shaped.reason else f"{reason}, and {shaped.cases} at the workload's shape ({where})"
    return IsaRecord(feature=feature, outcome=outcome, reason=reason, cpu=cpu, golden=golden, shaped=shaped)
