"""How often is a percentile verdict wrong, and how many launches does it take?

    python -m tests.benchmarks.verdict_simulation            # the tables in verdict_simulation.md
    python -m tests.benchmarks.verdict_simulation --write    # writes that file

Latencies of launches are drawn from models of a machine and from traces of a real one (verdict_machines.py).
The limit is put where a known share of runs exceeds it: just on the wrong side (1.1 or 0.9 times the share
that the percentile allows) to count wrong verdicts, well off to count launches until decided. Verdicts are
looked at after every launch, as `validate` does. The tested code is `edgekit.measuring`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.measuring import launch_effects
from edgekit.measuring.betting import log_mixture, log_stakes
from edgekit.measuring.dependence import exceedance_time, share_time
from edgekit.measuring.plan import WATCHED_LAUNCHES
from tests.benchmarks.tables import print_or_write
from tests.benchmarks.verdict_machines import MACHINES, Drawn, Machine

ALPHA = 0.01
TABLE = Path(__file__).with_suffix(".md")
NEVER = 10**6
SECONDS_OF_A_LAUNCH = 0.65

Values = NDArray[Any]
#: Launches until PASS and until FAIL of each experiment, NEVER when undecided.
Rule = Callable[[Drawn, float, float], tuple[Values, Values]]
PERCENTILES = (("P50", 0.5, 150), ("P90", 0.9, 180), ("P99", 0.99, 600))


def limit_at(machine: Machine, share: float, seed: int = 99) -> float:
    """The limit that this share of all runs exceeds (from 1.2 million runs)."""
    drawn = (machine.truth or machine.draw)(np.random.default_rng(seed), 200, 300)
    return float(np.quantile(drawn.latency, 1.0 - share))


def launches_to(shares: Values, raw: Values, medians: Values, mean: float, limit: float) -> Values:
    """By experiment: after how many launches E[X] < mean is proven, looked at after every one."""
    least = WATCHED_LAUNCHES
    logs = log_stakes(shares, mean)
    done = np.full(len(shares), NEVER)
    rich = log_mixture(logs) >= -np.log(ALPHA)  # dependence can only take capital away
    for count in range(least, shares.shape[1] + 1):
        still = np.flatnonzero((done == NEVER) & rich[:, count - 1])
        if not len(still):
            continue
        tail = min(mean, 1.0 - mean)
        tau = np.maximum(share_time(raw[still, :count]), exceedance_time(medians[still, :count], tail, limit))
        proven = log_mixture(logs[:, still, count - 1], tau) >= -np.log(ALPHA)
        done[still[proven]] = count
    return done


def verdicts(drawn: Drawn, limit: float, percentile: float) -> tuple[Values, Values]:
    """As edgekit decides."""
    slow = drawn.latency > limit
    over, under = (slow | drawn.disturbed).mean(axis=2), (slow & ~drawn.disturbed).mean(axis=2)
    raw, medians = slow.mean(axis=2), np.median(drawn.latency, axis=2)
    return (
        launches_to(over, raw, medians, 1.0 - percentile, limit),
        launches_to(1.0 - under, raw, medians, percentile, limit),
    )


def verdicts_unwatched(drawn: Drawn, limit: float, percentile: float) -> tuple[Values, Values]:
    """The mutation without the watch and without dependence: launches are taken as exchangeable."""
    over = ((drawn.latency > limit) | drawn.disturbed).mean(axis=2)
    under = ((drawn.latency > limit) & ~drawn.disturbed).mean(axis=2)
    return _independent(over, 1.0 - percentile), _independent(1.0 - under, percentile)


def verdicts_dropping(drawn: Drawn, limit: float, percentile: float) -> tuple[Values, Values]:
    """The mutation that throws disturbed runs away."""
    kept = np.maximum((~drawn.disturbed).sum(axis=2), 1)
    shares = ((drawn.latency > limit) & ~drawn.disturbed).sum(axis=2) / kept
    return _independent(shares, 1.0 - percentile), _independent(1.0 - shares, percentile)


def verdicts_by_runs(drawn: Drawn, limit: float, percentile: float) -> tuple[Values, Values]:
    """The mutation that takes every run as a unit of its own."""
    over = (drawn.latency > limit).reshape(len(drawn.latency), -1).astype(float)
    return _independent(over, 1.0 - percentile), _independent(1.0 - over, percentile)


def _independent(shares: Values, mean: float) -> Values:
    proven = log_mixture(log_stakes(shares, mean)) >= -np.log(ALPHA)
    return np.where(proven.any(axis=1), proven.argmax(axis=1) + 1, NEVER)


def wrong(
    machine: Machine, percentile: float, launches: int, experiments: int, rule: Rule = verdicts
) -> tuple[float, float]:
    """Share of experiments with a false PASS (limit too low by a hair) and a false FAIL (too high)."""
    allowed = 1.0 - percentile
    drawn = machine.draw(np.random.default_rng(1), experiments, launches)
    passes, _ = rule(drawn, limit_at(machine, allowed * 1.1), percentile)
    _, fails = rule(drawn, limit_at(machine, allowed * 0.9), percentile)
    return float(np.mean(passes < NEVER)), float(np.mean(fails < NEVER))


def power(
    machine: Machine, percentile: float, launches: int, experiments: int, factor: float
) -> tuple[Values, Values]:
    """Launches until PASS and until FAIL, the limit being `factor` times the true percentile."""
    drawn = machine.draw(np.random.default_rng(2), experiments, launches)
    return verdicts(drawn, factor * limit_at(machine, 1.0 - percentile), percentile)


def model_verdicts(drawn: Drawn, limit: float, percentile: float) -> tuple[Values, Values]:
    """Whether the random-effects model says PASS, and FAIL, looked at once when all launches are made."""
    passes, fails = [], []
    for latency, marks in zip(drawn.latency, drawn.disturbed, strict=True):
        as_over, as_under = np.where(marks, np.inf, latency), np.where(marks, 0.0, latency)
        high = launch_effects.upper_bound(list(as_over), 1.0 - percentile, ALPHA / 2)
        low = launch_effects.lower_bound(list(as_under), 1.0 - percentile, ALPHA / 2)
        passes.append(high is not None and high <= limit)
        fails.append(low is not None and low > limit)
    return np.array(passes), np.array(fails)


def model_rates(machine: Machine, percentile: float, launches: int, experiments: int) -> tuple[float, ...]:
    """False PASS, false FAIL, and power at 1.25 and 0.8 times the true percentile."""
    allowed = 1.0 - percentile
    drawn = machine.draw(np.random.default_rng(3), experiments, launches)
    truth = limit_at(machine, allowed)
    return (
        float(model_verdicts(drawn, limit_at(machine, allowed * 1.1), percentile)[0].mean()),
        float(model_verdicts(drawn, limit_at(machine, allowed * 0.9), percentile)[1].mean()),
        float(model_verdicts(drawn, 1.25 * truth, percentile)[0].mean()),
        float(model_verdicts(drawn, 0.8 * truth, percentile)[1].mean()),
    )


def _cell(launches: Values) -> str:
    middle = float(np.median(launches))
    decided = f"({np.mean(launches < NEVER):.0%})"
    return (
        f"{middle:.0f}, {middle * SECONDS_OF_A_LAUNCH:.0f} s {decided}" if middle < NEVER else f"- {decided}"
    )


def _row(machine: Machine, name: str, percentile: float, launches: int) -> str:
    experiments = 240_000 // launches
    false_pass, false_fail = wrong(machine, percentile, launches, experiments)
    fewer = max(100, experiments // 4)
    passed = [power(machine, percentile, launches, fewer, factor)[0] for factor in (1.1, 1.25)]
    failed = [power(machine, percentile, launches, fewer, factor)[1] for factor in (0.9, 0.8)]
    title = machine.name if machine.covered else f"*{machine.name}*"
    cells = [title, name, str(experiments), f"{false_pass:.2%}", f"{false_fail:.2%}"]
    return "| " + " | ".join(cells + [_cell(row) for row in (*passed, *failed)]) + " |"


def _rows() -> Iterator[str]:
    for machine in MACHINES:
        for name, percentile, launches in PERCENTILES:
            yield _row(machine, name, percentile, launches)
            print(f"{machine.name} {name}", file=sys.stderr)


def _mutations() -> Iterator[str]:
    by_name = {machine.name: machine for machine in MACHINES}
    cases: tuple[tuple[str, Rule, str], ...] = (
        ("disturbed runs dropped", verdicts_dropping, "load: slow runs are marked"),
        ("runs instead of launches as units", verdicts_by_runs, "launch effect 12 %"),
        ("runs instead of launches as units", verdicts_by_runs, "AR(1) 0.95 from run to run, effect 5 %"),
        ("launches taken as exchangeable", verdicts_unwatched, "spells of ~5 launches"),
        ("launches taken as exchangeable", verdicts_unwatched, "AR(1) 0.5 from launch to launch, effect 8 %"),
    )
    for what, rule, name in cases:
        for percentile in (0.5, 0.9):
            rates = [wrong(by_name[name], percentile, 120, 400, each) for each in (verdicts, rule)]
            cells = [what, name, f"P{percentile * 100:.0f}", *(f"{a:.1%} / {b:.1%}" for a, b in rates)]
            yield "| " + " | ".join(cells) + " |"


def _models() -> Iterator[str]:
    for machine in MACHINES:
        for launches in (6, 10, 20):
            cells = [machine.name, str(launches)]
            for percentile in (0.5, 0.9):
                cells += [f"{rate:.1%}" for rate in model_rates(machine, percentile, launches, 1000)]
            yield "| " + " | ".join(cells) + " |"


HEAD = """\
# Verdicts by simulation

