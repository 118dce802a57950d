"""What the author's class says, and what the kit's compiler and sessions are asked for because of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from edgekit.targets import load_target, run_device
from edgekit.testing.models import USUAL
from edgekit.values import BackendSpec, Budget, Hardware, Target, Workload
from edgekit_runtime.machine import read_machine
from edgekit_runtime.values import OptionValue


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The attributes of a conformance class. target: "" is this machine; device: "" is the target's."""

    backend: str
    options: Mapping[str, OptionValue]
    device: str
    time_limit: float
    target: str = ""

    def target_at(self, precision: str) -> Target:
        """The target in a precision, at the sizes of the kit's own models."""
        workload = Workload(batch=USUAL["batch"], sequence=USUAL["sequence"])
        return dataclasses.replace(
            self._target, backend=self.backend, precision=precision, workload=workload, budget=Budget()
        )

    def options_of(self, spec: BackendSpec, stage: str) -> dict[str, OptionValue]:
        """The backend's declared options: the author's values before the target's, else the defaults."""
        tables = {"compile": self._target.compile.options, "run": self._target.run.options}
        given = {**tables[stage], **self.options}
        declared = [option for option in spec.options if option.stage == stage]
        return {option.name: given.get(option.name, option.default) for option in declared}

    def device_of(self, spec: BackendSpec) -> str:
        """The engine's word for what it runs on."""
        return self.device or run_device(self._target, spec)

    @cached_property
    def _target(self) -> Target:
        if self.target:
            return load_target(self.target)
        arches = read_machine().gpu_arch
        return Target(name="conformance", hardware=Hardware(gpu_arch=arches[0] if arches else ""))
