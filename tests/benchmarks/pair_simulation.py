"""How often does `edgekit diff` say a wrong word, and how many pairs does it take?

    python -m tests.benchmarks.pair_simulation            # the table in pair_simulation.md
    python -m tests.benchmarks.pair_simulation --write    # writes that file

Median latencies of launches are drawn from models of a machine, in the order in which `diff` launches; the
true median ratio NEW/OLD of a pair is known. Words are looked at after every pair, as `diff` does. The test
is `edgekit.measuring.betting`, with the dependence of `edgekit.measuring.dependence`, as
`edgekit.measuring.statistics.Launches` puts them together (tests/measuring/test_pairs.py holds both
against each other).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.measuring.betting import log_mixture, log_stakes
from edgekit.measuring.dependence import exceedance_time, share_time
from edgekit.measuring.plan import LEAST_LAUNCHES
from tests.benchmarks.tables import print_or_write

ALPHA = 0.01
MARGIN = 0.05
PAIRS = 40
#: For counting pairs until a small difference is proven.
MANY_PAIRS = 150
NEVER = 10**6
TABLE = Path(__file__).with_suffix(".md")

Values = NDArray[Any]
Generator = np.random.Generator
#: Positions in time of the launches of OLD and of NEW, by pair.
Order = tuple[Values, Values]


@dataclass(frozen=True)
class Drawn:
    """By (experiment, pair): NEW/OLD of the launches' medians, and which pairs are marked as disturbed."""

    ratio: Values
    disturbed: Values


@dataclass(frozen=True)
class Machine:
    """A machine. spread: of a launch, as a standard deviation of the logarithm; drift: how much slower
    the last launch is than the first; spell: how much slower in spells of about ten launches; second: how
    much slower the second launch of a pair is; load: chance that a launch is slowed, which is seen in nine
    of ten; load_new: the same, of launches of NEW alone."""

    name: str
    spread: float
    drift: float = 0.0
    spell: float = 0.0
    second: float = 0.0
    load: float = 0.0
    load_new: float = 0.0


MACHINES = (
    Machine("launch effect 5 %", 0.05),
    Machine("launch effect 12 %", 0.12),
    Machine("launch effect 5 %, drift 30 %", 0.05, drift=0.3),
    Machine("launch effect 5 %, spells of ~10 launches, 15 %", 0.05, spell=0.15),
    Machine("launch effect 5 %, second of a pair 3 % slower", 0.05, second=0.03),
    Machine("launch effect 5 %, 10 % of launches slowed, seen", 0.05, load=0.1),
)
BUSY_NEW = Machine("launch effect 5 %, 40 % of NEW's launches slowed, seen", 0.05, load_new=0.4)


def abba(pairs: int) -> Order:
    """As `diff` launches: every second pair starts with NEW."""
    first = 2 * np.arange(pairs)
    turned = np.arange(pairs) % 2
    return first + turned, first + 1 - turned


def old_first(pairs: int) -> Order:
    """The mutation that never turns the order."""
    return 2 * np.arange(pairs), 2 * np.arange(pairs) + 1


def one_after_the_other(pairs: int) -> Order:
    """The mutation without pairs: all launches of OLD, then all of NEW."""
    return np.arange(pairs), pairs + np.arange(pairs)


def _raw(machine: Machine, order: Order, experiments: int, seed: int) -> Drawn:
    generator = np.random.default_rng(seed)
    count = 2 * len(order[0])
    shape = (experiments, count)
    is_new = np.zeros(count, bool)
    is_new[order[1]] = True
    logs = machine.spread * generator.standard_normal(shape)
    logs += np.log1p(machine.drift) * np.arange(count) / count
    logs += np.log1p(machine.second) * (np.arange(count) % 2)
    if machine.spell:
        switch = np.cumsum(generator.random(shape) < 0.1, axis=1)
        logs += np.log1p(machine.spell) * ((switch + generator.integers(0, 2, (experiments, 1))) % 2)
    chance = np.where(is_new, max(machine.load, machine.load_new), machine.load)
    slowed = generator.random(shape) < chance
    logs += slowed * np.log1p(generator.uniform(0.1, 0.6, shape))
    seen = np.where(slowed, generator.random(shape) < 0.9, generator.random(shape) < 0.2 * chance)
    old, new = order
    return Drawn(np.exp(logs[:, new] - logs[:, old]), seen[:, old] | seen[:, new])


def draw(machine: Machine, ratio: float, experiments: int, seed: int, order: Order | None = None) -> Drawn:
    """Pairs whose true median is `ratio` when they are launched as `diff` does. order: by default that."""
    middle = float(np.median(_raw(machine, abba(PAIRS), 10_000, 99).ratio))
    raw = _raw(machine, order or abba(PAIRS), experiments, seed)
    return Drawn(raw.ratio * ratio / middle, raw.disturbed)


def proven(drawn: Drawn, limit: float, *, below: bool) -> Values:
    """By experiment: after how many pairs the median is proven at most (or over) `limit`."""
    over = (drawn.ratio > limit) | drawn.disturbed
    under = (drawn.ratio > limit) & ~drawn.disturbed
    logs = log_stakes(over if below else 1.0 - under, 0.5)
    found = np.full(len(drawn.ratio), NEVER)
    for count in range(LEAST_LAUNCHES, drawn.ratio.shape[1] + 1):
        seen = drawn.ratio[:, :count]
        tau = np.maximum(share_time(seen > limit), exceedance_time(seen, 0.5, limit))
        enough = log_mixture(logs[..., count - 1], tau) >= -np.log(ALPHA)
        found = np.where(enough & (found == NEVER), count, found)
    return found


