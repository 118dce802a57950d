"""The report for a terminal: one compact table and a line to quote. Plain text when piped.

With limits the table shows these; every other figure stands in the page. Without limits it shows the figures.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.files.manifests import Manifest
from edgekit.report import figures, wording
from edgekit.values import Outcome, ReportTable

if TYPE_CHECKING:
    from rich.table import Table

_COLOURS = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.NOT_MEASURED: "yellow",
}
_HEADER = ("limit on", "limit", "observed", "outcome", "reason")


def render(manifest: Manifest) -> str:
    """Coloured and wrapped when stdout is a terminal, plain and unwrapped otherwise."""
    table = wording.report_of(manifest)
    return _rich(table) if sys.stdout.isatty() else plain(table)


def plain(table: ReportTable) -> str:
    """The report without colours, one line for each limit."""
    parts = [f"{table.artifact_name}: {wording.conditions(table)}; {wording.runs_made(table)}"]
    if table.checks:
        parts.append(_columns([_HEADER, *_rows(table)]))
    else:
        parts.append(_columns(list(figures.figure_rows(table))))
    parts += [f"note: {note}" for note in table.notes]
    parts.append(wording.verdict_line(table))
    return "\n".join(parts)


def _rows(table: ReportTable) -> list[tuple[str, ...]]:
    return [
        (
            check.key,
            wording.limit(check),
            wording.interval(check.observed),
            str(check.outcome),
            wording.why(check),
        )
        for check in table.checks
    ]


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _rich(table: ReportTable) -> str:
    import io

    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, highlight=False)
    head = f"{table.artifact_name}: {wording.conditions(table)}; {wording.runs_made(table)}"
    console.print(Text(head, style="bold"))
    console.print(_rich_table(table))
    for check in table.checks:
        if check.outcome is not Outcome.PASS:
            console.print(Text(f"{check.key}: {wording.why(check)}"))
        elif check.assumption:
            console.print(Text(f"{check.key}: {check.outcome} * {wording.assumes(check)}"))
    for note in table.notes:
        console.print(Text(f"note: {note}", style="dim"))
    console.print(Text(wording.verdict_line(table), style=_COLOURS[table.verdict]))
    return out.getvalue().rstrip("\n")


def _rich_table(table: ReportTable) -> Table:
    """Without the reasons: they would make a narrow table long. They follow below it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    titles = _HEADER[:-1] if table.checks else ("figure", "measured")
    for title in titles:
        grid.add_column(title)
    if not table.checks:
        for figure in figures.figure_rows(table):
            grid.add_row(*(Text(cell) for cell in figure))
    for check, row in zip(table.checks, _rows(table), strict=True):
        cells = [Text(cell) for cell in row[:-1]]
        # a star leads to the assumption in the lines below
        cells[3] = Text(f"{check.outcome}{' *' if check.assumption else ''}", style=_COLOURS[check.outcome])
        grid.add_row(*cells)
    return grid
