"""Is NEW faster than OLD? Launches in pairs, each pair one ratio NEW/OLD.

A pair is one launch of OLD and one of NEW, fresh processes, directly after each other; every second pair
starts with NEW (ABBA). What the machine does to both (its clock, its load, a spell of some minutes) cancels
in the ratio, and what it does to the second of two cancels over two pairs. Launches are whole, not runs
interleaved within one process: on two threads the pools of two engines got in each other's way.

The claim is on the median ratio of a random pair: the betting test of `statistics.py`, one value for each
pair, may be looked at after every pair. Disturbed pairs are never dropped; they count against whichever
side is to be proven.

Without launches here the launches of two reports are compared. They were made at other times, so nothing
cancels; each side's median of launches gets its own bounds at half the error, and the ratio lies between
low(NEW)/high(OLD) and high(NEW)/low(OLD).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.host.client import OnProgress
from edgekit.host.sessions import remote_conditions
from edgekit.measuring.footprint import memory_mib
from edgekit.measuring.launches import LaunchSetup, make_launch
from edgekit.measuring.plan import LEAST_LAUNCHES, Decision, MeasurementPlan
from edgekit.measuring.quiet import SHARE_OF_TIME, Waiting
from edgekit.measuring.statistics import Launches, Rules
from edgekit.values import Change, DiffFigure, DiffMethod, Interval, LaunchRecord, PairRecord

#: Within a pair the control computation of NEW takes as long as that of OLD, up to what is usual for the
#: two; a pair in which it does not saw the machine change its speed.
CONTROL_RATIO = 1.25
_MEDIAN = 0.5
_TOO_LITTLE = "one report's launches are too few, too disturbed or too like their neighbours for a bound"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One launch of each. number: from 0; new_first: NEW was launched first."""

    number: int
    new_first: bool
    old: LaunchRecord
    new: LaunchRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A figure of one launch. read: its value, None where the system does not tell it.

    tolerated: the share of a launch's runs that may be disturbed without spoiling the figure; None when
    runs have no part in it. cold: whether a disturbed cold start spoils it.
    """

    key: str
    unit: str
    read: Callable[[LaunchRecord], float | None]
    tolerated: float | None = None
    cold: bool = False
    less: Change = Change.FASTER
    more: Change = Change.SLOWER

    def spoilt(self, record: LaunchRecord) -> bool:
        """Whether the value of this launch cannot be trusted."""
        if self.cold:
            return record.cold_disturbed
        if self.tolerated is None:
            return False
        share = sum(record.disturbed) / max(1, len(record.disturbed))
        return record.settled is False or share > self.tolerated


def _percentile(share: float) -> Callable[[LaunchRecord], float | None]:
    def read(record: LaunchRecord) -> float | None:
        return float(np.quantile(record.latency_ms, share)) if record.latency_ms else None

    return read


LATENCY = Reading(key="latency_p50", unit="ms", read=_percentile(0.5), tolerated=0.5)
READINGS = (
    LATENCY,
    Reading(key="latency_p90", unit="ms", read=_percentile(0.9), tolerated=0.1),
    Reading(key="cold_start", unit="ms", read=lambda record: record.cold_start_ms, cold=True),
    Reading(key="peak_memory", unit="MiB", read=memory_mib, less=Change.SMALLER, more=Change.BIGGER),
)

Decide = Callable[[Sequence[Pair]], Decision]


def measure_pairs(
    old: LaunchSetup,
    new: LaunchSetup,
    plan: MeasurementPlan,
    decide: Decide,
    on_progress: OnProgress | None = None,
) -> tuple[Pair, ...]:
    """Launch pairs until `decide` is done, or the plan's launches or seconds are spent; at least once.

    Both launches of a pair get the feeds of its number. After a disturbed pair, which is kept as every
    other, the machine is given time to get quiet. A pair that would not end in time is not begun.
    """
    started = time.monotonic()
    waiting = Waiting(cores=old.cores, allowed=SHARE_OF_TIME * plan.max_seconds)
    pairs: list[Pair] = []

    def tell(what: str) -> None:
        if on_progress is not None:
            total = int(plan.max_seconds)
            on_progress(min(int(time.monotonic() - started), total), total, what)

    while True:
        begun = time.monotonic()
        pairs.append(_make_pair(old, new, plan, len(pairs)))
        needed = time.monotonic() - begun
        decision = decide(pairs)
        tell(f"pair {len(pairs)}" + (f": {decision.text}" if decision.text else ""))
        if decision.done and len(pairs) >= plan.min_launches:
            return tuple(pairs)
        if disturbed_pairs(pairs, LATENCY)[-1] and not waiting.over:
            with old.start_worker() as worker:
                waiting.wait(functools.partial(remote_conditions, worker), tell)
        out_of_time = time.monotonic() - started + needed > plan.max_seconds
        if out_of_time or len(pairs) >= plan.max_launches:
            return tuple(pairs)


def _make_pair(old: LaunchSetup, new: LaunchSetup, plan: MeasurementPlan, number: int) -> Pair:
    if number % 2:
        first = make_launch(new, plan, number)
        return Pair(number=number, new_first=True, old=make_launch(old, plan, number), new=first)
    first = make_launch(old, plan, number)
    return Pair(number=number, new_first=False, old=first, new=make_launch(new, plan, number))


def decider(confidence: float, margin: float, *, gate: bool) -> Decide:
    """Stop when the word on the latency is proven; with `gate`, when "at most 1 + margin" is decided."""

    def decide(pairs: Sequence[Pair]) -> Decision:
        ratio = paired_ratio(pairs, LATENCY, 1.0 - confidence)
        if ratio is None:
            return Decision(done=False, undecided=(LATENCY.key,))
        bound = 1.0 + margin
        judged = (ratio.low or 0.0) > bound or (ratio.high is not None and ratio.high <= bound)
        done = judged if gate else change_of(ratio, margin, LATENCY) is not Change.UNPROVEN
        text = f"NEW/OLD {_short(ratio.low)}..{_short(ratio.high)}"
        return Decision(done=done and len(pairs) >= LEAST_LAUNCHES, undecided=(LATENCY.key,), text=text)

    return decide


def _short(bound: float | None) -> str:
    return "?" if bound is None else f"{bound:.3g}"


def disturbed_pairs(pairs: Sequence[Pair], reading: Reading) -> tuple[bool, ...]:
    """Which pairs say nothing reliable about a figure: a launch is spoilt, or the machine changed."""
    uneven = _uneven_controls(pairs) if reading.unit == "ms" else (False,) * len(pairs)
    return tuple(
        reading.spoilt(pair.old) or reading.spoilt(pair.new) or changed
        for pair, changed in zip(pairs, uneven, strict=True)
    )


def _uneven_controls(pairs: Sequence[Pair]) -> tuple[bool, ...]:
    ratios = np.array([pair.new.control_ms / max(pair.old.control_ms, 1e-9) for pair in pairs])
    if len(ratios) < LEAST_LAUNCHES:
        return (False,) * len(pairs)
    usual = ratios / np.median(ratios)
    return tuple(bool(value) for value in np.maximum(usual, 1.0 / usual) > CONTROL_RATIO)


def paired_ratio(pairs: Sequence[Pair], reading: Reading, alpha: float) -> Interval | None:
    """The median ratio NEW/OLD of a random pair, each bound at error `alpha`; None without values."""
    kept = [
        (new / old, marked)
        for pair, marked in zip(pairs, disturbed_pairs(pairs, reading), strict=True)
        if (old := reading.read(pair.old)) and (new := reading.read(pair.new)) is not None
    ]
    return _median([value for value, _ in kept], [marked for _, marked in kept], alpha)


def stored_ratio(
    old: Sequence[LaunchRecord], new: Sequence[LaunchRecord], reading: Reading, alpha: float
) -> Interval | None:
    """The ratio of the two medians of launches, from launches that are not paired."""
    below, above = (launch_median(side, reading, alpha / 2) for side in (old, new))
    if below is None or above is None or below.estimate <= 0:
        return None
    return Interval(
        estimate=above.estimate / below.estimate,
        low=_divided(above.low, below.high),
        high=_divided(above.high, below.low),
    )


def launch_median(records: Sequence[LaunchRecord], reading: Reading, alpha: float) -> Interval | None:
    """The median over launches of a figure, each bound at error `alpha`."""
    values = [(value, reading.spoilt(one)) for one in records if (value := reading.read(one)) is not None]
    return _median([value for value, _ in values], [marked for _, marked in values], alpha)


def _median(values: Sequence[float], marked: Sequence[bool], alpha: float) -> Interval | None:
    launches = Launches([np.array([value]) for value in values], [np.array([mark]) for mark in marked])
    estimate = launches.estimate(_MEDIAN)
    if estimate is None:
        return None
    bounds = launches.bounds(_MEDIAN, Rules(alpha=alpha, least=LEAST_LAUNCHES))
    return Interval(estimate=estimate, low=bounds.low, high=bounds.high)


def _divided(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def change_of(ratio: Interval, margin: float, reading: Reading) -> Change:
    """The word that the interval proves. margin: how far from 1 both bounds may be for "the same"."""
    if ratio.high is not None and ratio.high < 1.0:
        return reading.less
    if ratio.low is not None and ratio.low > 1.0:
        return reading.more
    inside = ratio.low is not None and ratio.high is not None
    if inside and (ratio.low or 0.0) >= 1.0 - margin and (ratio.high or 0.0) <= 1.0 + margin:
        return Change.SAME
    return Change.UNPROVEN


def paired_figures(pairs: Sequence[Pair], confidence: float, margin: float) -> tuple[DiffFigure, ...]:
    """Every figure that launches give, compared pair by pair."""
    figures = []
    for reading in READINGS:
        ratio = paired_ratio(pairs, reading, 1.0 - confidence)
        sides = ([pair.old for pair in pairs], [pair.new for pair in pairs])
        found = _figure(reading, ratio, sides, margin, DiffMethod.PAIRED)
        marked = sum(disturbed_pairs(pairs, reading))
        if found.change is Change.UNPROVEN and 4 * marked >= len(pairs):
            reason = (
                f"{marked} of {len(pairs)} pairs were disturbed; a quieter machine would help, not more pairs"
            )
            found = dataclasses.replace(found, reason=reason)
        figures.append(found)
    return tuple(figures)


def stored_figures(
    old: Sequence[LaunchRecord], new: Sequence[LaunchRecord], confidence: float, margin: float
) -> tuple[DiffFigure, ...]:
    """The same figures from the launches of two reports."""
    return tuple(
        _figure(
            reading, stored_ratio(old, new, reading, 1.0 - confidence), (old, new), margin, DiffMethod.STORED
        )
        for reading in READINGS
    )


def unmeasured_figures(reason: str) -> tuple[DiffFigure, ...]:
    """The same figures, none of which could be taken."""
    return tuple(_absent(reading, DiffMethod.PAIRED, reason) for reading in READINGS)


def _absent(reading: Reading, method: DiffMethod, reason: str) -> DiffFigure:
    return DiffFigure(
        key=reading.key, unit=reading.unit, change=Change.NOT_MEASURED, method=method, reason=reason
    )


def _figure(
    reading: Reading,
    ratio: Interval | None,
    sides: tuple[Sequence[LaunchRecord], Sequence[LaunchRecord]],
    margin: float,
    method: DiffMethod,
) -> DiffFigure:
    old, new = (launch_median(side, reading, _MEDIAN) for side in sides)
    if ratio is None or old is None or new is None:
        return _absent(reading, method, "no launch of both tells it")
    unbounded = ratio.low is None and ratio.high is None
    return DiffFigure(
        key=reading.key,
        unit=reading.unit,
        change=change_of(ratio, margin, reading),
        reason=_TOO_LITTLE if unbounded and method is DiffMethod.STORED else "",
        old=old.estimate,
        new=new.estimate,
        ratio=ratio,
        method=method,
    )


def pair_records(pairs: Sequence[Pair]) -> tuple[PairRecord, ...]:
    """What of each pair is kept."""
    marks = disturbed_pairs(pairs, LATENCY)
    return tuple(
        PairRecord(
            number=pair.number,
            new_first=pair.new_first,
            old_ms=LATENCY.read(pair.old) or 0.0,
            new_ms=LATENCY.read(pair.new) or 0.0,
            disturbed=marked,
        )
        for pair, marked in zip(pairs, marks, strict=True)
    )
