"""Whether two artifacts can be run side by side here, and under what: device, threads, shapes, feeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.devices import open_device
from edgekit.devices.base import Device
from edgekit.discovery import backends, load_backend, missing_engine
from edgekit.errors import UsageError
from edgekit.host.client import WorkerClient
from edgekit.host.sessions import RemoteSession, open_remote, remote_machine
from edgekit.measuring.inputs import feeds_count, mixed_feeds
from edgekit.measuring.launches import LaunchSetup
from edgekit.stages.diffing.sides import Runnable, Side
from edgekit.targets import (
    apply_workload,
    check_threads,
    match_machine,
    shape_text,
    workload_shapes,
)
from edgekit.targets.workloads import DATA
from edgekit_runtime.goldens import read_goldens
from edgekit_runtime.session import Feeds
from edgekit_runtime.values import Machine, Signature

#: Different inputs in one launch, so that no cache of inputs or results can help.
FEEDS_PER_LAUNCH = 16
#: Feeds are sent to the worker in one piece.
FEED_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the user said about how both are run. device "", threads None, workload (): the targets'."""

    device: str = ""
    threads: int | None = None
    workload: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NotHere:
    """Why the two cannot be run side by side. backend: the reason is that one is not installed."""

    reason: str
    backend: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Both can run here: the same device, threads and shapes, and feeds that both take.

    as_in_data: a workload asked for the lengths of test rows; pairs are timed at its sizes instead.
    """

    device: Device
    machine: Machine
    threads: int
    shapes: tuple[Mapping[str, int], ...]
    examples: tuple[Feeds, ...]
    signature: Signature
    seed: int
    as_in_data: bool = False

    def worker(self) -> WorkerClient:
        """A fresh worker on the device, its threads pinned."""
        return WorkerClient(self.device, threads=self.threads)

    def open(self, worker: WorkerClient, side: Runnable) -> RemoteSession:
        """Open one side in a worker, with the threads of the scene."""
        run = dataclasses.replace(side.run, threads=self.threads)
        return open_remote(worker, side.directory, side.table.backend, side.table.precision, run)

    def feeds(self, number: int) -> Sequence[Feeds]:
        """Fresh feeds of pair `number`, every shape of the workload in turn; the same for both sides."""
        return mixed_feeds(
            self.signature,
            self.shapes,
            self.examples,
            count=feeds_count(self.signature, self.shapes, most=FEEDS_PER_LAUNCH, limit=FEED_BYTES),
            seed=self.seed * 1_000_003 + number,
        )

    def setup(self, side: Runnable) -> LaunchSetup:
        """How one side is launched."""
        return LaunchSetup(
            start_worker=self.worker,
            directory=side.directory,
            backend=side.table.backend,
            precision=side.table.precision,
            run=dataclasses.replace(side.run, threads=self.threads),
            inputs=self.feeds,
            mix=len(self.shapes),
            batch=max(shape.get("batch", 1) for shape in self.shapes),
            cores=self.machine.usable_cores,
        )


def refuse_unlike(old: Runnable, new: Runnable) -> None:
    """Raises UsageError unless both do the same task, for the same labels, from the same inputs."""
    if old.task != new.task:
        raise UsageError(f"OLD is for {old.task}, NEW for {new.task}", hint="compare models of one task")
    if old.labels != new.labels:
        raise UsageError(
            f"OLD answers with {', '.join(old.labels)}; NEW with {', '.join(new.labels)}",
            hint="compare models with the same labels, in the same order",
        )
    ours, theirs = (_inputs(side.table.signature) for side in (old, new))
    if ours != theirs:
        raise UsageError(
            f"OLD takes {_input_list(ours)}; NEW takes {_input_list(theirs)}",
            hint="both must take the same inputs to be timed on the same feeds",
        )


def _inputs(signature: Signature) -> dict[str, tuple[str, int]]:
    return {spec.name: (spec.dtype, len(spec.shape)) for spec in signature.inputs}


def _input_list(inputs: Mapping[str, tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({dtype}, {rank} axes)" for name, (dtype, rank) in sorted(inputs.items()))


def find_scene(old: Side, new: Side, asked: Asked) -> Scene | NotHere:
    """How both can be run side by side, or why not.

    Raises UsageError for sides that are not alike or more threads than the machine has, TargetFileError
    for a workload that does not fit.
    """
    if old.runnable is None or new.runnable is None:
        return NotHere(reason=old.no_run or new.no_run)
    refuse_unlike(old.runnable, new.runnable)
    both = (old.runnable, new.runnable)
    reason = next((found for found in map(_backend_gap, both) if found), "")
    if reason:
        return NotHere(reason=reason, backend=True)
    places = {asked.device or side.table.target.device.uri for side in both}
    if len(places) > 1:
        return NotHere(reason=f"their targets name different devices ({_listed(places)}): give --device")
    device = open_device(places.pop())
    with WorkerClient(device) as worker:
        machine = remote_machine(worker)
    sides = {old.role: old.runnable, new.role: new.runnable}
    reason = "" if asked.threads else _stranger(sides, machine)
    if reason:
        return NotHere(reason=reason)
    threads = asked.threads or old.runnable.run.threads
    check_threads(threads, machine)
    return _shaped(both, device, machine, dataclasses.replace(asked, threads=threads))


def _backend_gap(side: Runnable) -> str:
    name = side.table.backend
    if name not in {entry.name for entry in backends()}:
        return f"backend {name!r} is not installed here"
    lacking = missing_engine(load_backend(name))
    return f"the engine of backend {name!r}, {', '.join(lacking)}, is not installed here" if lacking else ""


def _stranger(sides: Mapping[str, Runnable], machine: Machine) -> str:
    """Why this machine says nothing about the sides' targets; --threads overrules that."""
    for role, side in sides.items():
        match = match_machine(side.table.target, machine)
        if not match.ok:
            return (
                f"this machine is not {role}'s target {side.table.target.name!r} "
                f"({'; '.join(match.reasons)}): give --threads to run both here nevertheless"
            )
    counts = [f"{role} {side.run.threads}" for role, side in sides.items()]
    same = len({side.run.threads for side in sides.values()}) == 1
    return "" if same else f"their thread counts differ ({', '.join(counts)}): give --threads"


def _shaped(
    both: tuple[Runnable, Runnable], device: Device, machine: Machine, asked: Asked
) -> Scene | NotHere:
    workloads = [
        workload_shapes(apply_workload(side.table.target.workload, asked.workload), side.table.signature)
        for side in both
    ]
    shapes = [found.shapes for found in workloads]
    sizes = [
        [_sizes(side.table.signature, one) for one in found] for side, found in zip(both, shapes, strict=True)
    ]
    if sizes[0] != sizes[1]:
        told = ", NEW at ".join(" and ".join(map(shape_text, found)) or "its fixed shape" for found in shapes)
        return NotHere(reason=f"OLD is promised at {told}: give --workload")
    examples = tuple(golden.feeds for golden in read_goldens(both[0].golden))
    return Scene(
        device=device,
        machine=machine,
        threads=asked.threads or 1,
        shapes=shapes[0],
        examples=examples,
        signature=both[0].table.signature,
        seed=asked.seed,
        as_in_data=any(found.source == DATA for found in workloads),
    )


def _sizes(signature: Signature, shape: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shape of every input once each axis has its size: a fixed axis may meet a free one."""
    return {
        spec.name: tuple(shape[axis] if isinstance(axis, str) else axis for axis in spec.shape)
        for spec in signature.inputs
    }


def _listed(words: set[str]) -> str:
    return ", ".join(sorted(words))
