"""The one door for plugins: everything a backend, task, device kind or report format may import.

    from edgekit.api import BackendSpec, Compiled, CompileRequest, hookimpl

The session half of a backend must run where edgekit is not installed: it imports
`edgekit_runtime` instead.
"""

from __future__ import annotations

import pluggy

from edgekit.backend import API_VERSION, CAPABILITIES, Compiler, ProgressCallback, RangeWatch
from edgekit.convolution_rounding import Convolution, ConvolutionInputs
from edgekit.errors import (
    BackendUnavailable,
    CompileFailed,
    ModelNotSupported,
    NothingLowered,
    PrecisionNotGiven,
    UnknownName,
)
from edgekit.graph_precision import passed_through
from edgekit.hooktypes import DeviceKind, ReportFormat, TaskSpec
from edgekit.onnx_graphs import (
    all_graphs,
    all_nodes,
    check_keep_high,
    load_graph,
    operator_counts,
    operator_name,
)
from edgekit.values import (
    BackendSpec,
    Budget,
    Compiled,
    CompileRequest,
    LearntRanges,
    OperatorSupport,
    OptionSpec,
    Probe,
    RangeSetter,
    StageEvent,
    Support,
    Target,
)
from edgekit_runtime.errors import (
    EdgekitError,
    HardwareMissing,
    InputError,
    OpenFailed,
    RunFailed,
    SessionClosed,
)
from edgekit_runtime.feeds import read_feeds
from edgekit_runtime.session import Feeds, Opener, Session
from edgekit_runtime.values import (
    Machine,
    OpenRequest,
    OperatorTime,
    OptionValue,
    Placement,
    PlacementRow,
    Signature,
    TensorSpec,
)

hookimpl = pluggy.HookimplMarker("edgekit")

__all__ = [
    "API_VERSION",
    "CAPABILITIES",
    "BackendSpec",
    "BackendUnavailable",
    "Budget",
    "CompileFailed",
    "CompileRequest",
    "Compiled",
    "Compiler",
    "Convolution",
    "ConvolutionInputs",
    "DeviceKind",
    "EdgekitError",
    "Feeds",
    "HardwareMissing",
    "InputError",
    "LearntRanges",
    "Machine",
    "ModelNotSupported",
    "NothingLowered",
    "OpenFailed",
    "OpenRequest",
    "Opener",
    "OperatorSupport",
    "OperatorTime",
    "OptionSpec",
    "OptionValue",
    "Placement",
    "PlacementRow",
    "PrecisionNotGiven",
    "Probe",
    "ProgressCallback",
    "RangeSetter",
    "RangeWatch",
    "ReportFormat",
    "RunFailed",
    "Session",
    "SessionClosed",
    "Signature",
    "StageEvent",
    "Support",
    "Target",
    "TaskSpec",
    "TensorSpec",
    "UnknownName",
    "all_graphs",
    "all_nodes",
    "check_keep_high",
    "hookimpl",
    "load_graph",
    "operator_counts",
    "operator_name",
    "passed_through",
    "read_feeds",
]
