"""report.md: the verdict, the limits and the figures, for a job's summary or a pull request.

GitHub's dialect. Whatever a report names is escaped: it ends no cell, begins no markup, mentions nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from edgekit.files.manifests import Manifest
from edgekit.report import figures, wording
from edgekit.report.calibrating import calibration_rows
from edgekit.values import Check, Outcome, ReportTable

_MARKS = {Outcome.PASS: "\N{WHITE HEAVY CHECK MARK}", Outcome.FAIL: "\N{CROSS MARK}"}
_OPEN_MARK = "\N{WARNING SIGN}\N{VARIATION SELECTOR-16}"
_PUNCTUATION = re.compile(r"([\\`*_\[\]<>#|~$])")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_.-]+")


def render(manifest: Manifest) -> str:
    """The report as Markdown, ending in a newline."""
    table = wording.report_of(manifest)
    parts = [
        f"### {_mark(table.verdict)} {table.verdict}: {escape(table.artifact_name)}",
        escape(wording.verdict_line(table)),
        escape(f"{wording.conditions(table)}; {wording.runs_made(table)}."),
        *_limits(table),
        _grid(("figure", "measured"), [_cells(row) for row in figures.figure_rows(table)]),
    ]
    if table.calibration is not None:
        warned = [("warning", line) for line in table.calibration.warnings]
        found = [*calibration_rows(table.calibration), *warned]
        parts.append(_grid(("calibrated on", ""), [_cells(row) for row in found]))
    if table.sensitivity:
        header = ("nodes quantized alone", "error of the outputs", "answers changed", "ms saved")
        parts.append(_grid(header, [_cells(row) for row in figures.sensitivity_rows(table)]))
    if table.notes:
        parts.append("\n".join(f"* {escape(note)}" for note in table.notes))
    parts.append(_fenced(wording.reproduce(manifest)))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """`text` on one line, shown as it is written."""
    flat = _UNPRINTABLE.sub(" ", text).replace("&", "&amp;")
    # a zero-width space, or a name such as "@team" would call people
    return _PUNCTUATION.sub(r"\\\1", flat).replace("@", "@\N{ZERO WIDTH SPACE}")


def _mark(outcome: Outcome) -> str:
    return _MARKS.get(outcome, _OPEN_MARK)


def _limits(table: ReportTable) -> Iterator[str]:
    if table.checks:
        header = ("limit on", "limit", "observed", "outcome", "reason")
        yield _grid(header, [_limit_row(check) for check in table.checks])


def _limit_row(check: Check) -> tuple[str, ...]:
    observed = wording.interval(check.observed)
    if check.observed is not None:
        observed = f"{observed} {check.unit}"
    outcome = f"{_mark(check.outcome)} {check.outcome}"
    if check.assumption:
        outcome += f", {escape(wording.assumes(check))}"
    key = f"`{check.key}`" if _PLAIN_WORD.fullmatch(check.key) else escape(check.key)
    return key, *_cells((wording.limit(check), observed)), outcome, escape(wording.grounds(check))


def _cells(row: Sequence[str]) -> tuple[str, ...]:
    return tuple(escape(cell) for cell in row)


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _fenced(command: str) -> str:
    """In a fence longer than any row of backticks inside."""
    longest = max((len(row) for row in re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{re.sub(_UNPRINTABLE, ' ', command)}\n{fence}"
