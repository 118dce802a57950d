"""What was measured, in words: every kind of figure, whatever the metric."""

from __future__ import annotations

import dataclasses

import pytest

from edgekit.report import figures, render, wording
from edgekit.values import AccuracyRecord, HeatRecord, Interval, LaunchConditions
from tests.report import samples


def rows(manifest: samples.Manifest) -> dict[str, str]:
    assert manifest.report is not None
    return dict(figures.figure_rows(manifest.report))


def test_every_figure_has_a_row_with_its_bounds() -> None:
    found = rows(samples.rich())
    assert found["throughput, 4 streams"] == "98 (95 to 101) samples/s"
    assert found["memory over the engine's own, after the runs"] == "104.2 (103.8 to 104.9) MiB"
    assert found["energy of one run, whole machine"] == "61.2 (60.1 to 62.5) mJ"
    assert found["sustained latency"].startswith("12.1 ms in the last window, 10.2 ms in the first, +18.6%")
    for name in ("html", "markdown"):
        text = render(name, samples.rich())
        assert all(value.split(" (")[0] in text for value in found.values())


def test_a_figure_that_was_not_taken_has_no_row() -> None:
    found = rows(samples.bare())
    assert list(found) == ["artifact"]


def test_each_shape_of_the_mix_has_its_percentiles() -> None:
    manifest = samples.rich()
    assert manifest.report is not None
    found = rows(manifest)
    runs = 0
    for number, sizes in enumerate(samples.SHAPES):
        value = found[f"latency at batch 1, sequence {sizes['sequence']}"]
        kept = sorted(
            latency
            for record in manifest.report.launches
            for latency, which in zip(record.latency_ms, record.shape, strict=True)
            if which == number
        )
        runs += len(kept)
        middle = wording.number(kept[(len(kept) + 1) // 2 - 1])
        assert value.startswith(f"p50 {middle} ms, p90 ")
        assert value.endswith(f"({len(kept):,} runs)")
    assert runs == 3000


def test_many_shapes_are_told_in_two_rows_and_listed_on_the_page() -> None:
    manifest = samples.rich()
    assert manifest.report is not None
    many = tuple({"batch": 1, "sequence": length} for length in range(8, 48))
    made = tuple(
        dataclasses.replace(record, shape=tuple(index % 40 for index in range(len(record.latency_ms))))
        for record in manifest.report.launches
    )
    manifest = samples.changed(manifest, shapes=many, launches=made)
    found = [name for name in rows(manifest) if "shapes" in name]
    assert [name.split(",")[0] for name in found] == ["quickest of 40 shapes", "slowest of 40 shapes"]
    page = render("html", manifest)
    assert "<summary>28 more shapes</summary>" in page
    assert "40 shapes (batch 1, sequence 8 to 47)" in page


def test_a_shape_that_made_no_run_says_so() -> None:
    manifest = samples.changed(samples.rich(), shapes=(*samples.SHAPES, {"batch": 1, "sequence": 512}))
    assert rows(manifest)["latency at batch 1, sequence 512"] == "no run (0 runs)"


def test_the_conditions_name_streams_mix_and_heat() -> None:
    manifest = samples.rich()
    assert manifest.report is not None
    assert wording.conditions(manifest.report) == (
        "1 thread, 4 streams, 3 shapes (batch 1, sequence 16 to 128), after 60 s of heat-up"
    )


def test_a_workload_of_the_given_rows_says_what_its_sizes_are() -> None:
    manifest = samples.changed(samples.report(), workload_source="data")
    assert manifest.report is not None
    told = "1 thread, shapes of the given rows (median: batch 1, sequence 128)"
    assert wording.conditions(manifest.report) == told


ACCURACY = samples.ACCURACY
F1 = dataclasses.replace(ACCURACY, metric="f1", lost=None, gained=None, artifact=0.912, model=0.915)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (ACCURACY, ("accuracy", "90.10% (exported model 90.40%) on 872 rows")),
        (ACCURACY, ("drop in accuracy", "0.3 points")),
        (ACCURACY, ("agreement", "98.28% of rows get the same answer (15 changed: 9 lost, 6 gained)")),
        (F1, ("f1", "0.912 (exported model 0.915) on 872 rows")),
        (F1, ("agreement", "98.28% of rows get the same answer (15 changed)")),
        (
            samples.WORD_ERRORS,
            ("word error rate", "0.1142 (exported model 0.1101, lower is better) on 260 rows"),
        ),
        (samples.WORD_ERRORS, ("rise in word error rate", "0.41 (-0.12 to 0.97) points [paired-score]")),
        (dataclasses.replace(samples.WORD_ERRORS, drop=None), ("rise in word error rate", "0.41 points")),
        (
            dataclasses.replace(F1, rows=0, flips=0),
            ("agreement", "100.00% of rows get the same answer (0 changed)"),
        ),
    ],
)
def test_any_metric_is_told_with_its_drop_and_the_agreement(
    record: AccuracyRecord, expected: tuple[str, str]
) -> None:
    assert expected in list(figures.accuracy_rows(record))


def test_heat_that_began_at_nothing_has_no_ratio() -> None:
    manifest = samples.changed(samples.bare(), heat=HeatRecord(seconds=5, windows_ms=(0.0, 2.0)))
    assert rows(manifest)["sustained latency"] == (
        "2 ms in the last window, 0 ms in the first (5 s without a pause)"
    )
    empty = samples.changed(samples.bare(), heat=HeatRecord(seconds=5, windows_ms=()))
    assert "sustained latency" not in rows(empty)


def test_the_machine_during_the_launches_is_told_as_far_as_it_was_read() -> None:
    made = samples.launches(count=3)
    assert [name for name, _ in figures.condition_rows(made)] == ["control computation"]
    hot = [
        dataclasses.replace(
            record, settled=number > 0, conditions=LaunchConditions(load=number + 0.5, throttled=number)
        )
        for number, record in enumerate(made)
    ]
    found = dict(figures.condition_rows(hot))
    assert found["load before a launch"] == "1.5 (0.5 to 2.5)"
    assert found["slowed for heat"] == "3 times in 2 launches"
    assert found["warm-up still drifting"] == "1 of 3 launches"


def test_the_cold_start_is_told_by_its_parts() -> None:
    assert dict(figures.cold_start_rows(samples.launches(count=5))) == {
        "start": "200 ms",
        "import": "300 ms",
        "open": "150 ms",
        "first run": "50 ms",
    }


def test_a_throughput_of_one_stream_says_so() -> None:
    manifest = samples.changed(samples.bare(), throughput=Interval(estimate=40.0, low=38.0))
    assert rows(manifest)["throughput, 1 stream"] == "40 (at least 38) samples/s"
