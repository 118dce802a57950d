"""report.html: one self-contained page. No script, no network; light, dark and printed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from edgekit.files.manifests import Manifest
from edgekit.report import charts, wording
from edgekit.values import Check, Outcome, ReportTable

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class _CheckView:
    """A limit as the page shows it."""

    key: str
    limit: str
    observed: str
    outcome: str
    sign: str
    tone: str
    reason: str
    method: str
    drawing: Markup


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
        figures=list(wording.figure_rows(table)),
        launches=_launches(table),
        machine=list(wording.machine_rows(table.machine)),
        placement=_placement(table),
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


def _view(check: Check) -> _CheckView:
    from markupsafe import Markup

    observed = wording.interval(check.observed)
    return _CheckView(
        key=check.key,
        limit=wording.limit(check),
        observed=f"{observed} {check.unit}" if check.observed is not None else observed,
        outcome=str(check.outcome),
        sign=wording.SIGNS[check.outcome],
        tone=_tone(check.outcome),
        reason=check.reason,
        method=check.method,
        drawing=Markup(charts.interval_svg(check)),
    )


def _launches(table: ReportTable) -> Markup:
    from markupsafe import Markup

    limits = [check for check in table.checks if check.key.startswith("latency_")]
    return Markup(charts.launches_svg(table.launches, limits))


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


def _tone(outcome: Outcome) -> str:
    return {Outcome.PASS: "good", Outcome.FAIL: "bad"}.get(outcome, "open")
