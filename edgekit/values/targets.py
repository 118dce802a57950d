"""A target: hardware, how to match it, backend, precision, workload, budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit_runtime.values import OptionValue

SCHEMA = 1
#: Beside the precisions that a target may ask for: the lowest that is right and has earned its place.
AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How a machine is recognised as the target; an empty field matches everything.

    arch: platform.machine(); system: "Linux", "Android", "Windows", "Darwin";
    cpu, device_tree, gpu: shell patterns, case ignored;
    isa: CPU features that must all be there; emulated: whether an emulated CPU may match.
    """

    arch: str = ""
    system: str = ""
    cpu: str = ""
    device_tree: str = ""
    gpu: str = ""
    isa: tuple[str, ...] = ()
    emulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Sourced facts about the hardware. sources: where each fact was read.

    gpu_arch: the GPU's architecture in its maker's words ("sm_89"), which a backend builds for;
    gpu_memory_mib: memory of its own, 0 where it shares the CPU's; power_modes: as the maker names them.
    """

    cpu: str = ""
    cores: int = 0
    memory_mib: int = 0
    isa: tuple[str, ...] = ()
    gpu: str = ""
    gpu_arch: str = ""
    gpu_memory_mib: int = 0
    power_modes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The shapes and the use at which the budget is promised. Axes that the model lacks are not used.

    `axes` holds symbolic axes beyond the known ones. shapes: a mix, each entry giving the sizes that
    differ from the ones above; every shape gets the same share of runs. from_data: the shapes of the rows
    given as test data, as often as they occur. streams: concurrent streams of runs for throughput.
    heat_seconds: run without a pause for so long before the first launch (sustained latency).
    """

    batch: int = 1
    sequence: int = 128
    height: int = 224
    width: int = 224
    samples: int = 16000
    axes: Mapping[str, int] = field(default_factory=dict)
    shapes: tuple[Mapping[str, int], ...] = ()
    from_data: bool = False
    streams: int = 1
    heat_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits. None means no limit. Milliseconds, MiB, points of the metric (x100), shares in [0, 1].

    Keys that end in `_min` are lower limits; all others are upper limits.
    """

    latency_p50_ms: float | None = None
    latency_p90_ms: float | None = None
    latency_p99_ms: float | None = None
    cold_start_ms: float | None = None
    throughput_min: float | None = None
    peak_memory_mib: float | None = None
    artifact_mib: float | None = None
    accuracy_drop: float | None = None
    max_fallback: float | None = None
    energy_mj: float | None = None
    ttft_ms: float | None = None
    tpot_p50_ms: float | None = None
    tpot_p99_ms: float | None = None
    tokens_per_second_min: float | None = None
    perplexity_increase: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How the artifact is run on the target. options: the backend's run options."""

    threads: int = 1
    device: str = "cpu"
    options: Mapping[str, OptionValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileSettings:
    """How the artifact is built for the target. options: the backend's compile options.

    builds_on: "target" where the engine is built on the target's own machine, "" as the backend says.
    auto: precisions that `auto` may take instead of the higher one; () for all that the target's CPU has.
    """

    builds_on: str = ""
    auto: tuple[str, ...] = ()
    options: Mapping[str, OptionValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """Where the target's machine is reached. uri: "local" or a registered device kind's uri."""

    uri: str = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A resolved target: hardware, how to match it, backend, precision, workload, budget.

    origin: the file it was read from; "" for one that was made in code.
    """

    name: str
    schema: int = SCHEMA
    extends: str = ""
    summary: str = ""
    backend: str = ""
    precision: str = "fp32"
    match: Match = field(default_factory=Match)
    hardware: Hardware = field(default_factory=Hardware)
    compile: CompileSettings = field(default_factory=CompileSettings)
    run: RunSettings = field(default_factory=RunSettings)
    workload: Workload = field(default_factory=Workload)
    budget: Budget = field(default_factory=Budget)
    device: DeviceSettings = field(default_factory=DeviceSettings)
    origin: str = ""
