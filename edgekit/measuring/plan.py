"""How much is measured at most, and when enough has been seen."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.errors import UsageError

#: Launches that prove a median at 99 % when all are clean; made even when no budget asks for any.
LAUNCHES_FOR_A_MEDIAN = 7
#: Below this nothing is decided, however clear it looks.
LEAST_LAUNCHES = 3
#: Launches made before anything is proven, where time allows: a machine's slow spells must have a chance
#: to show. Spells of up to a tenth of these are covered (tests/benchmarks/verdict_simulation.md).
WATCHED_LAUNCHES = 60
CONFIDENCE_RANGE = (0.5, 0.9999)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementPlan:
    """Launches are made until everything is decided, `max_launches` or `max_seconds` are reached.

    A launch measures up to `max_runs` runs in about `block_seconds` (slow models: as many runs as a
    warm-up needs to be judged). More launches teach more than longer ones: the launch is the sampling unit.
    min_launches: made however clear the first ones are, since one launch may be unlike all others.
    """

    max_seconds: float = 120.0
    min_launches: int = LEAST_LAUNCHES
    max_launches: int = 2000
    warmup_runs: int = 5
    max_runs: int = 20
    block_seconds: float = 0.5
    call_timeout: float = 300.0

    def __post_init__(self) -> None:
        if self.max_seconds <= 0 or self.min_launches < 1 or self.max_launches < self.min_launches:
            raise UsageError(
                f"a measurement of {self.max_seconds:g} s and {self.max_launches} launches measures nothing",
                hint="give --max-seconds a number above zero",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether measuring may stop. undecided: the budget keys still open; text: for progress."""

    done: bool
    undecided: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How claims about launches are proven; settled before the first launch.

    confidence: one-sided, for every claim; launch_seconds: what a launch is expected to take;
    max_seconds: for all launches; watched: launches that must be seen before anything is proven;
    assume_nothing: nothing is proven before that many launches, however little time there is.
    """

    confidence: float
    launch_seconds: float = 0.0
    max_seconds: float = 120.0
    watched: int = WATCHED_LAUNCHES
    assume_nothing: bool = False

    @property
    def few(self) -> bool:
        """Whether time is too short to watch the machine: then a model may decide, and is named."""
        return not self.assume_nothing and self.launch_seconds * self.watched > self.max_seconds


def check_confidence(confidence: float) -> float:
    """`confidence` when it is one. Raises UsageError."""
    low, high = CONFIDENCE_RANGE
    if not low <= confidence <= high:
        raise UsageError(
            f"--confidence {confidence:g} is not between {low:g} and {high:g}",
            hint="for example --confidence 0.99",
        )
    return confidence
