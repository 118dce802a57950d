"""Pairs of launches: how they are made, what their ratios prove, and how seldom that is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgekit.devices import open_device
from edgekit.host.client import WorkerClient
from edgekit.measuring.launches import LaunchSetup
from edgekit.measuring.pairs import (
    LATENCY,
    Pair,
    change_of,
    decider,
    measure_pairs,
    pair_records,
    paired_figures,
    paired_ratio,
    stored_figures,
    stored_ratio,
)
from edgekit.measuring.plan import Decision, MeasurementPlan
from edgekit.values import Change, DiffFigure, DiffMethod, Interval, LaunchRecord, RunSettings
from edgekit_runtime.session import Feeds
from tests.benchmarks import pair_simulation as simulation
from tests.measuring.records import launch
from tests.plugin_folders import install_plugin

QUICK = MeasurementPlan(max_seconds=60, min_launches=1, max_runs=10, block_seconds=0.05)
ALPHA = 0.01


def pair(
    number: int,
    old_ms: float,
    new_ms: float,
    *,
    disturbed: int = 0,
    control: float = 2.0,
    cold: float = 500.0,
) -> Pair:
    """Ten runs on each side. disturbed: how many of NEW's; control: of NEW's launch, OLD's is 2."""
    return Pair(
        number=number,
        new_first=bool(number % 2),
        old=launch(*[old_ms] * 10),
        new=launch(*[new_ms] * 10, disturbed=range(disturbed), control=control, cold=cold),
    )


def pairs_of(*ratios: float) -> list[Pair]:
    return [pair(number, 10.0, 10.0 * ratio) for number, ratio in enumerate(ratios)]


def figure(figures: Sequence[DiffFigure], key: str) -> DiffFigure:
    return next(found for found in figures if found.key == key)


# --- how they are made ----------------------------------------------------------------------------


@pytest.fixture
def setup(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str, list[tuple[str, int]]], LaunchSetup]:
    """Makes launches of a backend that passes its input on; each notes its side and number in a list."""
    install_plugin(monkeypatch, tmp_path, "one")
    artifact = tmp_path / "artifact"
    artifact.mkdir()

    def make(side: str, made: list[tuple[str, int]]) -> LaunchSetup:
        def inputs(number: int) -> list[Feeds]:
            made.append((side, number))
            return [{"x": np.full((1, 4), index, dtype=np.float32)} for index in range(4)]

        return LaunchSetup(
            start_worker=lambda: WorkerClient(open_device("local")),
            directory=artifact,
            backend="one",
            precision="fp32",
            run=RunSettings(),
            inputs=inputs,
        )

    return make


def test_the_launches_of_a_pair_are_neighbours_and_every_second_pair_is_turned(
    setup: Callable[[str, list[tuple[str, int]]], LaunchSetup],
) -> None:
    made: list[tuple[str, int]] = []
    told: list[str] = []
    pairs = measure_pairs(
        setup("old", made),
        setup("new", made),
        QUICK,
        lambda seen: Decision(done=len(seen) >= 3, text="so far"),
        lambda done, total, what: told.append(what),
    )
    assert made == [("old", 0), ("new", 0), ("new", 1), ("old", 1), ("old", 2), ("new", 2)]
    assert [one.new_first for one in pairs] == [False, True, False]
    # on a busy machine it may also have told that it waits
    assert [what for what in told if what.startswith("pair")] == [f"pair {n}: so far" for n in (1, 2, 3)]
    assert all(one.old.latency_ms and one.new.latency_ms for one in pairs)


def test_undecided_pairs_end_with_the_plan_and_one_is_always_made(
    setup: Callable[[str, list[tuple[str, int]]], LaunchSetup],
) -> None:
    sides = (setup("old", []), setup("new", []))
    never = lambda seen: Decision(done=False)  # noqa: E731
    assert len(measure_pairs(*sides, dataclasses.replace(QUICK, max_launches=2), never)) == 2
    assert len(measure_pairs(*sides, dataclasses.replace(QUICK, max_seconds=0.01), never)) == 1


# --- what they prove ------------------------------------------------------------------------------


