"""How often is a percentile verdict wrong, and how many launches does it take?

    python -m tests.benchmarks.verdict_simulation            # the table in verdict_simulation.md
    python -m tests.benchmarks.verdict_simulation --write    # writes that file

Latencies of launches are drawn from models of a machine; the limit is put where a known share of runs
exceeds it. Limits just on the wrong side (1.1 or 0.9 times the share that the percentile allows) count
wrong verdicts; limits well off count launches until decided. Verdicts are looked at after every launch,
as `validate` does. The tested code is `edgekit.measuring.statistics`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.measuring.statistics import log_capital

ALPHA = 0.01
RUNS = 20
TABLE = Path(__file__).with_suffix(".md")
NEVER = 10**6

Values = NDArray[Any]
Generator = np.random.Generator


@dataclass(frozen=True)
class Drawn:
    """Latencies by (experiment, launch, run), with what a reader of the machine would have marked."""

    latency: Values
    disturbed: Values


@dataclass(frozen=True)
class Model:
    """A machine. draw(generator, experiments, launches) -> Drawn."""

    name: str
    draw: Callable[[Generator, int, int], Drawn]


def _quiet(latency: Values) -> Drawn:
    return Drawn(latency, np.zeros(latency.shape, bool))


def _launches(
    spread: float, tail: float = 0.0, correlation: float = 0.0
) -> Callable[[Generator, int, int], Drawn]:
    def draw(generator: Generator, experiments: int, launches: int) -> Drawn:
        shape = (experiments, launches, RUNS)
        noise = generator.standard_normal(shape)
        if correlation:
            for run in range(1, RUNS):
                fresh = np.sqrt(1 - correlation**2) * noise[..., run]
                noise[..., run] = correlation * noise[..., run - 1] + fresh
        effect = spread * generator.standard_normal((experiments, launches, 1))
        latency = 10.0 * np.exp(effect + 0.01 * noise)
        if tail:
            latency *= np.where(generator.random(shape) < tail, 1 + generator.pareto(1.5, shape), 1.0)
        return _quiet(latency)

    return draw


def _steps(generator: Generator, experiments: int, launches: int) -> Drawn:
    """In every fifth launch something makes the machine 1.3 times slower from some run on, unnoticed."""
    drawn = _launches(0.05)(generator, experiments, launches)
    begins = generator.integers(0, RUNS, (experiments, launches, 1))
    begins = np.where(generator.random((experiments, launches, 1)) < 0.2, begins, RUNS)
    return _quiet(np.where(np.arange(RUNS) >= begins, 1.3, 1.0) * drawn.latency)


def _loaded(generator: Generator, experiments: int, launches: int) -> Drawn:
    """Slow runs wait for a CPU more often than quick ones, and waiting is seen: what is slow is marked."""
    drawn = _launches(0.05, tail=0.15)(generator, experiments, launches)
    slow = drawn.latency > 12.0
    chance = np.where(slow, 0.9, 0.05)
    return Drawn(drawn.latency, generator.random(slow.shape) < chance)


def _regimes(generator: Generator, experiments: int, launches: int) -> Drawn:
    """Launches come in quick and slow spells of about ten: they are NOT exchangeable."""
    drawn = _launches(0.02)(generator, experiments, launches)
    switch = generator.random((experiments, launches)) < 0.1
    spell = (np.cumsum(switch, axis=1) + generator.integers(0, 2, (experiments, 1))) % 2
    return _quiet(drawn.latency * np.where(spell, 1.15, 1.0)[..., None])


MODELS = (
    Model("iid", _launches(0.0)),
    Model("heavy tail (5 % of runs)", _launches(0.02, tail=0.05)),
    Model("launch effect 5 %", _launches(0.05)),
    Model("launch effect 12 %", _launches(0.12)),
    Model("AR(1) 0.95 in launches, effect 5 %", _launches(0.05, correlation=0.95)),
    Model("step noise in 1 launch of 5", _steps),
    Model("load: slow runs are marked", _loaded),
)
OUTSIDE = Model("spells of ~10 launches", _regimes)
PERCENTILES = (("P50", 0.5, 60), ("P90", 0.9, 150), ("P99", 0.99, 700))


def limit_at(model: Model, share: float, seed: int = 99) -> float:
    """The limit that this share of all runs exceeds (from 1.2 million runs)."""
    drawn = model.draw(np.random.default_rng(seed), 200, 300)
    return float(np.quantile(drawn.latency, 1.0 - share))


def launches_to(shares: Values, mean: float) -> Values:
    """By experiment: after how many launches E[X] < mean is proven; NEVER when it is not."""
    proven = log_capital(shares, mean) >= -np.log(ALPHA)
    return np.where(proven.any(axis=1), proven.argmax(axis=1) + 1, NEVER)


def verdicts(drawn: Drawn, limit: float, percentile: float) -> tuple[Values, Values]:
    """Launches until PASS and until FAIL, as edgekit counts disturbed runs."""
    over = ((drawn.latency > limit) | drawn.disturbed).mean(axis=2)
    under = ((drawn.latency > limit) & ~drawn.disturbed).mean(axis=2)
    return launches_to(over, 1.0 - percentile), launches_to(1.0 - under, percentile)


def verdicts_dropping(drawn: Drawn, limit: float, percentile: float) -> tuple[Values, Values]:
    """The mutation that throws disturbed runs away."""
    kept = np.maximum((~drawn.disturbed).sum(axis=2), 1)
    shares = ((drawn.latency > limit) & ~drawn.disturbed).sum(axis=2) / kept
    return launches_to(shares, 1.0 - percentile), launches_to(1.0 - shares, percentile)


def verdicts_by_runs(drawn: Drawn, limit: float, percentile: float) -> tuple[Values, Values]:
    """The mutation that takes every run as a unit of its own."""
    over = (drawn.latency > limit).reshape(len(drawn.latency), -1).astype(float)
    return launches_to(over, 1.0 - percentile), launches_to(1.0 - over, percentile)


Rule = Callable[[Drawn, float, float], tuple[Values, Values]]


def wrong(
    model: Model, percentile: float, launches: int, experiments: int, rule: Rule = verdicts
) -> tuple[float, float]:
    """Share of experiments with a false PASS (limit too low by a hair) and a false FAIL (too high)."""
    allowed = 1.0 - percentile
    drawn = model.draw(np.random.default_rng(1), experiments, launches)
    passes, _ = rule(drawn, limit_at(model, allowed * 1.1), percentile)
    _, fails = rule(drawn, limit_at(model, allowed * 0.9), percentile)
    return float(np.mean(passes < NEVER)), float(np.mean(fails < NEVER))


def power(
    model: Model, percentile: float, launches: int, experiments: int, factor: float
) -> tuple[Values, Values]:
    """Launches until PASS and until FAIL, the limit being `factor` times the true percentile."""
    drawn = model.draw(np.random.default_rng(2), experiments, launches)
    return verdicts(drawn, factor * limit_at(model, 1.0 - percentile), percentile)


def _median(launches: Values) -> str:
    middle = np.median(launches)
    decided = np.mean(launches < NEVER)
    return f"{middle:.0f} ({decided:.0%})" if middle < NEVER else f"- ({decided:.0%})"


def _rows() -> Iterator[str]:
    for model in (*MODELS, OUTSIDE):
        for name, percentile, launches in PERCENTILES:
            experiments = 360_000 // launches
            false_pass, false_fail = wrong(model, percentile, launches, experiments)
            half = max(100, experiments // 4)
            passed = [power(model, percentile, launches, half, factor)[0] for factor in (1.1, 1.25)]
            failed = [power(model, percentile, launches, half, factor)[1] for factor in (0.9, 0.8)]
            cells = [model.name, name, str(experiments), f"{false_pass:.2%}", f"{false_fail:.2%}"]
            yield "| " + " | ".join(cells + [_median(row) for row in (*passed, *failed)]) + " |"


def _mutations() -> Iterator[str]:
    by_name = {model.name: model for model in MODELS}
    cases: tuple[tuple[str, Rule, str], ...] = (
        ("disturbed runs dropped", verdicts_dropping, "load: slow runs are marked"),
        ("runs instead of launches as units", verdicts_by_runs, "launch effect 12 %"),
        ("runs instead of launches as units", verdicts_by_runs, "AR(1) 0.95 in launches, effect 5 %"),
    )
    for what, rule, name in cases:
        rates = [wrong(by_name[name], 0.9, 100, 400, each) for each in (verdicts, rule)]
        cells = [what, name, *(f"{a:.1%} / {b:.1%}" for a, b in rates)]
        yield "| " + " | ".join(cells) + " |"


HEAD = """\
# Verdicts by simulation

