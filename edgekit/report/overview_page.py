"""The overview as one self-contained page. No script, no network; light, dark and printed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from edgekit.report import overview_charts, wording
from edgekit.report.overview import Group, Overview
from edgekit.report.overview_rows import Row
from edgekit.report.overview_text import COLUMNS, cells, front_line, is_number, left_out_line, notes
from edgekit.values import Interval, Outcome

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

#: Stands at the head of every page; by it a page is known as one that may be replaced.
GENERATOR = '<meta name="generator" content="edgekit report">'
_WIDE, _NARROW = 720, 350
_TONES = {Outcome.PASS: "good", Outcome.FAIL: "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """A cell as the page shows it. bounds: in small print below."""

    title: str
    text: str
    bounds: str = ""
    best: bool = False
    is_number: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowView:
    """A report as the page shows it."""

    name: str
    page: str
    line: str
    not_beaten: bool
    mark: Markup
    sign: str
    verdict: str
    tone: str
    cells: tuple[_Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ContestView:
    """A plot and what it says."""

    line: str
    yardstick: str
    sizes: str
    backends: list[tuple[str, Markup]]
    verdicts: list[tuple[str, Markup]]
    wide: Markup
    narrow: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupView:
    """A group as the page shows it."""

    heading: str
    rows: tuple[_RowView, ...]
    contests: tuple[_ContestView, ...]
    left_out: tuple[str, ...]


def render(found: Overview) -> str:
    """The whole page."""
    rows = list(found.rows())
    marks = {name: number for number, name in enumerate(sorted({row.backend for row in rows}))}
    outcomes = [(each, sum(row.verdict is each for row in rows)) for each in Outcome]
    return _template().render(
        generator=_markup(GENERATOR),
        found=found,
        count=len(rows),
        groups=[_group(group, found, marks) for group in found.groups],
        outcomes=[(wording.SIGNS[each], str(each), _tone(each), count) for each, count in outcomes if count],
        titles=[(f"{column.title} {column.unit}".strip(), is_number(column)) for column in COLUMNS[1:-1]],
        notes=list(notes(found)),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("edgekit.report").joinpath("overview.html.j2").read_text("utf-8")
    return environment.from_string(source)


def _group(group: Group, found: Overview, marks: dict[str, int]) -> _GroupView:
    contests = []
    for contest in group.contests:
        members = [row for row in group.rows if row.label in contest.rows]
        drawings = [
            _markup(overview_charts.pareto_svg(members, found.percentile, marks, width))
            if len(members) > 1
            else _markup("")
            for width in (_WIDE, _NARROW)
        ]
        contests.append(
            _ContestView(
                line=front_line(contest, group, found.percentile),
                yardstick=contest.yardstick,
                sizes=_sizes(members),
                backends=[
                    (name, _markup(overview_charts.mark_svg(marks[name], "full")))
                    for name in sorted({row.backend for row in members})
                ],
                verdicts=_verdicts_drawn(members),
                wide=drawings[0],
                narrow=drawings[1],
            )
        )
    return _GroupView(
        heading=group.heading,
        rows=tuple(_row(row, marks) for row in group.rows),
        contests=tuple(contests),
        left_out=tuple(left_out_line(row) for row in group.rows if row.left_out),
    )


def _sizes(rows: list[Row]) -> str:
    known = [row.artifact_mib for row in rows if row.artifact_mib is not None]
    return f"{wording.number(min(known))} to {wording.number(max(known))} MiB"


def _row(row: Row, marks: dict[str, int]) -> _RowView:
    mark = overview_charts.mark_svg(marks[row.backend], overview_charts.tone(row.verdict))
    return _RowView(
        name=row.label,
        page=row.page,
        line=row.line,
        not_beaten=row.not_beaten,
        mark=_markup(mark),
        sign=wording.SIGNS[row.verdict],
        verdict=str(row.verdict),
        tone=_tone(row.verdict),
        cells=tuple(_cells(row)),
    )


def _cells(row: Row) -> list[_Cell]:
    shown = cells(row)
    score = row.accuracy
    intervals: dict[str, Interval | None] = {
        "latency_p50_ms": row.latency_p50_ms,
        "latency_p90_ms": row.latency_p90_ms,
        "cold_start_ms": row.cold_start_ms,
        "accuracy_drop": None if score is None else score.drop,
    }
    if score is not None:
        shown["accuracy_drop"] = wording.number(score.drop.estimate)
    return [
        _Cell(
            title=f"{column.title} {column.unit}".strip(),
            text=shown[column.field],
            bounds=_bounds(intervals.get(column.field)),
            best=column.field in row.best,
            is_number=is_number(column),
        )
        for column in COLUMNS[1:-1]
    ]


def _bounds(found: Interval | None) -> str:
    if found is None:
        return ""
    low, high = ("?" if bound is None else wording.number(bound) for bound in (found.low, found.high))
    return "" if low == high == "?" else f"{low} to {high}"


def _verdicts_drawn(rows: list[Row]) -> list[tuple[str, Markup]]:
    """The legend's words for the looks that occur."""
    words = {"full": "PASS", "crossed": "FAIL", "dashed": "INCONCLUSIVE or NOT_MEASURED"}
    looks = {overview_charts.tone(row.verdict) for row in rows}
    return [
        (text, _markup(overview_charts.mark_svg(0, look))) for look, text in words.items() if look in looks
    ]


def _tone(outcome: Outcome) -> str:
    return _TONES.get(outcome, "open")


def _markup(safe: str) -> Markup:
    from markupsafe import Markup

    return Markup(safe)
