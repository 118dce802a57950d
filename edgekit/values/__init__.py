"""Frozen values that cross rooms, processes and machines. Plain data, JSON round-trip, no arrays.

What a device needs too (Signature, Placement, Machine, ...) is in `edgekit_runtime.values`.
"""

from __future__ import annotations

from edgekit.values.calibration import CalibrationReport, LearntRanges, Lengths, RangeRow, RangeSetter
from edgekit.values.diffs import (
    DIFF_SCHEMA,
    Change,
    DiffFigure,
    DiffMethod,
    DiffSide,
    DiffTable,
    PairRecord,
    PlacementChange,
    SettingChange,
)
from edgekit.values.earning import Earned, Restored, Trial
from edgekit.values.manifests import (
    ArtifactTable,
    ExportCheck,
    ModelTable,
    Recipe,
)
from edgekit.values.plugins import (
    BackendSpec,
    Compiled,
    CompileRequest,
    OperatorSupport,
    OptionSpec,
    Probe,
    Support,
)
from edgekit.values.reports import (
    AccuracyRecord,
    ChangedRow,
    Check,
    GeneratedRecord,
    GoldenRecord,
    HeatRecord,
    Interval,
    LaunchConditions,
    LaunchRecord,
    Outcome,
    ReportTable,
    Sensitivity,
    StageEvent,
)
from edgekit.values.targets import (
    AUTO,
    SCHEMA,
    Budget,
    CompileSettings,
    DeviceSettings,
    Hardware,
    Match,
    RunSettings,
    Target,
    Workload,
)
from edgekit_runtime.values import InputEntry, Tolerance

__all__ = [
    "AUTO",
    "DIFF_SCHEMA",
    "SCHEMA",
    "AccuracyRecord",
    "ArtifactTable",
    "BackendSpec",
    "Budget",
    "CalibrationReport",
    "Change",
    "ChangedRow",
    "Check",
    "CompileRequest",
    "CompileSettings",
    "Compiled",
    "DeviceSettings",
    "DiffFigure",
    "DiffMethod",
    "DiffSide",
    "DiffTable",
    "Earned",
    "ExportCheck",
    "GeneratedRecord",
    "GoldenRecord",
    "Hardware",
    "HeatRecord",
    "InputEntry",
    "Interval",
    "LaunchConditions",
    "LaunchRecord",
    "LearntRanges",
    "Lengths",
    "Match",
    "ModelTable",
    "OperatorSupport",
    "OptionSpec",
    "Outcome",
    "PairRecord",
    "PlacementChange",
    "Probe",
    "RangeRow",
    "RangeSetter",
    "Recipe",
    "ReportTable",
    "Restored",
    "RunSettings",
    "Sensitivity",
    "SettingChange",
    "StageEvent",
    "Support",
    "Target",
    "Tolerance",
    "Trial",
    "Workload",
]