Made by `python -m tests.benchmarks.verdict_simulation --write`: 99 % confidence, 20 runs in a launch,
looked at after every launch from the {watched}th on, up to 150 (P50), 180 (P90), 600 (P99) launches.

* False PASS: the limit is exceeded by 1.1 times the share of runs that the percentile allows.
* False FAIL: by 0.9 times.
* Then, for limits at 1.1, 1.25, 0.9 and 0.8 times the true percentile: the median number of launches until
  decided, the seconds that they take at {seconds} s each, and the share of experiments decided in time.
* Recorded: blocks of {block} launches of the traces beside this file (`record_traces.py`). A loaded trace is
  held against the truth of the quiet one.

The machines in italics are not covered: their spells are longer than a tenth of the {watched} launches that
are always made. No test that stops early can be right about spells that it has not seen.

| machine | | experiments | false PASS | false FAIL | PASS x1.1 | PASS x1.25 | FAIL x0.9 | FAIL x0.8 |
|---|---|---|---|---|---|---|---|---|
"""
GUARDS = """
## What the design guards against

False PASS / false FAIL within 120 launches, at the same limits just off the truth.

| mutation | machine | | as built | mutated |
|---|---|---|---|---|
"""
FEW = """
## With few launches: the random-effects model

Only when time is too short for {watched} launches, and named beside the verdict. Looked at once, at half of
the error. Columns: false PASS, false FAIL, PASS at x1.25, FAIL at x0.8. It is as good as its assumption:
independent launches with normally distributed logarithms; in spells they are not.

| machine | launches | P50 | | | | P90 | | | |
|---|---|---|---|---|---|---|---|---|---|
"""


def table() -> str:
    """The study as markdown."""
    words = {"watched": WATCHED_LAUNCHES, "seconds": SECONDS_OF_A_LAUNCH, "block": 10}
    parts = [HEAD.format(**words), "\n".join(_rows()), "\n", GUARDS, "\n".join(_mutations()), "\n"]
    return "".join([*parts, FEW.format(**words), "\n".join(_models()), "\n"])


if __name__ == "__main__":
    print_or_write(table, TABLE)