def dropped(drawn: Drawn) -> Drawn:
    """The mutation that throws disturbed pairs away: the others move up, the last is repeated."""
    order = np.argsort(drawn.disturbed, axis=1, kind="stable")
    kept = (~drawn.disturbed).sum(axis=1, keepdims=True)
    place = np.minimum(np.arange(drawn.ratio.shape[1]), np.maximum(kept - 1, 0))
    ratio = np.take_along_axis(np.take_along_axis(drawn.ratio, order, 1), place, 1)
    return Drawn(ratio, np.zeros(ratio.shape, bool))


def wrong_words(drawn: Drawn) -> tuple[float, float]:
    """At a true ratio of 1: share of experiments that would say "faster", and "slower"."""
    faster, slower = proven(drawn, 1.0, below=True), proven(drawn, 1.0, below=False)
    return float(np.mean(faster < NEVER)), float(np.mean(slower < NEVER))


def wrong_gates(machine: Machine, experiments: int) -> tuple[float, float]:
    """At a true ratio of 1 + margin: share with the gate `slower` PASS, and FAIL."""
    drawn = draw(machine, 1.0 + MARGIN, experiments, 2)
    passed, failed = (proven(drawn, 1.0 + MARGIN, below=below) for below in (True, False))
    return float(np.mean(passed < NEVER)), float(np.mean(failed < NEVER))


def power(machine: Machine, ratio: float, experiments: int, pairs: int = PAIRS) -> Values:
    """Pairs until the right word, "faster" or "slower", is proven."""
    return proven(draw(machine, ratio, experiments, 3, abba(pairs)), 1.0, below=ratio < 1.0)


def _median(pairs: Values) -> str:
    middle, decided = np.median(pairs), np.mean(pairs < NEVER)
    return f"{middle:.0f} ({decided:.0%})" if middle < NEVER else f"- ({decided:.0%})"


def _rows(experiments: int) -> Iterator[str]:
    for machine in MACHINES:
        words = wrong_words(draw(machine, 1.0, experiments, 1))
        gates = wrong_gates(machine, experiments)
        few = experiments // 80
        cells = [machine.name, *(f"{rate:.2%}" for rate in (*words, *gates))]
        cells += [_median(power(machine, ratio, few, MANY_PAIRS)) for ratio in (0.9, 0.95, 1.05, 1.1)]
        yield "| " + " | ".join(cells) + " |"


def mutations(experiments: int) -> dict[str, tuple[Machine, tuple[float, float], tuple[float, float]]]:
    """What the design guards against: machine, wrong words as built, wrong words mutated."""
    by_name = {machine.name: machine for machine in (*MACHINES, BUSY_NEW)}
    drifting = by_name["launch effect 5 %, drift 30 %"]
    uneven = by_name["launch effect 5 %, second of a pair 3 % slower"]
    found = {}
    for what, machine, mutated in (
        (
            "no pairs: all of OLD, then all of NEW",
            drifting,
            draw(drifting, 1.0, experiments, 1, one_after_the_other(PAIRS)),
        ),
        ("OLD always first", uneven, draw(uneven, 1.0, experiments, 1, old_first(PAIRS))),
        ("disturbed pairs dropped", BUSY_NEW, dropped(draw(BUSY_NEW, 1.0, experiments, 1))),
    ):
        built = wrong_words(draw(machine, 1.0, experiments, 1))
        found[what] = (machine, built, wrong_words(mutated))
    return found


HEAD = """\
# Words of `edgekit diff` by simulation

Made by `python -m tests.benchmarks.pair_simulation --write`: 99 % confidence for each bound, up to {pairs}
pairs, looked at after every pair, {experiments} experiments.

* Wrong words at a true ratio of 1: "faster" and "slower".
* Wrong gates at a true ratio of 1.05, just at the margin of 5 %: `slower` PASS and FAIL.
* Then the median number of pairs until the right word, and the share of {few} experiments in which it was
  said within {many} pairs, at other true ratios.

| machine | "faster" | "slower" | gate PASS | gate FAIL | 0.9 | 0.95 | 1.05 | 1.1 |
|---|---|---|---|---|---|---|---|---|
"""
GUARDS = """
## What the design guards against

Wrong "faster" / wrong "slower" at a true ratio of 1.

| mutation | machine | as built | mutated |
|---|---|---|---|
"""


def table(experiments: int = 40_000) -> str:
    """The study as markdown."""
    lines = [
        f"| {what} | {machine.name} | " + " | ".join(f"{a:.1%} / {b:.1%}" for a, b in (built, mutated)) + " |"
        for what, (machine, built, mutated) in mutations(experiments // 10).items()
    ]
    head = HEAD.format(pairs=PAIRS, experiments=experiments, few=experiments // 80, many=MANY_PAIRS)
    return head + "\n".join(_rows(experiments)) + "\n" + GUARDS + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print_or_write(table, TABLE)
