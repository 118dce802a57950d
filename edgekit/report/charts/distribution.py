"""How the latencies are distributed. Every launch weighs the same, however many runs it made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from edgekit.report.charts.canvas import (
    BOTTOM,
    LEFT,
    RIGHT,
    TEXT_LINE,
    TOP,
    WIDTH,
    Scale,
    columns_axis,
    limit_columns,
    limits_of,
    rows_axis,
    span,
    svg,
)
from edgekit.values import Check, LaunchRecord

_PLOT = 180
_BINS = 40
_STEPS = 240
#: The share of runs drawn to scale; the rest is counted in the last bar.
_SHOWN = 0.995

#: latency in ms, weight, disturbed
_Run = tuple[float, float, bool]


def histogram_svg(launches: Sequence[LaunchRecord], limits: Sequence[Check]) -> str:
    """The share of runs by latency, disturbed runs stacked on top; limits as lines. "" without runs."""
    runs = _weighted(launches)
    if not runs:
        return ""
    lines = limits_of(limits)
    low, high = runs[0][0], _highest(runs)
    x, top = _columns(low, high, lines)
    width = max((high - low) / _BINS, 1e-9 * max(1.0, abs(high)))
    clean, disturbed = _counts(runs, low, width)
    tallest = max(a + b for a, b in zip(clean, disturbed, strict=True))
    y = Scale(0.0, tallest * 1.05, top + _PLOT, top)
    bars, crowns = [], []
    for number, (kept, marked) in enumerate(zip(clean, disturbed, strict=True)):
        left, right = x(low + number * width), x(low + (number + 1) * width)
        across = max(right - left - 0.6, 0.8)
        if kept:
            bars.append(f"M{left:g} {y(0):g}V{y(kept):g}h{across:.1f}V{y(0):g}z")
        if marked:
            crowns.append(f"M{left:g} {y(kept):g}V{y(kept + marked):g}h{across:.1f}V{y(kept):g}z")
    parts = [
        *rows_axis(y, " %", 100.0),
        f'<path class="shares" d="{"".join(bars)}"/>',
        f'<path class="shares-disturbed" d="{"".join(crowns)}"/>' if crowns else "",
        *columns_axis(x, top + _PLOT, "latency in ms"),
        *limit_columns(x, lines, top + _PLOT),
    ]
    return svg(top + _PLOT + BOTTOM, "share of runs by latency", parts)


def ecdf_svg(launches: Sequence[LaunchRecord], limits: Sequence[Check]) -> str:
    """The share of runs that take at most so long, with the band that disturbed runs leave open.

    The lower edge counts every disturbed run as slow, the upper one as quick. "" without runs.
    """
    runs = _weighted(launches)
    if not runs:
        return ""
    lines = limits_of(limits)
    x, top = _columns(runs[0][0], _highest(runs), lines)
    y = Scale(0.0, 1.0, top + _PLOT, top)
    doubt = sum(weight for _, weight, disturbed in runs if disturbed)
    curve, lower = _curve(runs)
    floor = _path(lower, x, y)
    ceiling = _path([(value, share + doubt) for value, share in lower], x, y)
    band = f'<path class="band" d="M{floor[0]}L{"L".join([*floor[1:], *reversed(ceiling)])}z"/>'
    parts = [
        *rows_axis(y, " %", 100.0),
        band if doubt else "",
        f'<path class="curve" d="M{"L".join(_path(curve, x, y))}"/>',
        *columns_axis(x, top + _PLOT, "latency in ms"),
        *limit_columns(x, lines, top + _PLOT),
        *_gates(lines, x, y),
    ]
    return svg(top + _PLOT + BOTTOM, "share of runs that take at most so long", parts)


def _weighted(launches: Sequence[LaunchRecord]) -> list[_Run]:
    """Every run with its weight, the quickest first; the weights add up to 1."""
    launches = [record for record in launches if record.latency_ms]
    return sorted(
        (value, 1.0 / (len(launches) * len(record.latency_ms)), disturbed)
        for record in launches
        for value, disturbed in zip(record.latency_ms, record.disturbed, strict=True)
    )


def _highest(runs: Sequence[_Run]) -> float:
    return runs[min(len(runs) - 1, math.ceil(_SHOWN * len(runs)))][0]


def _columns(low: float, high: float, lines: Sequence[tuple[str, float]]) -> tuple[Scale, float]:
    """The axis of latencies, and the height that the limits' labels take above the plot."""
    x = Scale(*span(low, high, [value for _, value in lines]), LEFT, WIDTH - RIGHT)
    return x, TOP + TEXT_LINE * len(lines)


def _counts(runs: Sequence[_Run], low: float, width: float) -> tuple[list[float], list[float]]:
    clean, disturbed = [0.0] * _BINS, [0.0] * _BINS
    for value, weight, marked in runs:
        number = min(int((value - low) / width), _BINS - 1)
        (disturbed if marked else clean)[number] += weight
    return clean, disturbed


def _curve(runs: Sequence[_Run]) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Points (latency, share) of the curve and of its lower edge, thinned to about `_STEPS`."""
    every = max(1, len(runs) // _STEPS)
    curve, lower = [(runs[0][0], 0.0)], [(runs[0][0], 0.0)]
    all_runs = clean = 0.0
    for number, (value, weight, disturbed) in enumerate(runs):
        all_runs += weight
        clean += 0.0 if disturbed else weight
        if number % every == 0 or number == len(runs) - 1:
            curve.append((value, all_runs))
            lower.append((value, clean))
    return curve, lower


def _path(points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> list[str]:
    return [f"{x(value):g} {y(share):g}" for value, share in points]


def _gates(lines: Sequence[tuple[str, float]], x: Scale, y: Scale) -> Iterator[str]:
    """A ring where each limit asks the curve to pass: at the limit, at its percentile."""
    for name, value in lines:
        percent = name.removeprefix("p")
        if percent.isdigit() and x.holds(value):
            yield f'<circle class="gate" cx="{x(value):g}" cy="{y(int(percent) / 100):g}" r="5"/>'
