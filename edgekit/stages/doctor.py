"""What works on this machine, and what to install for the rest."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from importlib import metadata

from edgekit.host.compiling import probe_backend
from edgekit.stages.backends import list_backends
from edgekit.stages.common import OnProgress, quiet
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.machine import read_machine

#: (module, what it is for, how to get it)
OPTIONAL = (
    ("torch", "export", "pip install edgekit[export]"),
    ("transformers", "export", "pip install edgekit[export]"),
    ("onnxscript", "export", "pip install edgekit[export]"),
    ("gguf", "export of GGUF files", "pip install edgekit[gguf]"),
    ("tokenizers", "text models", "pip install edgekit-runtime[text]"),
    ("pytest", "edgekit backend test", "pip install edgekit[testing]"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorRow:
    """One finding. state: "ok", "missing" or "broken"."""

    state: str
    subject: str
    detail: str


def examine(on_progress: OnProgress = quiet) -> tuple[DoctorRow, ...]:
    """Look at Python, the machine, optional libraries, and every backend (in a worker each)."""
    return (*_here(), *(_library(*row) for row in OPTIONAL), *_backends(on_progress))


def _here() -> tuple[DoctorRow, ...]:
    machine = read_machine()
    cores = f"{machine.usable_cores:g} of {machine.cores} cores"
    system = f"{machine.cpu or machine.arch}, {cores}, {machine.memory_mib} MiB"
    return (
        DoctorRow(
            state="ok",
            subject="edgekit",
            detail=f"{metadata.version('edgekit')}, Python {sys.version.split()[0]}",
        ),
        DoctorRow(state="ok", subject="machine", detail=system),
    )


def _library(module: str, purpose: str, how: str) -> DoctorRow:
    if importlib.util.find_spec(module) is None:
        return DoctorRow(state="missing", subject=module, detail=f"needed for {purpose}: {how}")
    return DoctorRow(state="ok", subject=module, detail=f"{metadata.version(module)}, for {purpose}")


def _backends(on_progress: OnProgress) -> tuple[DoctorRow, ...]:
    rows = []
    entries = list_backends()
    for number, entry in enumerate(entries):
        on_progress(number, len(entries), f"asking backend {entry.name}")
        subject = f"backend {entry.name}"
        if entry.state == "broken":
            rows.append(DoctorRow(state="broken", subject=subject, detail=entry.summary))
            continue
        try:
            probe = probe_backend(entry.name)
        except EdgekitError as problem:
            rows.append(DoctorRow(state="broken", subject=subject, detail=problem.message))
            continue
        versions = ", ".join(f"{name} {version}" for name, version in probe.versions.items())
        state = "ok" if probe.available else "missing"
        rows.append(
            DoctorRow(state=state, subject=subject, detail=versions if probe.available else probe.reason)
        )
    if not rows:
        rows.append(
            DoctorRow(state="missing", subject="backends", detail="none installed: pip install edgekit[all]")
        )
    return tuple(rows)