def test_seven_clean_pairs_prove_a_median_and_six_do_not() -> None:
    ratios = [0.4, 0.41, 0.42, 0.39, 0.4, 0.43, 0.38]
    (found, *_) = paired_figures(pairs_of(*ratios), 0.99, 0.05)
    assert found.change is Change.FASTER
    assert found.ratio is not None and found.ratio.high is not None
    assert found.ratio.estimate == pytest.approx(0.4)
    assert found.ratio.high == pytest.approx(0.43)
    assert found.old == 10.0
    few = paired_ratio(pairs_of(*ratios[:6]), LATENCY, ALPHA)
    assert few is not None and few.low is None and few.high is None


def test_slower_is_proven_as_faster_is() -> None:
    (found, *_) = paired_figures(pairs_of(*[1.2, 1.21, 1.25, 1.19, 1.3, 1.22, 1.2]), 0.99, 0.05)
    assert found.change is Change.SLOWER
    assert found.ratio is not None and found.ratio.low is not None and found.ratio.low > 1.0


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.97, 1.02, Change.SAME),
        (0.97, 1.06, Change.UNPROVEN),
        (None, 1.02, Change.UNPROVEN),
        (None, 0.99, Change.FASTER),
        (1.001, None, Change.SLOWER),
        (0.95, 1.0, Change.SAME),
        (1.01, 1.02, Change.SLOWER),
    ],
)
def test_a_word_needs_bounds_that_prove_it(low: float | None, high: float | None, word: Change) -> None:
    assert change_of(Interval(estimate=1.0, low=low, high=high), 0.05, LATENCY) is word


def test_a_pair_with_a_spoilt_launch_counts_against_either_side() -> None:
    clean = [pair(number, 10.0, 4.0) for number in range(7)]
    spoilt = [*clean[:-1], pair(6, 10.0, 4.0, disturbed=6)]
    lightly = [*clean[:-1], pair(6, 10.0, 4.0, disturbed=5)]
    assert paired_figures(clean, 0.99, 0.05)[0].change is Change.FASTER
    assert paired_figures(lightly, 0.99, 0.05)[0].change is Change.FASTER
    assert paired_figures(spoilt, 0.99, 0.05)[0].change is Change.UNPROVEN
    assert [record.disturbed for record in pair_records(spoilt)] == [False] * 6 + [True]
    busy = [pair(number, 10.0, 4.0, disturbed=6 * (number % 2)) for number in range(8)]
    assert "4 of 8 pairs were disturbed" in paired_figures(busy, 0.99, 0.05)[0].reason
    # a tail is spoilt sooner than a median
    assert figure(paired_figures(lightly, 0.99, 0.05), "latency_p90").change is Change.UNPROVEN


def test_a_pair_in_which_the_machine_changed_its_speed_is_disturbed() -> None:
    steady = [pair(number, 10.0, 4.0, control=3.0) for number in range(7)]
    changed = [*steady[:-1], pair(6, 10.0, 4.0, control=4.0)]
    assert not any(record.disturbed for record in pair_records(steady))
    assert [record.disturbed for record in pair_records(changed)] == [False] * 6 + [True]


def test_cold_start_and_memory_are_compared_pair_by_pair_too() -> None:
    pairs = [pair(number, 10.0, 10.0, cold=1000.0) for number in range(7)]
    figures = paired_figures(pairs, 0.99, 0.05)
    assert figure(figures, "cold_start").change is Change.SLOWER
    assert figure(figures, "cold_start").ratio == Interval(estimate=2.0, low=2.0, high=2.0)
    assert figure(figures, "peak_memory").change is Change.SAME


def test_a_system_that_tells_no_memory_gives_no_ratio() -> None:
    untold = launch(10.0, memory=None)
    figures = paired_figures([Pair(number=0, new_first=False, old=untold, new=untold)], 0.99, 0.05)
    found = figure(figures, "peak_memory")
    assert found.change is Change.NOT_MEASURED
    assert found.ratio is None and found.reason


def test_pairs_are_made_until_the_word_asked_for_is_decided() -> None:
    quick, slow, between = [0.4] * 7, [1.2] * 7, [0.99, 1.01] * 3
    word, gate = decider(0.99, 0.05, gate=False), decider(0.99, 0.05, gate=True)
    assert word(pairs_of(*quick)).done and gate(pairs_of(*quick)).done
    assert word(pairs_of(*slow)).done and gate(pairs_of(*slow)).done
    assert not word(pairs_of(*quick[:6])).done and not gate(pairs_of(*between)).done
    # 2 % to 4 % slower: no more than the margin, so the gate is decided; so is the word
    near = pairs_of(*[1.02, 1.04, 1.03, 1.02, 1.03, 1.04, 1.03])
    assert gate(near).done
    assert "NEW/OLD 1.02..1.04" in word(near).text


