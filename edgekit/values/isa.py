"""An artifact on a CPU with the target's features, where those are not this machine's."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.values.reports import GoldenRecord, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class IsaRecord:
    """Goldens run under an emulator. feature: the target's feature that engines choose kernels by, "" when
    the target names none; cpu: the device it ran on, "" when it did not run; shaped: goldens at the
    workload's shape, None where recorded ones have it, or where those were wrong already.

    golden is None and outcome NOT_MEASURED when nothing could be run; the reason says why.
    """

    feature: str
    outcome: Outcome
    reason: str
    cpu: str = ""
    golden: GoldenRecord | None = None
    shaped: GoldenRecord | None = None
