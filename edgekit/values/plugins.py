"""What a plugin says of itself, what it is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.values.calibration import LearntRanges
from edgekit.values.targets import Target
from edgekit_runtime.values import OptionValue, Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """A declared option of a backend; core checks it, prints its help and can search over it.

    type: "str", "int", "float" or "bool"; stage: "compile" or "run".
    """

    name: str
    type: str
    default: OptionValue
    help: str
    stage: str = "compile"
    choices: tuple[OptionValue, ...] = ()
    tunable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSpec:
    """What the hook `edgekit_backend` returns. Describing a backend imports no engine.

    compiler: "package.module:Class" of its `Compiler`. The session half is found by the entry
    point of the same name in group `edgekit.openers`.
    arches: platform.machine() words it runs on; precisions: those it can build;
    capabilities: words of `edgekit.backend.CAPABILITIES`; builds_on: "anywhere" or "target";
    device: its word for what it runs on, where a target names nothing else than the usual "cpu";
    engine_modules: modules of the engine, so that a missing engine is seen without importing it.
    """

    name: str
    summary: str
    api_version: int
    compiler: str
    arches: tuple[str, ...]
    precisions: tuple[str, ...]
    capabilities: tuple[str, ...] = ()
    builds_on: str = "anywhere"
    device: str = "cpu"
    engine_modules: tuple[str, ...] = ()
    options: tuple[OptionSpec, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Whether a backend can work here. reason: what is missing and how to get it."""

    available: bool
    reason: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSupport:
    """One operator type of the model: how often it occurs and whether the backend takes it."""

    op_type: str
    count: int
    supported: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """The backend's answer to "will you take this model", operator by operator."""

    supported: bool
    operators: tuple[OperatorSupport, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileRequest:
    """What a compiler gets.

    model: the ONNX file (external data beside it), never to be changed;
    workdir: the only directory to write in; it exists and is empty;
    calibration: a directory of feeds (read with `edgekit.api.read_feeds`), or None;
    keep_high: names of ONNX nodes that stay in the model's own precision;
    axes: lowest and highest size of symbolic axes, as far as known; the highest is None where nothing is.
    """

    model: Path
    signature: Signature
    workdir: Path
    precision: str
    target: Target
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    calibration: Path | None = None
    keep_high: tuple[str, ...] = ()
    seed: int = 0
    threads: int = 1
    axes: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What a compiler built. files: paths relative to the workdir; precision: the one built; ranges: those
    that it learnt from calibration rows (`edgekit.api.RangeWatch` counts them), None when it learnt none."""

    files: tuple[str, ...]
    precision: str
    engine_versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ranges: LearntRanges | None = None
