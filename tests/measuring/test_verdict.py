"""Verdicts: PASS and FAIL only when proven, everything else says why and what it would take."""

from __future__ import annotations

import dataclasses

import pytest

from edgekit.measuring.budgets import METHODS
from edgekit.measuring.plan import WATCHED_LAUNCHES, Proof
from edgekit.measuring.verdict import (
    LAUNCH_KEYS,
    Evidence,
    decider,
    figures,
    judge,
    measurement_notes,
    method_sentences,
    overall_verdict,
)
from edgekit.targets.budgets import BUDGET_UNITS
from edgekit.values import (
    AccuracyRecord,
    Budget,
    Check,
    GoldenRecord,
    LaunchConditions,
    LaunchRecord,
    Outcome,
)
from edgekit_runtime.values import Placement, PlacementRow
from tests.measuring.records import launch

PASS, FAIL = Outcome.PASS, Outcome.FAIL
INCONCLUSIVE, NOT_MEASURED = Outcome.INCONCLUSIVE, Outcome.NOT_MEASURED


def evidence(*launches: LaunchRecord, **changes: object) -> Evidence:
    return dataclasses.replace(Evidence(precision="int8", launches=launches), **changes)  # type: ignore[arg-type]


#: Without the watch for spells, which has tests of its own below.
UNWATCHED = Proof(confidence=0.99, watched=3)
WATCHED = Proof(confidence=0.99)


def check_of(budget: Budget, found: Evidence, proof: Proof = UNWATCHED) -> Check:
    (check,) = judge(budget, found, proof)
    return check


def test_seven_clean_launches_prove_a_median_and_six_say_one_more() -> None:
    budget = Budget(latency_p50_ms=11)
    assert check_of(budget, evidence(*[launch()] * 7)).outcome is PASS
    six = check_of(budget, evidence(*[launch()] * 6))
    assert six.outcome is INCONCLUSIVE
    assert "about 1 more launches of 20 runs (about 2 s) would prove PASS" in six.reason


def test_a_model_that_is_too_slow_fails_and_says_how_often() -> None:
    check = check_of(Budget(latency_p90_ms=9), evidence(*[launch()] * 5))
    assert check.outcome is FAIL
    assert check.reason == "in 5 launches a share of 1 of runs miss it (0.1 is allowed)"
    assert check.observed is not None and check.observed.low == 10.0


def test_two_launches_never_decide_however_clear_they_are() -> None:
    check = check_of(Budget(latency_p99_ms=1), evidence(launch(), launch()))
    assert check.outcome is INCONCLUSIVE
    assert "nothing is proven before 3 launches" in check.reason


def test_an_estimate_over_the_limit_says_that_no_number_of_launches_proves_a_pass() -> None:
    launches = [launch(*[10.0] * 5, *[20.0] * 15), launch(*[10.0] * 9, *[20.0] * 11), launch()]
    check = check_of(Budget(latency_p50_ms=15), evidence(*launches * 2))
    assert check.outcome is INCONCLUSIVE or check.outcome is FAIL
    over = check_of(Budget(latency_p50_ms=15), evidence(*launches[:2], launches[0]))
    assert over.outcome is INCONCLUSIVE
    assert "no number of launches would prove PASS" in over.reason
    assert "would prove FAIL" in over.reason


def test_disturbed_runs_count_against_a_pass_and_against_a_fail() -> None:
    """Every run is under the limit, half were disturbed: no PASS. Every run over it: no FAIL."""
    half = range(10)
    quick = check_of(Budget(latency_p50_ms=11), evidence(*[launch(disturbed=half)] * 40))
    slow = check_of(Budget(latency_p50_ms=9), evidence(*[launch(disturbed=half)] * 40))
    for check in (quick, slow):
        assert check.outcome is INCONCLUSIVE
        assert "quiet" in check.reason
    few = evidence(*[launch(disturbed=range(2))] * 40)
    assert check_of(Budget(latency_p50_ms=11), few).outcome is PASS
    assert check_of(Budget(latency_p50_ms=9), few).outcome is FAIL


@pytest.mark.parametrize("suspect", [launch(control=4.0), launch(settled=False)])
def test_launches_of_a_slow_or_restless_machine_decide_nothing(suspect: LaunchRecord) -> None:
    quiet = [launch()] * 8
    for limit in (11, 9):
        alone = check_of(Budget(latency_p50_ms=limit), evidence(*quiet, *[suspect] * 24))
        assert alone.outcome in (INCONCLUSIVE, PASS if limit == 11 else FAIL)
        mostly = check_of(Budget(latency_p50_ms=limit), evidence(*[suspect] * 24, *quiet * 2))
        assert mostly.outcome is INCONCLUSIVE


