"""What the drawings share: scales, axes, limit labels, the frame. Lengths are in the units of the view box.

Text is 12 units high, and 21 where the page is narrow (see the page's style): room is left for both.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.report import wording
from edgekit.values import Check

WIDTH = 640
LEFT, RIGHT, TOP = 74, 12, 14
#: Below a plot: the tick labels, then the axis' name.
BOTTOM = 48
#: The height of a line of text where the page is narrow.
TEXT_LINE = 23
#: A limit so far off that the measured values would take less of the axis than this is only named.
_LEAST_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to positions, straight. Values beyond the ends are drawn at the ends."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def span(low: float, high: float, limits: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis for values in [low, high], and for the limits that are not too far off."""
    if high - low < 1e-6 * max(abs(low), abs(high), 1e-6):
        slack = max(0.05 * abs(high), 1e-6)
        low, high = low - slack, high + slack
    reach = (high - low) / _LEAST_SHARE
    near = [limit for limit in limits if high - limit <= reach and limit - low <= reach]
    low, high = min(low, *near, high), max(high, *near, low)
    edge = 0.05 * (high - low)
    return low - edge, high + edge


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values between the ends, about `most` of them."""
    raw = (high - low) / most
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def percentile_of(check: Check) -> str:
    """The short name of a latency limit: "p90"."""
    return check.key.removeprefix("latency_").removesuffix("_ms")


def limits_of(checks: Sequence[Check]) -> list[tuple[str, float]]:
    """(short name, limit) of the checks that have one, the lowest first."""
    found = [(percentile_of(check), check.limit) for check in checks if check.limit is not None]
    return sorted(found, key=lambda item: item[1])


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{html.escape(words)}</text>'


def line(kind: str, x: tuple[float, float], y: tuple[float, float]) -> str:
    return f'<line class="{kind}" x1="{x[0]:g}" x2="{x[1]:g}" y1="{y[0]:g}" y2="{y[1]:g}"/>'


def rows_axis(y: Scale, unit: str, factor: float = 1.0) -> Iterator[str]:
    """Horizontal grid lines with their values, times `factor`, at the left."""
    for value in ticks(y.low, y.high):
        at = y(value)
        yield line("grid", (LEFT, WIDTH - RIGHT), (at, at))
        yield text(LEFT - 6, at + 4, f"{wording.number(value * factor)}{unit}", "end")


def columns_axis(x: Scale, bottom: float, name: str) -> Iterator[str]:
    """Values below the plot, whose lower edge is at `bottom`, and the axis' name under them."""
    yield line("grid", (LEFT, WIDTH - RIGHT), (bottom, bottom))
    for value in ticks(x.low, x.high, 6):
        yield line("grid", (x(value), x(value)), (bottom, bottom + 4))
        yield text(x(value), bottom + 20, wording.number(value), "middle")
    yield text((LEFT + WIDTH - RIGHT) / 2, bottom + 42, name, "middle")


def limit_columns(x: Scale, limits: Sequence[tuple[str, float]], bottom: float) -> Iterator[str]:
    """Upright limit lines, each with its label on a line of its own above the plot.

    A label runs towards the middle, and the lines that it would cross there begin below it.
    """
    middle = (x.low + x.high) / 2
    ordered = [item for item in limits if item[1] <= middle]
    ordered += [item for item in reversed(limits) if item[1] > middle]
    labels = []
    for row, (name, value) in enumerate(ordered):
        height = TOP + 4 + row * TEXT_LINE
        words = f"{name} limit {wording.number(value)} ms"
        if x.holds(value):
            at = x(value)
            yield line("limit", (at, at), (height - 10, bottom))
            right = value > middle
            labels.append(text(at - 5 if right else at + 5, height, words, "end" if right else "start"))
        elif value > x.high:
            labels.append(text(WIDTH - RIGHT, height, f"{words} \N{RIGHTWARDS ARROW}", "end"))
        else:
            labels.append(text(LEFT, height, f"\N{LEFTWARDS ARROW} {words}"))
    yield from labels


def svg(height: float, label: str, parts: Sequence[str]) -> str:
    body = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img"><title>{html.escape(label)}</title>{body}</svg>'