Made by `python -m tests.benchmarks.verdict_simulation --write`: 99 % confidence, 20 runs in a launch,
looked at after every launch, up to 60 (P50), 150 (P90), 700 (P99) launches.

* False PASS: the limit is exceeded by 1.1 times the share of runs that the percentile allows.
* False FAIL: by 0.9 times.
* Then the median number of launches until decided, with the share of experiments decided in time, for limits
  at 1.1, 1.25, 0.9 and 0.8 times the true percentile. (`validate` makes at least three launches.)

The last machine breaks the one assumption, that launches are exchangeable: it is quick for some ten launches,
then slow for ten. No test that stops early can be right about spells that it has not seen.

| machine | | experiments | false PASS | false FAIL | PASS x1.1 | PASS x1.25 | FAIL x0.9 | FAIL x0.8 |
|---|---|---|---|---|---|---|---|---|
"""
GUARDS = """
## What the design guards against

False PASS / false FAIL for P90, 100 launches, at the same limits just off the truth.

| mutation | machine | as built | mutated |
|---|---|---|---|
"""


def table() -> str:
    """The study as markdown."""
    return HEAD + "\n".join(_rows()) + "\n" + GUARDS + "\n".join(_mutations()) + "\n"


def main() -> None:
    """Print the table, or write it beside this file."""
    started = time.monotonic()
    text = table()
    if "--write" in sys.argv[1:]:
        TABLE.write_text(text, encoding="utf-8")
    else:
        print(text)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
