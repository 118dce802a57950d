"""The tables of model and artifact manifests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.values.calibration import CalibrationReport
from edgekit.values.earning import Earned, Restored
from edgekit.values.targets import RunSettings, Target
from edgekit_runtime.values import Machine, OptionValue, Placement, Signature, Tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCheck:
    """One comparison of the exported graph with the original, at one shape."""

    name: str
    shape: Mapping[str, int]
    max_abs_error: float
    agreement: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTable:
    """The `model` table of a model directory's manifest.

    axes: lowest and highest size of each axis that varies; the highest is None where nothing is known.
    parts: signatures of the graphs that the model is made of, in the order they run; {} when it is one.
    """

    task: str
    signature: Signature
    opset: int
    source: Mapping[str, str]
    tolerance: Tolerance
    checks: tuple[ExportCheck, ...]
    labels: tuple[str, ...] = ()
    tool_versions: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    parts: Mapping[str, Signature] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What was asked of the compiler: precision, options, nodes kept high."""

    precision: str
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    keep_high: tuple[str, ...] = ()
    calibration_rows: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactTable:
    """The `artifact` table of an artifact's manifest.

    placement is read from a session opened on the machine that compiled (built_on), or None when
    that machine cannot open it. row_digests: digests of the calibration and tune rows.
    calibration: what the calibration rows are like, None without any; earned: a quantized artifact beside
    the higher precision; restored: how nodes kept high were chosen.
    """

    target: Target
    backend: str
    backend_version: str
    precision: str
    recipe: Recipe
    run: RunSettings
    signature: Signature
    engine_versions: Mapping[str, str]
    built_on: Machine
    placement: Placement | None = None
    notes: tuple[str, ...] = ()
    row_digests: tuple[str, ...] = ()
    calibration: CalibrationReport | None = None
    earned: Earned | None = None
    restored: Restored | None = None
