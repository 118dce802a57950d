"""The overview in every format: the same names and marks, safe to open, whatever the figures."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from edgekit.files.tables import encode
from edgekit.report import overview_page, overview_text
from edgekit.report.overview import Overview
from edgekit.values import Interval, Outcome
from tests.report.overviews import PI, one, seen
from tests.report.samples import ACCURACY, MACHINE

EVIL = "<script>alert('x')</script> | **a** `b` [c](javascript:d) \x1b[31m\n# kiosk"


@pytest.fixture(scope="module")
def mixed() -> Overview:
    """Two machines, every verdict, a gap, a report whose machine is not its target."""
    verdicts = list(Outcome)
    backends = ("one", "two", "three")
    here = [
        one(f"m{n}", 5 + n, 0.85 + 0.01 * n, 10 * (n + 1), verdict=verdicts[n % 4], backend=backends[n % 3])
        for n in range(6)
    ]
    there = [one("far", 90, machine=PI, machine_is_target=False, accuracy=None, verdict=Outcome.NOT_MEASURED)]
    return seen(*here, *there, page="../a%20b/report.html")


def test_every_format_shows_every_report_and_verdict_and_what_is_not_beaten(mixed: Overview) -> None:
    for text in (overview_text.plain(mixed), overview_text.markdown(mixed), overview_page.render(mixed)):
        plain = text.replace("\\", "")
        for row in mixed.rows():
            assert row.label in plain
            assert str(row.verdict) in plain
        assert "Not beaten on latency p90, size and accuracy at once (accuracy on 872 rows): m0" in plain
        assert "m1 (FAIL)" in plain


def test_the_best_of_a_column_is_marked_in_every_format() -> None:
    found = seen(one("a", 10), one("b", 12, 0.91))
    assert "  10*  " in overview_text.plain(found)
    assert "| **10** |" in overview_text.markdown(found)
    assert '<span class="best">10</span>' in overview_page.render(found)


def test_a_column_in_which_all_are_equal_has_no_best() -> None:
    assert not any("peak_memory_mib" in row.best for row in seen(one("a", 10), one("b", 12)).rows())


class Terminal:
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", ["60", "200"])
def test_a_terminal_gets_colours_and_the_same_figures_uncut_at_any_width(
    mixed: Overview, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("COLUMNS", width)
    shown = overview_text.text(mixed)
    monkeypatch.undo()
    assert "\x1b[" in shown
    words = re.sub(r"\x1b\[[0-9;]*m", "", shown).split()
    for row in mixed.rows():
        cells = overview_text.cells(row)
        for field in ("label", "target", "backend", "verdict", "latency_p90_ms", "artifact_mib"):
            assert set(cells[field].split()) <= {word.strip("*(),") for word in words} | {
                "-",
                "(not",
                "machine)",
            }


def test_json_holds_a_schema_and_every_row(mixed: Overview) -> None:
    data = json.loads(json.dumps(encode(mixed), allow_nan=False))
    assert (data["schema"], data["kind"], data["percentile"]) == (1, "overview", "p90")
    assert sum(len(group["rows"]) for group in data["groups"]) == 7


class Page(HTMLParser):
    """Tags and attributes, in order; complains about a tag that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_is_whole_and_asks_nothing_of_the_network(mixed: Overview) -> None:
    text = overview_page.render(mixed)
    page = Page(text)
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not re.search(r"https?://|@import|url\(|javascript:", text)
    assert "default-src 'none'" in text
    assert {attributes["href"] for attributes in page.named("a")} == {"../a%20b/report.html"}
    assert all(words in text for words in ("prefers-color-scheme: dark", "@media print", "max-width: 34rem"))


