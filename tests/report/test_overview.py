"""Many reports in one: like compared with like, and nothing beaten that is called not beaten."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.files.manifests import Manifest
from edgekit.report import overview_page, overview_text
from edgekit.report.overview import Percentile, Point, not_beaten, overview
from edgekit.report.overview_rows import Source
from edgekit.values import GoldenRecord, HeatRecord, InputEntry, Interval, Outcome
from edgekit_runtime.errors import ManifestError
from tests.report.overviews import PI, fronts, one, seen
from tests.report.samples import ACCURACY, MACHINE

# --- the front --------------------------------------------------------------------------------------

few = st.integers(1, 4).map(float)
points = st.lists(st.builds(Point, few, few, few), max_size=12)


@given(points)
def test_the_front_is_exactly_what_no_other_point_beats(found: list[Point]) -> None:
    def beaten(one: Point) -> bool:
        return any(
            other.latency <= one.latency
            and other.size <= one.size
            and other.score >= one.score
            and (other.latency < one.latency or other.size < one.size or other.score > one.score)
            for other in found
        )

    assert list(not_beaten(found)) == [not beaten(point) for point in found]


@given(points)
def test_whatever_is_beaten_is_beaten_by_one_of_the_front(found: list[Point]) -> None:
    kept = not_beaten(found)
    front = [point for point, stays in zip(found, kept, strict=True) if stays]
    assert bool(front) == bool(found)
    for point, stays in zip(found, kept, strict=True):
        assert stays or any(other.beats(point) for other in front)


@given(points.filter(bool), st.randoms(use_true_random=False))
def test_the_order_of_reports_changes_nothing(found: list[Point], chance: random.Random) -> None:
    manifests = [
        one(f"m{number}", point.latency, point.score / 10, point.size, machine=(MACHINE, PI)[number % 2])
        for number, point in enumerate(found)
    ]
    sources = [
        Source(path=f"{number}.report", manifest=manifest, verified=True)
        for number, manifest in enumerate(manifests)
    ]
    shuffled = chance.sample(sources, len(sources))
    assert overview(sources, "p90", "", "") == overview(shuffled, "p90", "", "")


def test_an_artifact_stays_for_being_quick_or_small_or_right_and_for_nothing_else() -> None:
    found = seen(
        one("quick", 5, 0.88, 20),
        one("small", 9, 0.88, 5),
        one("right", 9, 0.91, 20),
        one("beaten", 9.5, 0.90, 20),
        one("twin", 5, 0.88, 20),
    )
    assert [set(front) for front in fronts(found)] == [{"quick", "small", "right", "twin"}]
    assert {row.label for row in found.rows() if row.not_beaten} == {"quick", "small", "right", "twin"}


def test_of_a_metric_that_counts_errors_less_is_better() -> None:
    def wer(name: str, rate: float) -> Manifest:
        found = dataclasses.replace(
            ACCURACY, metric="wer", artifact=rate, model=0.10, higher_is_better=False, lost=None, gained=None
        )
        return one(name, accuracy=found, checks=())

    found = seen(wer("worse", 0.20), wer("better", 0.11))
    assert fronts(found) == [("better",)]
    better, worse = found.rows()
    assert better.accuracy is not None and worse.accuracy is not None
    assert (round(better.accuracy.drop.estimate, 6), round(worse.accuracy.drop.estimate, 6)) == (1.0, 10.0)
    assert {"accuracy", "accuracy_drop"} <= set(better.best)


@pytest.mark.parametrize(("percentile", "quickest"), [("p50", "steady"), ("p90", "even")])
def test_the_percentile_asked_for_decides(percentile: Percentile, quickest: str) -> None:
    steady = one("steady", latency_p50_ms=Interval(estimate=5), latency_p90_ms=Interval(estimate=20))
    even = one("even", latency_p50_ms=Interval(estimate=8), latency_p90_ms=Interval(estimate=9))
    assert fronts(seen(steady, even, percentile=percentile)) == [(quickest,)]


# --- like with like ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unlike",
    [
        {"machine": PI},
        {"machine": dataclasses.replace(MACHINE, usable_cores=1.0)},
        {"threads": 4},
        {"workload": {"batch": 8, "sequence": 128}},
        {"shapes": ({"batch": 1, "sequence": 8}, {"batch": 1, "sequence": 64})},
        {"streams": 4},
        {"heat": HeatRecord(seconds=60, windows_ms=(9.0, 10.0))},
    ],
    ids=lambda unlike: next(iter(unlike)),
)
def test_what_was_measured_differently_is_never_compared(unlike: dict[str, object]) -> None:
    found = seen(one("best", 1, 0.95, 1), one("worst", 100, 0.5, 100, **unlike))
    assert len(found.groups) == 2
    assert len({group.heading for group in found.groups}) == 2
    assert not any(row.best or row.not_beaten for row in found.rows())
    for text in (overview_text.plain(found), overview_text.markdown(found), overview_page.render(found)):
        assert "2 groups: figures of different machines, workloads or threads are not compared" in text


def test_machines_of_one_name_are_told_apart_by_what_differs() -> None:
    found = seen(one("a"), one("b", machine=dataclasses.replace(MACHINE, governor="powersave")))
    assert sorted(group.heading.split(";")[0] for group in found.groups) == [
        "Example CPU 3000 & Sons (governor performance)",
        "Example CPU 3000 & Sons (governor powersave)",
    ]


def test_accuracies_on_different_rows_are_not_compared() -> None:
    other = one("other", 1, 0.99, 1)
    other = dataclasses.replace(
        other, inputs=(InputEntry(role="data", digest="sha256:" + "cd" * 32, path="../data/easy.jsonl"),)
    )
    found = seen(one("a", 10), one("b", 12, 0.91), other)
    assert len(found.groups) == 1
    assert sorted(fronts(found)) == [("a", "b"), ("other",)]
    assert not any("accuracy" in row.best for row in found.rows())
    text = overview_text.plain(found)
    assert (
        "Nothing to compare other with: no other one here has its accuracy on 872 rows of easy.jsonl" in text
    )


def test_reports_of_one_artifact_get_names_of_their_own() -> None:
    found = seen(one("kiosk"), one("kiosk", 11), one("kiosk", 12, target_name="pi"), one("sole", 13))
    labels = [row.label for row in found.rows()]
    assert labels == [
        "kiosk on this-machine (0.report)",
        "kiosk on this-machine (1.report)",
        "kiosk on pi",
        "sole",
    ]


# --- what is not there ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gap", "reason"),
    [
        ({"accuracy": None, "checks": ()}, "no accuracy was measured"),
        ({"latency_p90_ms": None}, "no latency p90 was measured"),
        ({"artifact_mib": 0.0}, "no size was measured"),
        ({"latency_p90_ms": None, "accuracy": None}, "no latency p90 and accuracy was measured"),
        (
            {
                "golden": GoldenRecord(
                    cases=2, agreeing=0, max_abs_error=9, min_cosine=0, outcome=Outcome.FAIL
                )
            },
            "its answers are not the exported model's",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_report_without_a_figure_is_shown_and_left_out_with_the_reason(
    gap: dict[str, object], reason: str
) -> None:
    found = seen(one("whole"), one("slow", 20, 0.91), one("odd", 1, 0.99, 1, **gap))
    assert fronts(found) == [("whole", "slow")]
    for text in (overview_text.plain(found), overview_text.markdown(found)):
        assert f"Left out: odd: {reason}." in text.replace("\\", "")
    assert f"Left out: odd: {reason}." in overview_page.render(found).replace("&#39;", "'")


def test_what_was_not_measured_is_a_dash_in_every_format() -> None:
    bare = one(
        "bare",
        latency_p50_ms=None,
        latency_p90_ms=None,
        cold_start_ms=None,
        peak_memory_mib=None,
        accuracy=None,
        artifact_mib=0.0,
        verdict=Outcome.NOT_MEASURED,
    )
    found = seen(bare)
    line = next(line for line in overview_text.plain(found).splitlines() if line.startswith("bare"))
    assert line.split().count("-") == 7
    row = next(line for line in overview_text.markdown(found).splitlines() if line.startswith("| bare"))
    assert row.split(" | ").count("-") == 7
    assert overview_page.render(found).count("<span>-</span>") == 7


def test_a_wrong_artifact_is_best_in_nothing() -> None:
    golden = GoldenRecord(cases=2, agreeing=0, max_abs_error=9, min_cosine=0, outcome=Outcome.FAIL)
    found = seen(one("wrong", 1, 0.99, 1, golden=golden), one("a", 10), one("b", 12, 0.91, 30))
    best = {row.label: set(row.best) for row in found.rows()}
    assert best["wrong"] == set()
    assert best["a"] == {"latency_p50_ms", "latency_p90_ms", "artifact_mib"}
    assert best["b"] == {"accuracy", "accuracy_drop"}


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
def test_a_latency_that_cannot_be_is_refused_by_path_and_key(value: float) -> None:
    with pytest.raises(ManifestError, match=r"0\.report: report\.latency_p90_ms is"):
        seen(one("odd", latency_p90_ms=Interval(estimate=value)))