def test_cold_start_and_memory_and_throughput_are_judged_by_launch() -> None:
    found = evidence(*[launch()] * 7, batch=2)
    checks = judge(Budget(cold_start_ms=600, throughput_min=150, peak_memory_mib=60), found, UNWATCHED)
    assert [check.outcome for check in checks] == [PASS, PASS, PASS]
    throughput = checks[1]
    assert throughput.observed is not None
    assert throughput.observed.estimate == throughput.observed.low == pytest.approx(200.0)
    checks = judge(Budget(cold_start_ms=400, throughput_min=250, peak_memory_mib=49), found, UNWATCHED)
    assert [check.outcome for check in checks] == [FAIL, FAIL, FAIL]
    few = evidence(*[launch()] * 5)
    checks = judge(Budget(cold_start_ms=600, throughput_min=50, peak_memory_mib=60), few, UNWATCHED)
    assert [check.outcome for check in checks] == [INCONCLUSIVE] * 3


def test_a_throughput_that_waiting_held_down_does_not_fail() -> None:
    check = check_of(Budget(throughput_min=150), evidence(*[launch(wait=1.0)] * 20))
    assert check.outcome is INCONCLUSIVE


def test_a_disturbed_cold_start_is_no_failure() -> None:
    check = check_of(Budget(cold_start_ms=400), evidence(*[launch(cold_disturbed=True)] * 20))
    assert check.outcome is INCONCLUSIVE


def test_one_launch_over_the_memory_limit_fails_at_once() -> None:
    check = check_of(Budget(peak_memory_mib=60), evidence(launch(), launch(memory=61.0)))
    assert check.outcome is FAIL
    assert "1 of 2" in check.reason


def test_memory_that_the_system_does_not_tell_is_not_measured() -> None:
    check = check_of(Budget(peak_memory_mib=60), evidence(*[launch(memory=None)] * 9))
    assert check.outcome is NOT_MEASURED
    assert figures(evidence(*[launch(memory=None)] * 9), UNWATCHED).peak_memory_mib is None


def test_size_is_exact() -> None:
    assert check_of(Budget(artifact_mib=5), evidence(artifact_mib=5.0)).outcome is PASS
    assert check_of(Budget(artifact_mib=5), evidence(artifact_mib=5.001)).outcome is FAIL


def test_fallback_is_a_share_of_time_or_else_of_nodes() -> None:
    timed = Placement(
        rows=(
            PlacementRow(precision="int8", device="cpu", nodes=50, time_share=0.9),
            PlacementRow(precision="fp32", device="cpu", nodes=50, time_share=0.1),
        ),
        source="profile",
    )
    check = check_of(Budget(max_fallback=0.2), evidence(placement=timed))
    assert check.outcome is PASS
    assert "10.0% fp32 on cpu instead of int8 on cpu" in check.reason
    untimed = dataclasses.replace(
        timed, rows=tuple(dataclasses.replace(row, time_share=None) for row in timed.rows)
    )
    check = check_of(Budget(max_fallback=0.2), evidence(placement=untimed))
    assert check.outcome is FAIL
    assert check.observed is not None and check.observed.estimate == 0.5


@pytest.mark.parametrize("placement", [None, Placement(rows=(), source="nothing")])
def test_a_session_that_cannot_tell_its_placement_leaves_fallback_unmeasured(
    placement: Placement | None,
) -> None:
    assert check_of(Budget(max_fallback=1.0), evidence(placement=placement)).outcome is NOT_MEASURED


def test_the_wrong_machine_is_never_a_pass() -> None:
    everything = Budget(**dict.fromkeys(BUDGET_UNITS, 1e9) | {"max_fallback": 1.0, "throughput_min": 1e-9})
    found = evidence(
        *[dataclasses.replace(launch(), energy_mj=1.0)] * 500,
        artifact_mib=1.0,
        placement=Placement(
            rows=(PlacementRow(precision="int8", device="cpu", nodes=1, time_share=1.0),), source="x"
        ),
        accuracy=AccuracyRecord(
            metric="accuracy", rows=9, artifact=1, model=1, lost=0, gained=0, flips=0, max_logit_distance=0
        ),
    )
    there = {check.key: check for check in judge(everything, found, UNWATCHED)}
    assert {key for key, check in there.items() if check.outcome is PASS} == {
        *LAUNCH_KEYS,
        "artifact_mib",
        "max_fallback",
        "accuracy_drop",
    }
    elsewhere = judge(everything, dataclasses.replace(found, mismatches=("the arch is x",)), UNWATCHED)
    passed = {check.key for check in elsewhere if check.outcome is PASS}
    assert passed == {"artifact_mib"}
    assert "this machine is not the target: the arch is x" in elsewhere[0].reason


