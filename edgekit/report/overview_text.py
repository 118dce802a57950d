"""The overview in plain text for terminals and pipes, and in Markdown for a CI job's summary."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.report import wording
from edgekit.report.markdown import escape
from edgekit.report.overview import Contest, Group, Overview
from edgekit.report.overview_rows import Row, Score
from edgekit.values import Interval, Outcome

if TYPE_CHECKING:
    from rich.text import Text

_ANY_WIDTH = 10_000
_COLOURS = {Outcome.PASS: "green", Outcome.FAIL: "bold red"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table. field: of `Row`, by which its best is marked."""

    title: str
    unit: str
    field: str


#: The machine comes last, where a narrow window loses the least.
COLUMNS = (
    Column("artifact", "", "label"),
    Column("target", "", "target"),
    Column("backend", "", "backend"),
    Column("precision", "", "precision"),
    Column("verdict", "", "verdict"),
    Column("p50", "ms", "latency_p50_ms"),
    Column("p90", "ms", "latency_p90_ms"),
    Column("cold start", "ms", "cold_start_ms"),
    Column("memory", "MiB", "peak_memory_mib"),
    Column("size", "MiB", "artifact_mib"),
    Column("accuracy", "", "accuracy"),
    Column("accuracy drop", "points", "accuracy_drop"),
    Column("machine", "", "machine"),
)


def cells(row: Row) -> dict[str, str]:
    """What every format shows of a report, by the columns' fields; "-" where nothing was measured."""
    score = row.accuracy
    return {
        "label": row.label,
        "target": row.target if row.machine_is_target else f"{row.target} (not this machine)",
        "backend": row.backend,
        "precision": row.precision,
        "verdict": str(row.verdict),
        "latency_p50_ms": _estimate(row.latency_p50_ms),
        "latency_p90_ms": _estimate(row.latency_p90_ms),
        "cold_start_ms": _estimate(row.cold_start_ms),
        "peak_memory_mib": _estimate(row.peak_memory_mib),
        "artifact_mib": "-" if row.artifact_mib is None else wording.number(row.artifact_mib),
        "accuracy": "-" if score is None else score_text(score, score.artifact.estimate),
        "accuracy_drop": "-" if score is None else bounded(score.drop),
        "machine": row.machine,
    }


def is_number(column: Column) -> bool:
    """Whether its cells are numbers, to stand at the right."""
    return bool(column.unit) or column.field == "accuracy"


def score_text(score: Score, value: float) -> str:
    """A metric's value: a share in per cent, anything else as a number."""
    return f"{value:.2%}" if score.is_share else wording.number(value)


def bounded(found: Interval) -> str:
    """An estimate with the bounds that it has."""
    return wording.interval(found) if (found.low, found.high) != (None, None) else _estimate(found)


def front_line(contest: Contest, group: Group, percentile: str) -> str:
    """What is not beaten, in one sentence, or why there is nothing to say."""
    if len(contest.rows) == 1:
        return f"Nothing to compare {contest.rows[0]} with: no other one here has its {contest.yardstick}."
    verdicts = {row.label: row.verdict for row in group.rows}
    names = [
        label if verdicts[label] is Outcome.PASS else f"{label} ({verdicts[label]})"
        for label in contest.not_beaten
    ]
    return (
        f"Not beaten on latency {percentile}, size and accuracy at once ({contest.yardstick}): "
        f"{', '.join(names)}."
    )


def left_out_line(row: Row) -> str:
    """Why a report takes no part."""
    return f"Left out: {row.label}: {row.left_out}."


def notes(found: Overview) -> Iterator[str]:
    """What a reader must know to read the table rightly."""
    rows = list(found.rows())
    if any(row.best for row in rows) or any(
        len(each.rows) > 1 for group in found.groups for each in group.contests
    ):
        yield "Best and not beaten are by the estimates; where bounds overlap, the order is seen, not proven."
    if len(found.groups) > 1:
        yield (
            f"{len(found.groups)} groups: figures of different machines, workloads or threads "
            "are not compared."
        )
    confidences = sorted({row.confidence for row in rows})
    stated = " or ".join(f"{value * 100:.6g} %" for value in confidences)
    yield f"Bounds are one-sided, at {stated} confidence each."
    for row in rows:
        if row.generated is not None:
            yield f"{row.label} was timed on answers of {wording.generated(row.generated)}."
        if not row.verified:
            yield f"{row.path} was read without its manifest: a change since it was written cannot be seen."


def text(found: Overview) -> str:
    """Coloured and wrapped when stdout is a terminal, plain and unwrapped otherwise."""
    return _rich(found) if sys.stdout.isatty() else plain(found)


