"""report.html: one self-contained page. No script, no network; light, dark and printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from edgekit.files.manifests import Manifest
from edgekit.report import charts, figures, wording
from edgekit.report.calibrating import calibration_rows
from edgekit.values import AccuracyRecord, ChangedRow, Check, Outcome, ReportTable
from edgekit_runtime.values import OperatorTime

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

#: Rows beyond the first stand folded; rows beyond the most, and longer texts, would make the page heavy.
FIRST_ROWS, MOST_ROWS, MOST_CHARACTERS = 20, 500, 300
MOST_OPERATORS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _CheckView:
    """A limit as the page shows it."""

    key: str
    limit: str
    observed: str
    outcome: str
    sign: str
    tone: str
    assumption: str
    grounds: str
    drawing: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawing:
    """A drawing and what its marks mean."""

    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """A row of a table that ends in a bar."""

    name: str
    detail: str
    share: str
    bar: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changed:
    """The rows that changed their answer. left_out: how many more there are than the page lists."""

    first: tuple[ChangedRow, ...]
    more: tuple[ChangedRow, ...]
    left_out: int


def render(manifest: Manifest) -> str:
    """The whole page."""
    table = wording.report_of(manifest)
    return _template().render(
        manifest=manifest,
        table=table,
        line=wording.verdict_line(table),
        sign=wording.SIGNS[table.verdict],
        tone=_tone(table.verdict),
        conditions=wording.conditions(table),
        runs=wording.runs_made(table),
        checks=[_view(check) for check in table.checks],
        figures=list(figures.measured_rows(table)),
        cold_start=list(figures.cold_start_rows(table.launches)),
        drawings=[drawing for drawing in _drawings(table) if drawing.svg],
        mix=wording.mix(table),
        shapes=_shapes(table),
        changed=_changed(table.accuracy),
        accuracy=[] if table.accuracy is None else list(figures.accuracy_rows(table.accuracy)),
        operators=_operators(table.operators),
        operators_sum=f"{sum(each.share for each in table.operators[:MOST_OPERATORS]):.1%}",
        calibration=[] if table.calibration is None else list(calibration_rows(table.calibration)),
        sensitivity=_sensitivity(table),
        placement=_placement(table),
        machine=list(figures.machine_rows(table.machine)),
        during=list(figures.condition_rows(table.launches)),
        command=wording.reproduce(manifest),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("edgekit.report").joinpath("report.html.j2").read_text("utf-8")
    return environment.from_string(source)


def _markup(svg: str) -> Markup:
    from markupsafe import Markup

    return Markup(svg)


def _view(check: Check) -> _CheckView:
    observed = wording.interval(check.observed)
    return _CheckView(
        key=check.key,
        limit=wording.limit(check),
        observed=f"{observed} {check.unit}" if check.observed is not None else observed,
        outcome=str(check.outcome),
        sign=wording.SIGNS[check.outcome],
        tone=_tone(check.outcome),
        assumption=wording.assumes(check),
        grounds=wording.grounds(check),
        drawing=_markup(charts.interval_svg(check)),
    )


def _drawings(table: ReportTable) -> tuple[_Drawing, ...]:
    limits = [check for check in table.checks if check.key.startswith("latency_")]
    return (
        _Drawing(
            title="Distribution",
            svg=_markup(charts.histogram_svg(table.launches, limits)),
            caption="Share of runs by latency; every launch weighs the same. Red: disturbed runs, "
            "stacked on the others. The slowest 0.5 % stand in the last bar.",
        ),
        _Drawing(
            title="Share of runs within a latency",
            svg=_markup(charts.ecdf_svg(table.launches, limits)),
            caption="The line passes above a limit's ring when enough runs keep the limit. Band: where the "
            "line would lie if every disturbed run had been slow (lower edge) or quick (upper edge).",
        ),
        _Drawing(
            title="Launch by launch",
            svg=_markup(charts.launches_svg(table.launches, limits)),
            caption="Dot: a run, in the order made, each launch in a fresh process; cross: a disturbed run; "
            "bar: median of the launch; tinted: launches with most runs disturbed. Runs beyond the scale "
            "are drawn at its edge.",
        ),
        _Drawing(
            title="The machine during each launch",
            svg=_markup(charts.conditions_svg(table.launches)),
            caption="Same order of launches as above. Control computation: a fixed piece of work, timed "
            "between the runs; it takes longer when the machine is slow for everyone.",
        ),
    )


def _shapes(table: ReportTable) -> list[_Share]:
    rows = figures.shape_rows(table)
    most = max((row.share for row in rows), default=0.0)
    return [
        _Share(
            name=row.name,
            detail=figures.shape_latency(row),
            share=f"{row.share:.1%}",
            bar=_markup(charts.bar_svg(row.share, most)),
        )
        for row in rows
    ]


def _operators(found: Sequence[OperatorTime]) -> list[_Share]:
    shown = found[:MOST_OPERATORS]
    most = max((each.share for each in shown), default=0.0)
    return [
        _Share(
            name=f"{each.op_type} {each.name}".strip() if each.name != each.op_type else each.name,
            detail=f"{each.precision}, {each.device}",
            share=f"{each.share:.1%}",
            bar=_markup(charts.bar_svg(each.share, most)),
        )
        for each in shown
    ]


def _sensitivity(table: ReportTable) -> list[_Share]:
    most = max((each.error for each in table.sensitivity), default=0.0)
    rows = zip(figures.sensitivity_rows(table), table.sensitivity, strict=True)
    return [
        _Share(
            name=name,
            detail=f"{flips} answers changed, {saved} ms saved",
            share=error,
            bar=_markup(charts.bar_svg(each.error, most)),
        )
        for (name, error, flips, saved), each in rows
    ]


def _placement(table: ReportTable) -> list[tuple[str, str, str, str]]:
    if table.placement is None:
        return []
    return [
        (
            row.precision,
            row.device,
            f"{row.nodes:,}",
            "not told" if row.time_share is None else f"{row.time_share:.1%}",
        )
        for row in table.placement.rows
    ]


def _changed(found: AccuracyRecord | None) -> _Changed | None:
    if found is None or not found.changed:
        return None
    rows = tuple(
        ChangedRow(
            number=row.number,
            label=_clipped(row.label),
            model=_clipped(row.model),
            artifact=_clipped(row.artifact),
            text=_clipped(row.text),
        )
        for row in found.changed[:MOST_ROWS]
    )
    return _Changed(
        first=rows[:FIRST_ROWS],
        more=rows[FIRST_ROWS:],
        left_out=max(0, max(found.flips, len(found.changed)) - len(rows)),
    )


def _clipped(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def _tone(outcome: Outcome) -> str:
    return {Outcome.PASS: "good", Outcome.FAIL: "bad"}.get(outcome, "open")
