"""Warming up: what is run before anything is measured, and when an engine has come to rest."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit_runtime.session import Feeds

#: Two successive warm-up blocks whose medians differ by less than this are a steady state.
SETTLED_WITHIN = 0.05
_BLOCK_MIN = 5
_WARMUP_CAP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """How a warm-up ended.

    runs: all that were made. settled: whether it ended in a steady state. drift: median of the last
    block over the median of the block before, less 1; None when there were not two blocks.
    """

    runs: int = 0
    settled: bool = False
    drift: float | None = None


def warm_up(take: Callable[[int], int], inputs: Sequence[Feeds], least: int, seconds: float) -> WarmUp:
    """Run blocks of runs until two successive medians agree. `take(i)` runs inputs[i]; nanoseconds.

    Inputs of several shapes are first run once each, so that every shape has had its first run; then
    the warm-up is judged on the largest shape alone, because lengths that change look like drift.
    At least `least` runs; no new block after `seconds` or ten times as many runs. 0 runs nothing.
    """
    if not least:
        return WarmUp()
    deadline = time.monotonic() + seconds
    judged = _largest(inputs)
    first = range(len(inputs)) if len(judged) < len(inputs) else range(0)
    for index in first:
        take(index)
    block = max(_BLOCK_MIN, least // 2)
    needed = max(least, 2 * block)
    readings: list[int] = []
    settled, drift = False, None
    while not settled:
        readings.append(take(judged[len(readings) % len(judged)]))
        done, late = len(readings), time.monotonic() >= deadline
        if done >= needed:
            drift = _drift(readings, block)
            settled = abs(drift) <= SETTLED_WITHIN
            if done >= _WARMUP_CAP * needed or late:
                break
        elif late and len(first) + done >= least:
            break  # a slow model: the runs that were asked for are enough
    runs = len(first) + len(readings)
    if len(inputs) > 1 and judged[(len(readings) - 1) % len(judged)] == 0:
        take(len(inputs) - 1)  # the measured part starts with input 0, which must not come twice in a row
        runs += 1
    return WarmUp(runs=runs, settled=settled, drift=drift)


def shapes_of(feeds: Feeds) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Name and shape of every input, in the order of the names."""
    return tuple(sorted((name, value.shape) for name, value in feeds.items()))


def _largest(inputs: Sequence[Feeds]) -> list[int]:
    """Indices of the inputs shaped like the one that has most bytes: all, when there is one shape."""
    largest = max(inputs, key=lambda feeds: sum(value.nbytes for value in feeds.values()))
    return [index for index, feeds in enumerate(inputs) if shapes_of(feeds) == shapes_of(largest)]


def _drift(readings: Sequence[int], block: int) -> float:
    before = statistics.median(readings[-2 * block : -block])
    return statistics.median(readings[-block:]) / max(before, 1) - 1
