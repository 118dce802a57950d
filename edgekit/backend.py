"""The protocol of the compile half of a backend. The session half is `edgekit_runtime.session`.

Protocols, not base classes: a plugin's class need not inherit anything of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgekit.values import Compiled, CompileRequest, LearntRanges, Probe, RangeSetter, Support, Target

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


class RangeWatch:
    """Which calibration run sets the range of each tensor: for `Compiled.ranges`, a few numbers a tensor.

    A run sets a range alone when the range is at least TWICE as wide as all others ask for, which costs each
    of those one of its eight bits. A range always holds 0.
    """

    TWICE = 2.0

    def __init__(self) -> None:
        self._ends: dict[str, tuple[_End, _End]] = {}
        self._runs: set[int] = set()

    def see(self, tensor: str, run: int, low: float, high: float) -> None:
        """`tensor` lies between `low` and `high` in `run`, counted from 0; once for each of them."""
        self._runs.add(run)
        below, above = self._ends.setdefault(tensor, (_End(), _End()))
        below.see(-low, run)
        above.see(high, run)

    def found(self, tensors: Collection[str] | None = None) -> LearntRanges:
        """What was seen of `tensors`, of all where that is None. One run alone says nothing of others, so
        that it has set none."""
        ends = {name: pair for name, pair in self._ends.items() if tensors is None or name in tensors}
        widest: dict[int, list[RangeSetter]] = {}
        for name, pair in ends.items():
            width = sum(end.first for end in pair)
            for run in {end.run for end in pair} if len(self._runs) > 1 else ():
                without = sum(end.without(run) for end in pair)
                if width > 0 and width >= self.TWICE * without:
                    found = RangeSetter(run=run, ranges=1, tensor=name, width=width, width_without=without)
                    widest.setdefault(run, []).append(found)
        setters = [
            replace(min(found, key=lambda each: each.width_without / each.width), ranges=len(found))
            for found in widest.values()
        ]
        setters.sort(key=lambda each: (-each.ranges, each.run))
        return LearntRanges(count=len(ends), setters=tuple(setters))


@dataclass(slots=True)
class _End:
    """How far one end of a range lies from 0, and how far it would lie without the run that set it."""

    first: float = 0.0
    run: int = -1
    second: float = 0.0

    def see(self, distance: float, run: int) -> None:
        if distance > self.first:
            self.first, self.run, self.second = distance, run, self.first
        else:
            self.second = max(self.second, distance)

    def without(self, run: int) -> float:
        return self.second if run == self.run else self.first
