"""A diff as text for a terminal and as markdown for a pull request; the same words in both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from edgekit.report.wording import interval, machine_name, number
from edgekit.values import (
    Change,
    Check,
    DiffFigure,
    DiffMethod,
    DiffSide,
    DiffTable,
    Interval,
    Outcome,
    PlacementChange,
)

_TITLES = {
    "latency_p50": "latency p50",
    "latency_p90": "latency p90",
    "cold_start": "cold start",
    "peak_memory": "memory, peak",
    "size": "size",
    "accuracy": "accuracy",
}
_HEADER = ("", "OLD", "NEW", "NEW/OLD", "NEW is")
_GATE_HEADER = ("gate", "limit", "observed", "outcome", "reason")
_PLACE_HEADER = ("executed", "OLD nodes", "NEW nodes", "OLD time", "NEW time")
_SETTING_HEADER = ("changed", "OLD", "NEW")
_GATES = {
    "slower": "not slower",
    "less-accurate": "not less accurate",
    "bigger": "not bigger",
    "fallback": "no more fallback",
}
#: From here on "times as fast" reads better than a percentage.
_TIMES = 1.5


def plain(table: DiffTable) -> str:
    """The diff for a terminal, one line for each figure."""
    parts = [f"OLD  {_side(table.old)}", f"NEW  {_side(table.new)}", _conditions(table), ""]
    parts.append(_columns([_HEADER, *map(_figure_row, table.figures)]))
    for header, rows in _sections(table):
        parts += ["", _columns([header, *rows])]
    parts.append("")
    parts += _remarks(table)
    return "\n".join([*parts, *sentences(table)])


def markdown(table: DiffTable) -> str:
    """The diff for a pull request or a job summary."""
    first, *others = sentences(table)
    parts = [f"### edgekit diff: {_escaped(first)}", ""]
    parts += [f"* OLD: {_escaped(_side(table.old))}", f"* NEW: {_escaped(_side(table.new))}"]
    parts += [f"* {_escaped(_conditions(table))}", ""]
    parts.append(_grid(_HEADER, list(map(_figure_row, table.figures))))
    for header, rows in _sections(table):
        parts += ["", _grid(header, rows)]
    said = [*_remarks(table), *others]
    return "\n".join([*parts, "", *(f"* {_escaped(line)}" for line in said)]).rstrip() + "\n"


def _sections(table: DiffTable) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    if table.settings:
        yield _SETTING_HEADER, [(one.key, one.old or "-", one.new or "-") for one in table.settings]
    if table.placement:
        yield _PLACE_HEADER, [_place_row(row) for row in table.placement]
    if table.gates:
        yield _GATE_HEADER, [_gate_row(gate) for gate in table.gates]


def _side(side: DiffSide) -> str:
    engines = ", ".join(f"{name} {version}" for name, version in side.engine_versions.items())
    backend = f"{side.backend} {side.backend_version}".strip()
    inside = f"{backend}, {side.precision}" + (f"; {engines}" if engines else "")
    return f"{side.path} ({side.kind}: {inside})"


def _conditions(table: DiffTable) -> str:
    if table.threads is None:
        return "nothing was timed"
    marked = sum(pair.disturbed for pair in table.pairs)
    count = "1 pair" if len(table.pairs) == 1 else f"{len(table.pairs)} pairs"
    pairs = f"{count} of launches, {marked} disturbed" if table.pairs else "two reports"
    threads = "1 thread" if table.threads == 1 else f"{table.threads} threads"
    shapes = " or ".join(
        ", ".join(f"{axis} {size}" for axis, size in shape.items()) for shape in table.workload
    )
    where = f" on {machine_name(table.machine)}" if table.machine is not None else ""
    parts = [pairs, threads, shapes, f"{_percent(table.confidence)} confidence for each bound"]
    return ", ".join(part for part in parts if part) + where


def _figure_row(figure: DiffFigure) -> tuple[str, ...]:
    title = f"{_TITLES.get(figure.key, figure.key)}, {_unit(figure)}"
    old, new = ("-" if value is None else _value(figure, value) for value in (figure.old, figure.new))
    return title, old, new, _measure(figure), _word(figure)


def _unit(figure: DiffFigure) -> str:
    return "%" if figure.key == "accuracy" else figure.unit


def _value(figure: DiffFigure, value: float) -> str:
    return f"{value:.2f}" if figure.key == "accuracy" else number(value)


def _measure(figure: DiffFigure) -> str:
    if figure.difference is not None:
        return f"drop {_points(figure.difference)} points"
    if figure.ratio is None:
        return "-"
    return interval_of_ratio(figure.ratio)


def interval_of_ratio(found: Interval) -> str:
    """Three digits at least: "0.34 (0.33 to 0.36)", "0.998 (0.991 to 1.004)"."""
    low, high = (None if bound is None else _ratio(bound) for bound in (found.low, found.high))
    estimate = _ratio(found.estimate)
    if found.low is not None and found.low == found.high == found.estimate:
        return estimate
    if low is None and high is None:
        return f"{estimate} (no bound yet)"
    return f"{estimate} ({low or '?'} to {high or '?'})"


def _ratio(value: float) -> str:
    return f"{value:.3f}" if 0.1 <= value < 10 else f"{value:.3g}"


def _points(found: Interval) -> str:
    low, high = ("?" if bound is None else f"{bound:.2f}" for bound in (found.low, found.high))
    return f"{found.estimate:.2f} ({low} to {high})"


def _word(figure: DiffFigure) -> str:
    word = same_within(figure) if figure.change is Change.SAME else str(figure.change)
    marks = {DiffMethod.STORED: "not paired", DiffMethod.INDIRECT: "indirect"}
    marked = figure.method in marks and figure.change is not Change.NOT_MEASURED
    return f"{word} ({marks[figure.method]})" if marked else word


def same_within(figure: DiffFigure) -> str:
    """ "the same within 2.4 %": the farther bound of the ratio, rounded up."""
    ratio = figure.ratio
    if ratio is None or ratio.low is None or ratio.high is None or ratio.low == ratio.high:
        return "the same"
    farthest = max(1.0 - ratio.low, ratio.high - 1.0)
    return f"the same within {_up(100.0 * farthest)} %"


def _up(percent: float) -> str:
    return f"{math.ceil(percent * 10 - 1e-9) / 10:g}"


def _percent(share: float) -> str:
    return f"{100 * share:.6g} %"


def _place_row(row: PlacementChange) -> tuple[str, ...]:
    times = ("-" if share is None else f"{share:.0%}" for share in (row.old_time, row.new_time))
    return f"{row.precision} on {row.device}", str(row.old_nodes), str(row.new_nodes), *times


def _gate_row(gate: Check) -> tuple[str, ...]:
    limit = "-" if gate.limit is None else f"<= {gate.limit:.4g} {gate.unit}"
    if gate.observed is None:
        observed = "-"
    else:
        shown = {"x": interval_of_ratio, "points": _points}.get(gate.unit, interval)
        observed = shown(gate.observed)
    return _GATES[gate.key], limit, observed, str(gate.outcome), gate.reason or "-"


def _remarks(table: DiffTable) -> list[str]:
    """Why figures were not measured, each reason once; what there is to say of accuracy; the notes."""
    unmeasured: dict[str, list[str]] = {}
    lines = []
    for figure in table.figures:
        title = _TITLES.get(figure.key, figure.key)
        if figure.change is Change.NOT_MEASURED:
            unmeasured.setdefault(figure.reason, []).append(title)
        elif figure.key == "accuracy" and figure.reason:
            lines.append(f"{title}: {figure.reason}")
    lines += [f"not measured: {', '.join(titles)}: {reason}" for reason, titles in unmeasured.items()]
    return [*lines, *(f"note: {note}" for note in table.notes)]


def sentences(table: DiffTable) -> list[str]:
    """What a person quotes: the latency, then the gates as one word."""
    lines = [_latency(next(figure for figure in table.figures if figure.key == "latency_p50"), table)]
    if table.gates:
        outcomes = {gate.outcome for gate in table.gates}
        order = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.NOT_MEASURED, Outcome.PASS)
        worst = next(outcome for outcome in order if outcome in outcomes)
        told = ", ".join(f"{_GATES[gate.key]} {gate.outcome}" for gate in table.gates)
        lines.append(f"{worst}: {told}")
    return lines


def _latency(figure: DiffFigure, table: DiffTable) -> str:
    if figure.ratio is None:
        return "The speed of the two was not compared."
    told = f"ratio {interval_of_ratio(figure.ratio)} at {_percent(table.confidence)} confidence"
    if figure.method is DiffMethod.STORED:
        told += ", from stored samples, not paired"
    estimate = figure.ratio.estimate
    if figure.change is Change.FASTER:
        how = (
            f"{1 / estimate:.2g} times as fast" if estimate * _TIMES < 1 else f"{_share(figure.ratio)} faster"
        )
        return f"NEW is {how}: {told}."
    if figure.change is Change.SLOWER:
        if estimate > _TIMES:
            return f"NEW takes {estimate:.2g} times as long: {told}."
        return f"NEW is {_share(figure.ratio)} slower: {told}."
    if figure.change is Change.SAME:
        return f"NEW is as fast as OLD within {same_within(figure).rsplit('within ', 1)[-1]}: {told}."
    why = f" ({figure.reason})" if figure.reason else ""
    return f"No difference in speed is proven: {told}{why}."


def _share(ratio: Interval) -> str:
    """ "5.2 % (4.0 % to 6.1 %)": how far from 1, whichever side."""
    away = [abs(100.0 * (1.0 - bound)) for bound in (ratio.low, ratio.high) if bound is not None]
    spread = " to ".join(f"{value:.1f} %" for value in sorted(away))
    estimate = f"{abs(100.0 * (1.0 - ratio.estimate)):.1f} %"
    return f"{estimate} ({spread})" if len(away) > 1 else estimate


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _grid(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