def plain(found: Overview) -> str:
    """One line for each report, without colours; the best of a column carries a star."""
    header = tuple(f"{column.title} {column.unit}".strip() for column in COLUMNS)
    tables = [[_starred(row) for row in group.rows] for group in found.groups]
    widths = [
        max(len(line[at]) for line in [header, *(line for table in tables for line in table)])
        for at in range(len(COLUMNS))
    ]
    parts = []
    for group, table in zip(found.groups, tables, strict=True):
        lines = [_aligned(line, widths) for line in (header, *table)]
        parts.append("\n".join([_clean(group.heading), *lines, *map(_clean, _below(group, found))]))
    return "\n\n".join([*parts, "\n".join(map(_clean, _remarks(found)))])


def markdown(found: Overview) -> str:
    """A section for each group; the best of a column is bold."""
    parts = ["## edgekit overview"]
    for group in found.groups:
        titles = [f"{column.title} ({column.unit})" if column.unit else column.title for column in COLUMNS]
        rule = ["---:" if is_number(column) else "---" for column in COLUMNS]
        lines = [_piped(titles), _piped(rule), *(_piped(_marked_up(row)) for row in group.rows)]
        parts += [f"### {escape(group.heading)}", "\n".join(lines)]
        parts += [escape(line) for line in _below(group, found)]
    parts.append("\n".join(f"* {escape(line)}" for line in notes(found)))
    return "\n\n".join(parts)


def _below(group: Group, found: Overview) -> Iterator[str]:
    for contest in group.contests:
        yield front_line(contest, group, found.percentile)
    for row in group.rows:
        if row.left_out:
            yield left_out_line(row)


def _remarks(found: Overview) -> Iterator[str]:
    if any(row.best for row in found.rows()):
        yield "* best of its group in that column."
    yield from notes(found)


def _estimate(found: Interval | None) -> str:
    return "-" if found is None else wording.number(found.estimate)


def _starred(row: Row) -> tuple[str, ...]:
    shown = cells(row)
    return tuple(
        _clean(shown[column.field]) + ("*" if column.field in row.best else "") for column in COLUMNS
    )


def _marked_up(row: Row) -> Iterator[str]:
    shown = cells(row)
    for column in COLUMNS:
        cell = escape(shown[column.field])
        if column.field == "verdict":
            cell = f"{wording.SIGNS[row.verdict]} {cell}"
        yield f"**{cell}**" if column.field in row.best else cell


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
    return "  ".join(padded).rstrip()


def _piped(line: Sequence[str] | Iterator[str]) -> str:
    return f"| {' | '.join(line)} |"


def _clean(words: str) -> str:
    """A name may hold anything; a line stays a line, and a terminal is not told what to do."""
    return "".join(char if char.isprintable() else "?" for char in words)


def _rich(found: Overview) -> str:
    """Without the machine's column: the heading says it. In a window too narrow for a table, as lists."""
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, highlight=False)
    for group in found.groups:
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in COLUMNS[:-1]:
            grid.add_column(f"{column.title} {column.unit}".strip())
        for row in group.rows:
            grid.add_row(*_coloured(row))
        console.print(Text(_clean(group.heading), style="bold"))
        if console.measure(grid, options=console.options.update(width=_ANY_WIDTH)).maximum <= console.width:
            console.print(grid)
        else:
            for row in group.rows:
                console.print(_listed(row))
            console.print()
        for line in _below(group, found):
            console.print(Text(_clean(line)))
        console.print()
    for line in _remarks(found):
        console.print(Text(_clean(line), style="dim"))
    return out.getvalue().rstrip("\n")


def _listed(row: Row) -> Text:
    from rich.text import Text

    whose, figures = COLUMNS[1:4], COLUMNS[5:-1]
    shown = dict(zip((column.field for column in COLUMNS), _coloured(row), strict=False))
    told = (
        Text.assemble(f"{column.title} ", shown[column.field], f" {column.unit}" if column.unit else "")
        for column in figures
    )
    about = Text(", ").join(shown[column.field] for column in whose)
    return Text.assemble(
        "\n", shown["label"], " (", about, ") ", shown["verdict"], "\n  ", Text(", ").join(told)
    )


def _coloured(row: Row) -> list[Text]:
    from rich.text import Text

    styles = {"verdict": _COLOURS.get(row.verdict, "yellow")}
    shown = zip(COLUMNS[:-1], _starred(row), strict=False)
    return [
        Text(cell, style="bold" if column.field in row.best else styles.get(column.field, ""))
        for column, cell in shown
    ]
