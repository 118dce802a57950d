"""Plain frozen data that crosses the worker pipe and travels in packages.

Arrays never live in values: feeds and outputs are `Mapping[str, NDArray]`, handed to calls only.
Standard library only, so that reading a package's description costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: dtypes a tensor may have, by their numpy names (bfloat16 exists inside engines only).
DTYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")

#: Precisions a recipe may ask for. What an engine executes is reported in these words too.
#: fp8: float8 of 4 exponent and 3 mantissa bits (e4m3), calibrated as int8 is.
#: int8-weights and int4-weights: only weights are stored so, and computed with in a higher precision.
PRECISIONS = ("fp32", "fp16", "bf16", "fp8", "int8", "int8-weights", "int4-weights")

OptionValue = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output. `shape` holds sizes, or names of symbolic axes such as "batch"."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a model takes and gives, in the order of its graph."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """What a backend's opener gets.

    directory: the artifact; the opener may read below it and write nothing.
    precision: the precision the artifact was compiled for; an opener must not pick another.
    threads: compute threads the engine may use, at least 1.
    device: the engine's device word, "cpu" unless the target says otherwise.
    options: the backend's declared options, defaults filled in.
    """

    directory: Path
    precision: str
    threads: int = 1
    device: str = "cpu"
    options: Mapping[str, OptionValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRow:
    """Nodes of the executed graph that ran in one precision on one device.

    time_share: share of execution time in [0, 1], or None when the engine cannot tell.
    """

    precision: str
    device: str
    nodes: int
    time_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where and how the executed graph ran. `source` says how the engine told."""

    rows: tuple[PlacementRow, ...]
    source: str

    def nodes(self) -> int:
        """Number of executed nodes, all rows together."""
        return sum(row.nodes for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """One executed operator. `share` is its part of the run's operator time, in [0, 1]."""

    name: str
    op_type: str
    precision: str
    device: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine's fingerprint. Fields that this system does not tell are None or empty.

    arch: platform.machine() ("x86_64", "aarch64"); isa: the CPU features edgekit cares about;
    cores: online logical CPUs; usable_cores: after affinity and cgroup quota (may be fractional);
    memory_mib: after the cgroup limit; device_tree: /proc/device-tree/model; gpu: GPU names;
    gpu_arch: the architecture of each of them ("sm_89"), "" where the system does not tell it.
    """

    arch: str
    system: str
    cpu: str
    isa: tuple[str, ...]
    cores: int
    usable_cores: float
    memory_mib: int
    device_tree: str = ""
    gpu: tuple[str, ...] = ()
    gpu_arch: tuple[str, ...] = ()
    emulated: bool = False
    governor: str = ""
    python: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a number may be from the original's: |a - b| <= atol + rtol * |b|."""

    atol: float
    rtol: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InputEntry:
    """A parent or data file that a stage read. path: where it was, relative to the output."""

    role: str
    digest: str
    path: str = ""
