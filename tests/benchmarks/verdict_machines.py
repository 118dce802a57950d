"""Models of machines whose launches are judged in the verdict study, and traces of a real one.

A machine draws latencies by (experiment, launch, run), with the marks that a reader of it would have set.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RUNS = 20
TRACES = Path(__file__).with_name("traces")
#: Launches of a trace are drawn in blocks of so many, so that what neighbours share is kept.
BLOCK = 10

Values = NDArray[Any]
Generator = np.random.Generator


@dataclass(frozen=True)
class Drawn:
    """Latencies by (experiment, launch, run), and which of them would have been marked as disturbed."""

    latency: Values
    disturbed: Values


@dataclass(frozen=True)
class Machine:
    """draw(generator, experiments, launches) -> Drawn. covered: whether the stated error must hold.

    truth: the same machine when it is quiet, where the limits' truth is taken from; None for itself.
    """

    name: str
    draw: Callable[[Generator, int, int], Drawn]
    covered: bool = True
    truth: Callable[[Generator, int, int], Drawn] | None = None


def quiet(latency: Values) -> Drawn:
    """Nothing is marked."""
    return Drawn(latency, np.zeros(latency.shape, bool))


def launches(
    spread: float, *, tail: float = 0.0, runs: float = 0.0, neighbours: float = 0.0
) -> Callable[[Generator, int, int], Drawn]:
    """Launch effects of `spread`, AR(1) from run to run and from launch to launch, a share of slow runs."""

    def draw(generator: Generator, experiments: int, count: int) -> Drawn:
        shape = (experiments, count, RUNS)
        noise = _chained(generator.standard_normal(shape), runs)
        effect = _chained(generator.standard_normal(shape[:2]), neighbours)
        latency = 10.0 * np.exp(spread * effect[..., None] + 0.01 * noise)
        if tail:
            latency *= np.where(generator.random(shape) < tail, 1 + generator.pareto(1.5, shape), 1.0)
        return quiet(latency)

    return draw


def _chained(noise: Values, correlation: float) -> Values:
    """AR(1) along the last axis, with unit variance."""
    for index in range(1, noise.shape[-1] if correlation else 0):
        fresh = np.sqrt(1 - correlation**2) * noise[..., index]
        noise[..., index] = correlation * noise[..., index - 1] + fresh
    return noise


def _steps(generator: Generator, experiments: int, count: int) -> Drawn:
    """In every fifth launch something makes the machine 1.3 times slower from some run on, unnoticed."""
    drawn = launches(0.05)(generator, experiments, count)
    begins = generator.integers(0, RUNS, (experiments, count, 1))
    begins = np.where(generator.random((experiments, count, 1)) < 0.2, begins, RUNS)
    return quiet(np.where(np.arange(RUNS) >= begins, 1.3, 1.0) * drawn.latency)


def _loaded(generator: Generator, experiments: int, count: int) -> Drawn:
    """Slow runs wait for a CPU more often than quick ones, and waiting is seen: what is slow is marked."""
    drawn = launches(0.05, tail=0.15)(generator, experiments, count)
    slow = drawn.latency > 12.0
    return Drawn(drawn.latency, generator.random(slow.shape) < np.where(slow, 0.9, 0.05))


def _busy_launches(generator: Generator, experiments: int, count: int) -> Drawn:
    """One launch in fifty is twice as slow and marked as a whole, as when a job starts beside it."""
    drawn = launches(0.05)(generator, experiments, count)
    busy = generator.random((experiments, count, 1)) < 0.02
    return Drawn(drawn.latency * np.where(busy, 2.0, 1.0), np.broadcast_to(busy, drawn.latency.shape))


def _switching_runs(generator: Generator, experiments: int, count: int) -> Drawn:
    """Quick and slow regimes of about ten runs, without regard to launches."""
    regime = _regimes(generator, experiments, count * RUNS, 0.1, 0.5).reshape(experiments, count, RUNS)
    return quiet(launches(0.02)(generator, experiments, count).latency * np.where(regime, 1.15, 1.0))


def spells(length: float, *, slow: float = 0.5, factor: float = 1.15) -> Callable[..., Drawn]:
    """Quick and slow spells of launches, `length` launches on the average; `slow`: their share of time."""

    def draw(generator: Generator, experiments: int, count: int) -> Drawn:
        regime = _regimes(generator, experiments, count, 1.0 / length, slow)
        drawn = launches(0.02)(generator, experiments, count)
        return quiet(drawn.latency * np.where(regime, factor, 1.0)[..., None])

    return draw


def _regimes(generator: Generator, experiments: int, count: int, switch: float, slow: float) -> Values:
    now = generator.random(experiments) < slow
    states = np.zeros((experiments, count), bool)
    for index in range(count):
        chance = np.where(now, switch * 2 * (1 - slow), switch * 2 * slow)
        now = np.where(generator.random(experiments) < chance, ~now, now)
        states[:, index] = now
    return states


@cache
def _trace(file: Path) -> Drawn:
    rows = json.loads(file.read_text("utf-8"))["launches"]
    latency = np.array([row["latency_us"][:RUNS] for row in rows]) / 1000.0
    marks = np.zeros(latency.shape, bool)
    for row, launch in enumerate(rows):
        marks[row, [index for index in launch["disturbed"] if index < RUNS]] = True
    return Drawn(latency, marks)


def recorded(file: Path) -> Callable[[Generator, int, int], Drawn]:
    """Blocks of successive launches of a real trace, drawn with replacement (Kunsch's bootstrap, 1989)."""

    def draw(generator: Generator, experiments: int, count: int) -> Drawn:
        trace = _trace(file)
        blocks = -(-count // BLOCK)
        starts = generator.integers(0, len(trace.latency) - BLOCK + 1, (experiments, blocks))
        index = (starts[..., None] + np.arange(BLOCK)).reshape(experiments, -1)[:, :count]
        return Drawn(trace.latency[index], trace.disturbed[index])

    return draw


def _recorded_machines() -> tuple[Machine, ...]:
    """A loaded trace is held against the truth of the quiet one: load alone must decide nothing."""
    machines = []
    for file in sorted(TRACES.glob("*.json")):
        artifact, _, kind = file.stem.partition(".")
        truth = recorded(file.with_name(f"{artifact}.quiet.json")) if kind == "loaded" else None
        machines.append(Machine(f"recorded: {artifact}, {kind}", recorded(file), truth=truth))
    return tuple(machines)


MACHINES = (
    Machine("iid", launches(0.0)),
    Machine("heavy tail (5 % of runs)", launches(0.02, tail=0.05)),
    Machine("launch effect 5 %", launches(0.05)),
    Machine("launch effect 12 %", launches(0.12)),
    Machine("AR(1) 0.95 from run to run, effect 5 %", launches(0.05, runs=0.95)),
    Machine("AR(1) 0.5 from launch to launch, effect 8 %", launches(0.08, neighbours=0.5)),
    Machine("regimes of ~10 runs", _switching_runs),
    Machine("spells of ~3 launches", spells(3)),
    Machine("spells of ~5 launches", spells(5)),
    Machine("step noise in 1 launch of 5", _steps),
    Machine("load: slow runs are marked", _loaded),
    Machine("1 launch of 50 is busy", _busy_launches),
    *_recorded_machines(),
    Machine("spells of ~10 launches", spells(10), covered=False),
    Machine("spells of ~20 launches", spells(20), covered=False),
    Machine("rare slow spells, a tenth of the time", spells(6, slow=0.11, factor=1.3), covered=False),
)