@pytest.mark.parametrize("key", BUDGET_UNITS)
def test_every_key_without_evidence_is_not_measured_with_a_reason(key: str) -> None:
    check = check_of(Budget(**{key: 1.0}), evidence())
    assert check.outcome is NOT_MEASURED
    assert check.reason
    assert check.unit == BUDGET_UNITS[key]


def test_a_gap_says_why_a_figure_was_not_taken() -> None:
    check = check_of(Budget(accuracy_drop=1), evidence(gaps={"accuracy_drop": "the task has no metric"}))
    assert (check.outcome, check.reason) == (NOT_MEASURED, "the task has no metric")


def test_the_overall_verdict_is_the_worst_of_all() -> None:
    def made(*outcomes: Outcome) -> list[Check]:
        return [Check(key="artifact_mib", limit=1, unit="MiB", outcome=outcome) for outcome in outcomes]

    assert overall_verdict(made(PASS, PASS)) is PASS
    assert overall_verdict(made(PASS, NOT_MEASURED)) is NOT_MEASURED
    assert overall_verdict(made(NOT_MEASURED, INCONCLUSIVE, PASS)) is INCONCLUSIVE
    assert overall_verdict(made(INCONCLUSIVE, FAIL, NOT_MEASURED, PASS)) is FAIL
    assert overall_verdict(()) is NOT_MEASURED
    golden = GoldenRecord(cases=1, agreeing=0, max_abs_error=1, min_cosine=0, outcome=FAIL)
    assert overall_verdict(made(PASS), golden) is FAIL


def test_measuring_stops_when_every_limit_that_launches_decide_is_decided() -> None:
    decide = decider(Budget(latency_p50_ms=11, latency_p90_ms=9, artifact_mib=1), evidence(), UNWATCHED)
    assert decide([launch()] * 6).undecided == ("latency_p50_ms",)
    assert decide([launch()] * 6).text == "latency_p50_ms ?..? against 11 ms"
    assert decide([launch()] * 7).done
    slow = decider(Budget(latency_p50_ms=9, latency_p99_ms=9), evidence(), UNWATCHED)
    assert not slow([launch()] * 2).done


def test_without_limits_enough_launches_for_a_median_are_made() -> None:
    decide = decider(Budget(), evidence(), UNWATCHED)
    assert not decide([launch()] * 6).done
    assert decide([launch()] * 7).done
    elsewhere = decider(Budget(latency_p99_ms=11), evidence(mismatches=("another machine",)), UNWATCHED)
    assert elsewhere([launch()] * 7).done


def test_every_verdict_names_a_method_that_the_report_explains() -> None:
    found = evidence(*[launch()] * 7, artifact_mib=1.0)
    checks = judge(
        Budget(latency_p50_ms=11, cold_start_ms=1000, artifact_mib=2),
        found,
        Proof(confidence=0.95, watched=3),
    )
    assert all(check.method in METHODS for check in checks)
    sentences = method_sentences(checks, Proof(confidence=0.95))
    assert "0.95" in sentences[0]
    assert len(sentences) == 4
    assert method_sentences((), UNWATCHED) == ()


def test_notes_never_take_an_unreadable_machine_for_a_quiet_one() -> None:
    blind = dataclasses.replace(launch(), wait_ms=())
    assert any("disturbance not readable" in note for note in measurement_notes(evidence(blind)))
    assert not measurement_notes(evidence(launch()))
    noisy = measurement_notes(
        evidence(launch(disturbed=[1]), launch(settled=False), launch(settled=None), launch(control=9.0))
    )
    assert len(noisy) == 4
    assert any(note.startswith("41 of 80 runs were disturbed") for note in noisy)


def test_figures_are_given_with_bounds_whether_limited_or_not() -> None:
    found = figures(evidence(*[launch()] * 46), UNWATCHED)
    assert found.latency_p90_ms is not None and found.latency_p90_ms.high == 10.0
    assert found.latency_p99_ms is not None and found.latency_p99_ms.high is None
    assert found.cold_start_ms is not None and found.cold_start_ms.high == 500.0
    assert found.peak_memory_mib is not None and found.peak_memory_mib.high == 50.0
    assert figures(evidence(), UNWATCHED).latency_p50_ms is None


