"""Frozen values that cross rooms, processes and machines. Plain data, JSON round-trip, no arrays.

What a device needs too (Signature, Placement, Machine, ...) is in `edgekit_runtime.values`.
"""

from __future__ import annotations

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
    Check,
    GoldenRecord,
    Interval,
    LaunchRecord,
    Outcome,
    ReportTable,
    StageEvent,
)
from edgekit.values.targets import (
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
    "SCHEMA",
    "AccuracyRecord",
    "ArtifactTable",
    "BackendSpec",
    "Budget",
    "Check",
    "CompileRequest",
    "CompileSettings",
    "Compiled",
    "DeviceSettings",
    "ExportCheck",
    "GoldenRecord",
    "Hardware",
    "InputEntry",
    "Interval",
    "LaunchRecord",
    "Match",
    "ModelTable",
    "OperatorSupport",
    "OptionSpec",
    "Outcome",
    "Probe",
    "Recipe",
    "ReportTable",
    "RunSettings",
    "StageEvent",
    "Support",
    "Target",
    "Tolerance",
    "Workload",
]