def test_stored_launches_are_compared_by_their_own_medians_and_prove_less() -> None:
    steps = (4, 0, 9, 2, 7, 1, 8, 3, 6, 5)
    old = [launch(*[10.0 + 0.1 * step] * 10) for step in steps]
    new = [launch(*[5.0 + 0.1 * step] * 10) for step in steps]
    (found, *_) = stored_figures(old, new, 0.99, 0.05)
    assert found.method is DiffMethod.STORED
    assert found.change is Change.FASTER
    assert found.ratio is not None and found.ratio.low is not None and found.ratio.high is not None
    assert found.ratio.low <= 5.0 / 10.9 + 0.05 and found.ratio.high >= 5.9 / 10.0 - 0.05
    paired = paired_ratio(
        [
            Pair(number=n, new_first=False, old=a, new=b)
            for n, (a, b) in enumerate(zip(old, new, strict=True))
        ],
        LATENCY,
        ALPHA,
    )
    assert paired is not None and paired.low is not None and paired.high is not None
    assert found.ratio.low <= paired.low and found.ratio.high >= paired.high
    # seven launches a side bound a median at 1 % of error, not at the half of it
    seven = stored_ratio(old[:7], new[:7], LATENCY, ALPHA)
    assert seven is not None and seven.low is None and seven.high is None


def test_no_launches_give_no_figures() -> None:
    nothing: tuple[LaunchRecord, ...] = ()
    assert {found.change for found in stored_figures(nothing, nothing, 0.99, 0.05)} == {Change.NOT_MEASURED}


# --- how seldom that is wrong -----------------------------------------------------------------------

EXPERIMENTS = 600
#: Of 600 experiments at a true rate of 1 %, more than 14 are wrong in only one of 500 trials.
MOST_WRONG = 14 / EXPERIMENTS
BY_NAME = {machine.name: machine for machine in simulation.MACHINES}


def test_the_simulation_tests_as_the_product_does() -> None:
    machine = BY_NAME["launch effect 5 %, 10 % of launches slowed, seen"]
    drawn = simulation.draw(machine, 0.85, 30, 5)
    below = simulation.proven(drawn, 1.0, below=True)
    for ratios, marks, first in zip(drawn.ratio, drawn.disturbed, below, strict=True):
        pairs = [
            pair(number, 10.0, 10.0 * ratio, disturbed=10 * int(mark))
            for number, (ratio, mark) in enumerate(zip(ratios, marks, strict=True))
        ]
        said = (paired_ratio(pairs[:count], LATENCY, ALPHA) for count in range(3, len(pairs) + 1))
        highs = (found.high if found is not None else None for found in said)
        when = next((n for n, high in enumerate(highs, start=3) if high is not None and high < 1.0), None)
        # the bound wants a proof at looser limits too, so it may come later, never sooner
        assert when is None or when >= first


@pytest.mark.parametrize("name", BY_NAME)
def test_wrong_words_are_rare(name: str) -> None:
    machine = BY_NAME[name]
    faster, slower = simulation.wrong_words(simulation.draw(machine, 1.0, EXPERIMENTS, 1))
    assert max(faster, slower) <= MOST_WRONG
    passed, failed = simulation.wrong_gates(machine, EXPERIMENTS)
    assert max(passed, failed) <= MOST_WRONG


def test_a_change_of_a_tenth_is_seen_with_few_pairs() -> None:
    machine = BY_NAME["launch effect 5 %, drift 30 %"]
    for ratio in (0.9, 1.1):
        needed = simulation.power(machine, ratio, 200)
        assert np.median(needed) <= 20
        assert np.mean(needed < simulation.NEVER) >= 0.9


def test_without_pairs_a_drifting_machine_makes_any_new_build_slower() -> None:
    found = simulation.mutations(300)
    _, built, mutated = found["no pairs: all of OLD, then all of NEW"]
    assert max(built) <= 0.03
    assert mutated[1] > 0.9


def test_dropping_disturbed_pairs_would_make_a_busy_new_build_faster() -> None:
    _, built, mutated = simulation.mutations(300)["disturbed pairs dropped"]
    assert max(built) <= 0.03
    assert mutated[0] > 0.3