def test_what_a_report_names_can_never_become_markup_or_a_command() -> None:
    found = seen(
        one(EVIL, target_name=EVIL, backend=EVIL, machine=dataclasses.replace(MACHINE, cpu=EVIL)),
        one("plain", 9, 0.95),
        one(EVIL, 5, backend=EVIL, target_name="two", machine=dataclasses.replace(MACHINE, cpu=EVIL)),
    )
    text = overview_page.render(found)
    assert Page(text).open == []
    assert "<script" not in text
    plain = overview_text.plain(found)
    assert "\x1b" not in plain
    assert sum(line.startswith("# kiosk") for line in plain.splitlines()) == 0
    marked = overview_text.markdown(found)
    assert "\x1b" not in marked and "\n# kiosk" not in marked and "<script" not in marked.replace("\\<", "")
    rows = [line for line in marked.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {len(overview_text.COLUMNS) + 1}


def drawings(found: Overview) -> list[ElementTree.Element]:
    text = overview_page.render(found)
    return [ElementTree.fromstring(drawing) for drawing in re.findall(r"<svg viewBox.*?</svg>", text)]


def classes(drawing: ElementTree.Element) -> list[str]:
    return [each.get("class", "") for each in drawing.iter()]


def test_each_verdict_is_drawn_apart_and_each_backend_has_its_mark(mixed: Overview) -> None:
    wide, narrow = drawings(mixed)
    for drawing in (wide, narrow):
        marks = [name for name in classes(drawing) if name.startswith("mark")]
        assert sorted(marks) == [  # m0 is the other group's; then one, three, two
            "mark m1 dashed",
            "mark m1 full",
            "mark m2 crossed",
            "mark m2 dashed",
            "mark m3 crossed",
            "mark m3 full",
        ]
        assert classes(drawing).count("cross") == 2
        assert classes(drawing).count("front") == 1
        assert classes(drawing).count("ring") == 6
    assert (wide.get("viewBox", "").split()[2], narrow.get("viewBox", "").split()[2]) == ("720", "350")


def test_a_larger_artifact_has_a_larger_area() -> None:
    (drawing, _) = drawings(seen(one("small", 10, size=10), one("large", 20, 0.91, size=40)))
    radii = sorted(float(each.get("r", 0)) for each in drawing.iter() if "mark" in each.get("class", ""))
    assert radii[1] == pytest.approx(2 * radii[0], abs=0.11)


def test_the_step_line_passes_the_best_accuracy_within_each_latency() -> None:
    (drawing, _) = drawings(seen(one("a", 5, 0.85), one("low", 7, 0.84, 5), one("b", 10, 0.90)))
    path = next(each.get("d", "") for each in drawing.iter() if each.get("class") == "front")
    centres = {
        (float(each.get("cx", 0)), float(each.get("cy", 0)))
        for each in drawing.iter()
        if "mark" in each.get("class", "")
    }
    corners = {(float(x), float(y)) for x, y in re.findall(r"[ML](\S+?) (\S+?)(?=[ML]|$)", path)}
    assert len(centres & corners) == 2
    assert not any(math.isnan(number) for corner in corners for number in corner)


@pytest.mark.parametrize(
    "figures",
    [
        [(5, 0.9, 20), (5, 0.9, 20)],
        [(1e-6, 0.0, 1e-6), (1e9, 1.0, 1e6)],
        [(5, 0.0, 1), (6, 0.0, 1)],
        [(n + 1.0, 0.5 + n / 200, n + 1.0) for n in range(60)],
    ],
    ids=["the same", "far apart", "all wrong", "many"],
)
def test_any_figures_can_be_drawn(figures: Sequence[tuple[float, float, float]]) -> None:
    found = seen(*(one(f"m{n}", *each) for n, each in enumerate(figures)))
    for drawing in drawings(found):
        _, _, width, height = map(float, drawing.get("viewBox", "").split())
        for each in drawing.iter():
            assert "nan" not in each.get("d", "") and "inf" not in each.get("d", "")
            assert 0 <= float(each.get("cx", 0)) <= width
            assert 0 <= float(each.get("cy", 0)) <= height


def test_bounds_at_zero_or_missing_can_be_drawn() -> None:
    found = seen(
        one("a", latency_p90_ms=Interval(estimate=9.0, low=0.0)),
        one("b", latency_p90_ms=Interval(estimate=9.5), checks=(), accuracy=ACCURACY),
    )
    assert len(drawings(found)) == 2


def test_two_hundred_reports_stay_one_small_page() -> None:
    found = seen(
        *(one(f"model-{n}", 1 + n, 0.5 + n / 500, 10 + n % 7) for n in range(200)), page="r/report.html"
    )
    assert len(overview_page.render(found)) < 1_500_000
