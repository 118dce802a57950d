"""The hooks. Each hands over a description; the work is done by the objects it names.

Entry-point group `edgekit.backends` holds one module per backend, entry-point name == backend
name, with `edgekit_backend`. Group `edgekit.plugins` holds modules with any of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pluggy

from edgekit.hooktypes import DeviceKind, ReportFormat, TaskSpec
from edgekit.values import BackendSpec, StageEvent

hookspec = pluggy.HookspecMarker("edgekit")


@hookspec(firstresult=True)
def edgekit_backend() -> BackendSpec:  # type: ignore[empty-body]
    """Describe a backend: `return BackendSpec(name="mine", compiler="mine.compiler:Compiler", ...)`."""


@hookspec
def edgekit_target_dirs() -> Sequence[Path]:  # type: ignore[empty-body]
    """Directories of target files: `return [Path(__file__).parent / "targets"]`."""


@hookspec
def edgekit_tasks() -> Sequence[TaskSpec]:  # type: ignore[empty-body]
    """What models are for: `return [TaskSpec(name="my-task", factory="mine.task:MyTask")]`."""


@hookspec
def edgekit_device_kinds() -> Sequence[DeviceKind]:  # type: ignore[empty-body]
    """Ways to reach a device: `return [DeviceKind(scheme="ssh", factory="mine.ssh:open_device")]`."""


@hookspec
def edgekit_report_formats() -> Sequence[ReportFormat]:  # type: ignore[empty-body]
    """Report writers: `return [ReportFormat(name="csv", filename="r.csv", writer="mine.csv:render")]`."""


@hookspec
def edgekit_stage_finished(event: StageEvent) -> None:
    """Observe a finished stage. What it raises is contained and shown as a warning."""
