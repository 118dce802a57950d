"""Every run's latency, launch by launch in the order measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from edgekit.report import wording
from edgekit.report.charts.canvas import (
    BOTTOM,
    LEFT,
    RIGHT,
    TEXT_LINE,
    TOP,
    WIDTH,
    Scale,
    limits_of,
    line,
    rows_axis,
    span,
    svg,
    text,
)
from edgekit.values import Check, LaunchRecord

_PLOT = 230
_MOST_DOTS = 6000
#: The share of runs drawn to scale; the rest lies at the upper edge.
_SHOWN = 0.995


def launches_svg(launches: Sequence[LaunchRecord], limits: Sequence[Check]) -> str:
    """Every run's latency by launch; disturbed runs as crosses, limits as lines."""
    launches = [record for record in launches if record.latency_ms]
    if not launches:
        return ""
    values = sorted(value for record in launches for value in record.latency_ms)
    lines = limits_of(limits)
    high = values[min(len(values) - 1, math.ceil(_SHOWN * len(values)))]
    far = TEXT_LINE + 4
    y = Scale(*span(values[0], high, [value for _, value in lines]), far + _PLOT, far)
    width = slot_width(len(launches))
    clean, disturbed = _dots(launches, y, width)
    parts = [
        _busy(launches, width, (far, far + _PLOT)),
        *rows_axis(y, ""),
        *launch_axis(len(launches), far + _PLOT),
        f'<path class="runs" d="{clean}"/>',
        f'<path class="disturbed" d="{disturbed}"/>',
        f'<path class="median" d="{_medians(launches, y, width)}"/>',
        *_limit_rows(lines, y),
        text(2, TOP, "ms"),
    ]
    return svg(far + _PLOT + BOTTOM, "latency of every run by launch", parts)


def slot_width(count: int) -> float:
    """The width of one launch."""
    return (WIDTH - LEFT - RIGHT) / count


def launch_axis(count: int, bottom: float) -> Iterator[str]:
    """Launch numbers below a plot whose lower edge is at `bottom`."""
    every = max(1, math.ceil(count / 10))
    for number in range(0, count, every):
        yield text(LEFT + (number + 0.5) * slot_width(count), bottom + 20, str(number + 1), "middle")
    yield text((LEFT + WIDTH - RIGHT) / 2, bottom + 42, "launch", "middle")


def _dots(launches: Sequence[LaunchRecord], y: Scale, width: float) -> tuple[str, str]:
    step = max(1, math.ceil(sum(len(record.latency_ms) for record in launches) / _MOST_DOTS))
    clean, disturbed = [], []
    for number, record in enumerate(launches):
        count = len(record.latency_ms)
        for index in range(number % step, count, step):
            x = round(LEFT + (number + 0.1 + 0.8 * (index + 0.5) / count) * width, 1)
            at = y(record.latency_ms[index])
            if record.disturbed[index]:
                disturbed.append(f"M{x - 2:g} {at - 2:g}l4 4m0-4l-4 4")
            else:
                clean.append(f"M{x:g} {at:g}h0")
    return "".join(clean), "".join(disturbed)


def _medians(launches: Sequence[LaunchRecord], y: Scale, width: float) -> str:
    marks = []
    for number, record in enumerate(launches):
        at = y(sorted(record.latency_ms)[len(record.latency_ms) // 2])
        marks.append(f"M{LEFT + (number + 0.05) * width:.1f} {at:g}h{0.9 * width:.1f}")
    return "".join(marks)


def _busy(launches: Sequence[LaunchRecord], width: float, ends: tuple[float, float]) -> str:
    """A tint behind the launches of which most runs were disturbed."""
    marks = [
        f"M{LEFT + number * width:.1f} {ends[0]:g}h{width:.1f}V{ends[1]:g}h-{width:.1f}z"
        for number, record in enumerate(launches)
        if 2 * sum(record.disturbed) > len(record.disturbed)
    ]
    return f'<path class="busy" d="{"".join(marks)}"/>' if marks else ""


def _limit_rows(limits: Sequence[tuple[str, float]], y: Scale) -> Iterator[str]:
    """Lines with labels above them; limits beyond the scale are named over the plot."""
    beyond = [f"{name} limit {wording.number(value)}" for name, value in limits if not y.holds(value)]
    if beyond:
        above = all(value > y.high for _, value in limits if not y.holds(value))
        where = "above" if above else "beyond the scale"
        yield text(WIDTH - RIGHT, TOP, f"{where}: {', '.join(beyond)}", "end")
    shown = [(name, value) for name, value in limits if y.holds(value)]
    for _, value in shown:
        yield line("limit", (LEFT, WIDTH - RIGHT), (y(value), y(value)))
    lowest = y.start + TEXT_LINE
    for name, value in shown:
        # limits that nearly meet would write their labels over each other
        lowest = min(y(value) - 5, lowest - TEXT_LINE)
        yield text(WIDTH - RIGHT, lowest, f"{name} limit {wording.number(value)}", "end")
