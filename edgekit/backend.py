"""The protocol of the compile half of a backend. The session half is `edgekit_runtime.session`.

Protocols, not base classes: a plugin's class need not inherit anything of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgekit.values import Compiled, CompileRequest, Probe, Support, Target

API_VERSION = 1

#: Words a backend may claim; the conformance kit tests what is claimed and nothing else.
CAPABILITIES = (
    "dynamic-shapes",  # one artifact serves every size of the symbolic axes
    "reference",  # exact enough to judge an export: fp32, no fast-math
    "placement",  # session.placement() reads the executed graph
    "profile",  # session.profile() gives per-operator time
    "keep-high",  # honours CompileRequest.keep_high
)

ProgressCallback = Callable[[int, int, str], None]


@runtime_checkable
class Compiler(Protocol):
    """The class that `BackendSpec.compiler` names; made without arguments, inside a worker."""

    def probe(self) -> Probe:
        """Whether the compile half can work here. Never raises."""

    def check(self, model: Path, target: Target) -> Support:
        """Whether the engine takes this ONNX file, operator by operator. Writes nothing."""

    def compile(self, request: CompileRequest, progress: ProgressCallback) -> Compiled:
        """Build the artifact's files in `request.workdir`.

        Gives `request.precision` or raises `PrecisionNotGiven`; raises `CompileFailed` for a model
        it cannot build. `progress(done, total, what)` may be called at any time.
        """