def test_nothing_is_proven_before_the_machine_was_watched() -> None:
    for limit, outcome in ((11, PASS), (9, FAIL)):
        budget = Budget(latency_p50_ms=limit)
        short = check_of(budget, evidence(*[launch()] * (WATCHED_LAUNCHES - 1)), WATCHED)
        assert short.outcome is INCONCLUSIVE
        assert f"nothing is proven before {WATCHED_LAUNCHES} launches (about 2 s)" in short.reason
        enough = check_of(budget, evidence(*[launch()] * WATCHED_LAUNCHES), WATCHED)
        assert (enough.outcome, enough.assumption) == (outcome, "")


def test_slow_spells_make_launches_count_for_less() -> None:
    """Every launch is under the limit, but they come in spells: more of them are needed."""
    spell = [launch(*[5.0 + step / 100] * 20) for step in range(10)] + [launch(*[8.0] * 20)] * 10
    budget = Budget(latency_p90_ms=9)
    spelled = check_of(budget, evidence(*spell * 3), WATCHED)
    assert spelled.outcome is INCONCLUSIVE
    assert "launches come in spells" in spelled.reason
    shuffled = [*spell[::2], *spell[1::2]] * 3
    order = [shuffled[(index * 37) % 60] for index in range(60)]
    assert check_of(budget, evidence(*order), WATCHED).outcome is PASS


def test_with_few_launches_a_model_decides_and_says_what_it_assumes() -> None:
    few = Proof(confidence=0.99, launch_seconds=10.0, max_seconds=120.0)
    launches = [launch(*[10.0 + step / 10] * 20) for step in range(12)]
    passed = check_of(Budget(latency_p90_ms=14), evidence(*launches), few)
    assert (passed.outcome, passed.method) == (PASS, "random-effects")
    assert "normally distributed (12 launches" in passed.assumption
    assert check_of(Budget(latency_p90_ms=11.5), evidence(*launches), few).outcome is INCONCLUSIVE
    failed = check_of(Budget(latency_p90_ms=6), evidence(*launches), few)
    assert failed.outcome is FAIL
    assert "no slow spells" in failed.assumption
    strict = dataclasses.replace(few, assume_nothing=True)
    check = check_of(Budget(latency_p90_ms=14), evidence(*launches), strict)
    assert check.outcome is INCONCLUSIVE
    assert "nothing is proven before" in check.reason


def test_the_model_is_looked_at_only_once() -> None:
    """Looking after every launch, with the model each time, would err more often than stated."""
    few = Proof(confidence=0.99, launch_seconds=10.0, max_seconds=120.0)
    decide = decider(Budget(latency_p90_ms=14), evidence(), few)
    assert not decide([launch(*[10.0 + step / 10] * 20) for step in range(12)]).done


def test_throughput_of_streams_is_their_own_figure() -> None:
    streams = [dataclasses.replace(launch(), samples_per_second=300.0)] * 8
    check = check_of(Budget(throughput_min=250), evidence(*streams, streams=4))
    assert check.outcome is PASS
    assert check.reason.startswith("4 streams of runs")
    busy = [dataclasses.replace(one, streams_disturbed=True) for one in streams]
    assert check_of(Budget(throughput_min=350), evidence(*busy, streams=4)).outcome is INCONCLUSIVE


def test_energy_is_judged_where_a_counter_can_be_read() -> None:
    read = [dataclasses.replace(launch(), energy_mj=20.0)] * 8
    assert check_of(Budget(energy_mj=25), evidence(*read)).outcome is PASS
    assert check_of(Budget(energy_mj=15), evidence(*read)).outcome is FAIL
    blind = check_of(Budget(energy_mj=25), evidence(*[launch()] * 8))
    assert blind.outcome is NOT_MEASURED
    assert "no energy counter" in blind.reason


def test_a_busy_machine_is_named_in_the_reason() -> None:
    busy = LaunchConditions(load=9.0, running=9)
    record = dataclasses.replace(launch(disturbed=range(20)), conditions=busy)
    check = check_of(Budget(latency_p50_ms=9), evidence(*[record] * 10, cores=2.0))
    assert check.outcome is INCONCLUSIVE
    assert "load 9 on 2 cores" in check.reason
