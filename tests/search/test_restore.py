"""Restoring nodes: the costly groups come back, the cheap ones stay quantized, within the time given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import OutputError
from edgekit.search.groups import Group
from edgekit.search.log import TrialLog
from edgekit.search.restore import Search, restore
from edgekit.values import Interval, Trial

BUDGET = 1.0
COSTS = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0.0, 3.0), min_size=2)


class Machine:
    """A model whose groups each add an error and save a time when quantized.

    helped: groups that are quantized with others only; rest: the error of nodes that no group holds.
    """

    def __init__(
        self,
        costs: Mapping[str, float],
        savings: Mapping[str, float] | None = None,
        *,
        helped: Set[str] = frozenset(),
        rest: float = 0.0,
    ) -> None:
        self.costs = costs
        self.savings = savings or dict.fromkeys(costs, 1.0)
        self.helped = helped
        self.rest = rest
        self.groups = tuple(Group(name=name, nodes=(f"{name}/MatMul",)) for name in costs)
        self.tried: list[frozenset[str]] = []

    def attempt(self, kept: Sequence[Group]) -> Trial:
        names = {group.name for group in kept}
        self.tried.append(frozenset(names))
        quantized = [name for name in self.costs if name not in names]
        lowered = bool(self.rest or set(quantized) - self.helped)
        if not lowered:
            quantized = []
        error = self.rest + sum(self.costs[name] for name in quantized)
        return Trial(
            kept=tuple(group.name for group in kept),
            error=error,
            flips=0,
            ms=20.0 - sum(self.savings[name] for name in quantized),
            drop=Interval(estimate=error, high=2 * error),
            lowered=lowered,
        )

    def search(self, over: Callable[[], bool] = lambda: False) -> Search:
        return Search(
            groups=self.groups,
            attempt=self.attempt,
            good=lambda trial: trial.error <= BUDGET,
            over=over,
        )


def test_an_artifact_that_is_good_already_costs_one_trial() -> None:
    machine = Machine({"query": 0.1, "key": 0.2})
    found = restore(machine.search())
    assert found.reached and found.groups == () and len(machine.tried) == 1


def test_the_one_group_that_breaks_the_model_is_put_back_alone() -> None:
    found = restore(Machine({"query": 0.1, "key": 0.2, "down": 5.0, "up": 0.3}).search())
    assert found.reached
    assert found.groups == ("down",)
    assert found.ranking[0].group == "down"


def test_of_two_equal_errors_the_group_that_saves_less_time_is_put_back() -> None:
    machine = Machine({"small": 0.8, "large": 0.8}, {"small": 0.5, "large": 5.0})
    assert restore(machine.search()).groups == ("small",)


def test_a_group_that_saves_no_time_is_the_first_to_go_back() -> None:
    machine = Machine({"free": 0.6, "dear": 0.9}, {"free": -1.0, "dear": 3.0})
    assert restore(machine.search()).groups == ("free",)


def test_groups_that_turn_out_to_be_unneeded_are_quantized_again() -> None:
    # "cheap" regains more per millisecond, but only "dear" is enough
    machine = Machine({"cheap": 0.4, "dear": 1.2, "rest": 0.0}, {"cheap": 0.1, "dear": 9.0, "rest": 1.0})
    found = restore(machine.search())
    assert found.reached and found.groups == ("dear",)


def test_a_model_that_no_group_may_be_quantized_of_says_so() -> None:
    found = restore(Machine({"query": 2.0, "key": 2.0}).search())
    assert not found.reached and "not within its budget" in found.reason


def test_a_search_without_success_tells_how_near_it_came() -> None:
    found = restore(Machine({"query": 2.0, "key": 3.0, "value": 4.0}).search())
    assert "the least drop seen is 2.00 points (4.00 at most), with 2 groups kept high" in found.reason


def test_a_group_that_is_quantized_with_others_only_is_known_by_what_its_return_regains() -> None:
    machine = Machine({"table": 5.0, "query": 0.1, "key": 0.2}, helped={"table"})
    found = restore(machine.search())
    assert found.reached and found.groups == ("table",)
    assert found.ranking[0].group == "table"
    assert found.ranking[0].error == pytest.approx(5.0) and found.ranking[0].saved_ms == pytest.approx(1.0)


def test_where_nothing_is_left_to_quantize_the_higher_precision_is_not_taken_for_a_success() -> None:
    machine = Machine({"table": 0.1, "query": 2.0, "key": 2.0}, helped={"table"})
    found = restore(machine.search())
    assert not found.reached
    assert [trial.lowered for trial in found.trials] == [True, True, False]
    assert len(found.groups) == 1


def test_nodes_that_no_group_holds_are_no_cost_of_a_group_and_may_stay_quantized_alone() -> None:
    found = restore(Machine({"query": 2.0, "key": 1.5}, rest=0.5).search())
    assert {one.group: one.error for one in found.ranking} == pytest.approx({"query": 2.0, "key": 1.5})
    assert found.reached and set(found.groups) == {"query", "key"}


def test_time_that_is_up_ends_the_search_with_what_was_seen() -> None:
    machine = Machine({"query": 2.0, "key": 2.0, "value": 2.0})
    found = restore(machine.search(over=lambda: len(machine.tried) >= 3))
    assert not found.reached and "time was up" in found.reason
    assert len(found.ranking) == 1


@given(COSTS)
def test_what_is_reached_is_good_and_no_kept_group_could_go(costs: dict[str, float]) -> None:
    machine = Machine(costs)
    found = restore(machine.search())
    left = {name: cost for name, cost in costs.items() if name not in found.groups}
    if found.reached:
        assert sum(left.values()) <= BUDGET
        for name in found.groups:
            assert sum(left.values()) + costs[name] > BUDGET
    else:
        assert min(costs.values()) > 0


@given(COSTS)
def test_an_interrupted_search_that_goes_on_tries_nothing_twice(costs: dict[str, float]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "trials.jsonl"
        machine = Machine(costs)
        whole = restore(machine.search())
        again = Machine(costs)
        for _ in machine.tried:  # each time one trial further
            again.tried.clear()
            attempt = _interrupted(TrialLog(path, "k").remembering(again.attempt), again)
            try:
                found = restore(_with(again.search(), attempt))
            except KeyboardInterrupt:
                continue
        assert found == whole
        assert len(path.read_text().splitlines()) == 1 + len(set(machine.tried))


def _with(search: Search, attempt: Callable[[Sequence[Group]], Trial]) -> Search:
    return Search(groups=search.groups, attempt=attempt, good=search.good, over=search.over)


def _interrupted(
    attempt: Callable[[Sequence[Group]], Trial], machine: Machine
) -> Callable[[Sequence[Group]], Trial]:
    def once(kept: Sequence[Group]) -> Trial:
        if machine.tried:
            raise KeyboardInterrupt
        return attempt(kept)

    return once


def test_a_log_cut_off_in_its_last_line_loses_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    machine = Machine({"query": 0.1, "key": 0.2})
    attempt = TrialLog(path, "k").remembering(machine.attempt)
    attempt(machine.groups)
    attempt(())
    path.write_text(path.read_text()[:-9])
    again = TrialLog(path, "k").remembering(machine.attempt)
    again(machine.groups)
    assert len(machine.tried) == 2
    again(())
    assert len(machine.tried) == 3
    assert TrialLog(path, "k").remembering(machine.attempt)(()).error == pytest.approx(0.3)


def test_a_log_of_another_model_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    machine = Machine({"query": 0.1})
    TrialLog(path, "one").remembering(machine.attempt)(())
    TrialLog(path, "other").remembering(machine.attempt)(())
    assert len(machine.tried) == 2


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        TrialLog(tmp_path / "nowhere" / "trials.jsonl", "k")
