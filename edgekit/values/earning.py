"""What a lower precision gained over a higher one, and what it cost: why an artifact is as it is."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.values.diffs import DiffFigure
from edgekit.values.reports import Interval, Sensitivity


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """A lower precision beside a higher one of the same backend, both launched in turn.

    against: the higher precision; size: bytes as a share of the higher one's; latency: NEW is the lower
    one; refusal: why it did not earn its place, "" when it did.
    """

    against: str
    size: float
    latency: DiffFigure
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One artifact tried on the tune rows. kept: the groups of nodes left in the higher precision.

    error: root mean square of the outputs' differences from the higher precision, as a share of the
    outputs'; flips: rows with another answer; drop: points lost, None where the rows tell no accuracy;
    ms: least latency of one launch, which other work on the machine changes least; lowered: False where
    nothing was left to lower, so that this is the higher precision.
    """

    kept: tuple[str, ...]
    error: float
    flips: int
    ms: float
    drop: Interval | None = None
    lowered: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """How nodes were put back. groups: kept high in the end; trials: in the order they were made.

    reached: whether the last one is within the accuracy budget; reason: why it ended, when not.
    """

    groups: tuple[str, ...]
    trials: tuple[Trial, ...]
    ranking: tuple[Sensitivity, ...]
    reached: bool
    reason: str = ""
