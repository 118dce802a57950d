"""The drawings: whatever was measured can be drawn, and is drawn where it belongs."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import pytest

from edgekit.report import charts
from edgekit.values import Check, Interval, LaunchConditions, LaunchRecord, Outcome
from tests.report.samples import launches, told

MADE = launches()
DRAWINGS = (charts.launches_svg, charts.histogram_svg, charts.ecdf_svg)


def limit(value: float, key: str = "latency_p90_ms") -> Check:
    return Check(key=key, limit=value, unit="ms", outcome=Outcome.PASS)


def like(values: tuple[float, ...], disturbed: bool = False) -> LaunchRecord:
    (record,) = launches(count=1, runs=1)
    marks = (disturbed,) * len(values)
    return dataclasses.replace(record, latency_ms=values, disturbed=marks, wait_ms=(), cpu_ms=())


def columns(svg: str, kind: str) -> list[float]:
    """Heights of the upright bars of a path, in units of the drawing."""
    found = re.search(rf'class="{kind}" d="([^"]*)"', svg)
    bars = re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)h", found.group(1)) if found else []
    return [float(low) - float(high) for low, high in bars]


def test_disturbed_runs_are_drawn_apart() -> None:
    drawing = charts.launches_svg(MADE, ())
    marked = sum(sum(record.disturbed) for record in MADE)
    crosses = re.search(r'class="disturbed" d="([^"]*)"', drawing)
    assert crosses is not None
    assert crosses.group(1).count("l4 4") == marked > 0


@pytest.mark.parametrize(
    "observed",
    [
        Interval(estimate=10.0),
        Interval(estimate=10.0, low=9.0),
        Interval(estimate=10.0, high=11.0),
        Interval(estimate=10.0, low=10.0, high=10.0),
        Interval(estimate=0.0, low=0.0, high=0.0),
        Interval(estimate=-1.0, low=-2.0, high=3.0),
    ],
)
@pytest.mark.parametrize("limit", [0.0, 10.0, 1e9])
@pytest.mark.parametrize("key", ["latency_p90_ms", "throughput_min"])
def test_every_interval_can_be_drawn(observed: Interval, limit: float, key: str) -> None:
    check = Check(key=key, limit=limit, unit="ms", outcome=Outcome.PASS, observed=observed)
    ElementTree.fromstring(charts.interval_svg(check))
    assert charts.interval_svg(check).count('class="endless"') == [observed.low, observed.high].count(None)


def test_nothing_is_drawn_of_what_was_not_measured() -> None:
    check = Check(key="energy_mj", limit=1.0, unit="mJ", outcome=Outcome.NOT_MEASURED)
    assert charts.interval_svg(check) == ""
    for draw in DRAWINGS:
        assert draw((), (limit(10),)) == ""
    assert charts.conditions_svg(()) == ""


@pytest.mark.parametrize("values", [(5.0,), (5.0, 5.0), (0.0,), (0.001, 900.0), (1e-9, 2e-9), (1e12,)])
@pytest.mark.parametrize("limits", [(), (0.5,), (5.0, 5.0), (1e-6, 1e9)])
@pytest.mark.parametrize("draw", DRAWINGS)
def test_any_latencies_can_be_drawn(values: tuple[float, ...], limits: tuple[float, ...], draw) -> None:  # type: ignore[no-untyped-def]
    svg = draw([like(values), like(values, disturbed=True)], [limit(each) for each in limits])
    ElementTree.fromstring(svg)
    assert "nan" not in svg and "inf" not in svg
    assert all(f"limit {'' if each != 0.5 else '0.5'}" in svg for each in limits)


def test_a_launch_weighs_the_same_however_many_runs_it_made() -> None:
    svg = charts.histogram_svg([like((10.0,) * 90), like((20.0,) * 10)], ())
    quick, slow = columns(svg, "shares")
    assert quick == pytest.approx(slow, abs=0.2)


def test_disturbed_runs_stand_on_the_others_and_open_a_band() -> None:
    busy = [like((10.0, 10.0)), like((10.0,), disturbed=True)]
    svg = charts.histogram_svg(busy, ())
    assert columns(svg, "shares") == pytest.approx(columns(svg, "shares-disturbed"), abs=0.2)
    assert 'class="band"' in charts.ecdf_svg(busy, ())
    calm = [like((10.0, 11.0))]
    assert 'class="band"' not in charts.ecdf_svg(calm, ())
    assert 'class="shares-disturbed"' not in charts.histogram_svg(calm, ())


def test_the_rings_stand_at_the_limit_and_its_percentile() -> None:
    svg = charts.ecdf_svg(MADE, [limit(10, "latency_p50_ms"), limit(11, "latency_p90_ms")])
    rings = re.findall(r'class="gate" cx="([\d.]+)" cy="([\d.]+)"', svg)
    (x50, y50), (x90, y90) = ((float(x), float(y)) for x, y in rings)
    assert x50 < x90
    assert y50 > y90
    lines = re.findall(r'class="limit" x1="([\d.]+)"', svg)
    assert sorted(map(float, lines)) == [x50, x90]


def test_a_limit_far_off_is_named_and_does_not_squeeze_the_runs() -> None:
    for draw in (charts.histogram_svg, charts.ecdf_svg):
        svg = draw(MADE, [limit(4000)])
        assert "p90 limit 4,000 ms →" in svg
        assert 'class="limit"' not in svg
    assert "above: p90 limit 4,000" in charts.launches_svg(MADE, [limit(4000)])


def test_launches_with_most_runs_disturbed_are_tinted() -> None:
    svg = charts.launches_svg([like((10.0,)), like((10.0,), disturbed=True), like((10.0,))], ())
    tint = re.search(r'class="busy" d="([^"]*)"', svg)
    assert tint is not None and tint.group(1).count("M") == 1
    assert 'class="busy"' not in charts.launches_svg([like((10.0,))], ())


def test_a_strip_is_drawn_for_each_reading_the_system_told() -> None:
    assert charts.conditions_svg(told(MADE)).count('class="strip"') == 6
    silent = charts.conditions_svg(MADE)
    assert silent.count('class="strip"') == 1
    assert "control computation: 2 to" in silent


def test_a_launch_without_a_reading_leaves_a_gap() -> None:
    with_load = dataclasses.replace(MADE[0], conditions=LaunchConditions(load=1.0))
    svg = charts.conditions_svg([with_load, MADE[1], with_load])
    load = re.findall(r'class="strip" d="([^"]*)"', svg)[1]
    assert load.count("M") == 2


@pytest.mark.parametrize(
    ("share", "of", "width"), [(0.5, 1.0, 50), (0.2, 0.4, 50), (2.0, 1.0, 100), (1, 0, 0)]
)
def test_a_bar_is_as_long_as_its_share(share: float, of: float, width: float) -> None:
    part = re.search(r'class="part" width="([\d.]+)"', charts.bar_svg(share, of))
    assert part is not None and float(part.group(1)) == width
