"""The page's drawings as inline SVG. Numbers only: no text of the report's enters a drawing unescaped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.report import wording
from edgekit.values import Check, LaunchRecord

_WIDTH, _BAR_HEIGHT, _PLOT_HEIGHT = 640, 46, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 30
_MOST_DOTS = 6000


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values to pixels, straight."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def interval_svg(check: Check) -> str:
    """The measured interval against the limit; "" when nothing was measured or limited."""
    found, limit = check.observed, check.limit
    if found is None or limit is None:
        return ""
    known = [value for value in (found.estimate, found.low, found.high, limit) if value is not None]
    spread = (max(known) - min(known)) or abs(limit) or 1.0
    x = _Scale(min(known) - 0.25 * spread, max(known) + 0.25 * spread, 8, _WIDTH - 8)
    left = x(found.low) if found.low is not None else 0
    right = x(found.high) if found.high is not None else _WIDTH
    allowed = (x(limit), _WIDTH) if wording.is_floor(check.key) else (0, x(limit))
    at, middle = x(limit), x(found.estimate)
    text = f"{check.key}: {wording.interval(found)} against {wording.limit(check)}"
    parts = [
        f'<rect class="allowed" x="{allowed[0]}" y="4" width="{allowed[1] - allowed[0]}" height="22"/>',
        f'<rect class="interval" x="{left}" y="10" width="{max(2, right - left)}" height="10" rx="2"/>',
        _open_end(0, 1) if found.low is None else "",
        _open_end(_WIDTH, -1) if found.high is None else "",
        f'<circle class="estimate" cx="{middle}" cy="15" r="4.5"/>',
        f'<line class="limit" x1="{at}" x2="{at}" y1="0" y2="30"/>',
        f'<text x="{at}" y="42" text-anchor="{_anchor(at)}">limit {wording.number(limit)}</text>',
    ]
    if abs(middle - at) > 150:
        parts.append(
            f'<text x="{middle}" y="42" text-anchor="{_anchor(middle)}">'
            f"{wording.number(found.estimate)}</text>"
        )
    return _svg(_BAR_HEIGHT, text, parts)


def _open_end(at: float, towards: int) -> str:
    """An arrow head: the interval has no end on this side."""
    return f'<path class="endless" d="M{at + towards * 9} 8L{at + towards * 2} 15L{at + towards * 9} 22"/>'


def _anchor(at: float) -> str:
    return "start" if at < 60 else "end" if at > _WIDTH - 60 else "middle"


def launches_svg(launches: Sequence[LaunchRecord], limits: Sequence[Check]) -> str:
    """Every run's latency by launch, in the order measured; disturbed runs as crosses, limits as lines."""
    launches = [record for record in launches if record.latency_ms]
    if not launches:
        return ""
    values = sorted(value for record in launches for value in record.latency_ms)
    lines = [check.limit for check in limits if check.limit is not None]
    high = max(values[min(len(values) - 1, math.ceil(0.995 * len(values)))] * 1.08, *lines, 1e-9)
    low = min(values[0], *lines, high * 0.98)
    y = _Scale(low - 0.06 * (high - low), high, _PLOT_HEIGHT - _BOTTOM, _TOP)
    width = (_WIDTH - _LEFT - _RIGHT) / len(launches)
    clean, disturbed = _dots(launches, y, width)
    parts = [
        *_axis(y),
        *_launch_axis(len(launches), width),
        *(_limit_line(check, y) for check in limits if check.limit is not None),
        f'<path class="runs" d="{clean}"/>',
        f'<path class="disturbed" d="{disturbed}"/>',
        *_medians(launches, y, width),
    ]
    return _svg(_PLOT_HEIGHT, "latency of every run by launch", parts)


def _dots(launches: Sequence[LaunchRecord], y: _Scale, width: float) -> tuple[str, str]:
    step = max(1, math.ceil(sum(len(record.latency_ms) for record in launches) / _MOST_DOTS))
    clean, disturbed = [], []
    for number, record in enumerate(launches):
        count = len(record.latency_ms)
        for index in range(number % step, count, step):
            x = round(_LEFT + (number + 0.1 + 0.8 * (index + 0.5) / count) * width, 1)
            at = y(record.latency_ms[index])
            if record.disturbed[index]:
                disturbed.append(f"M{x - 2:g} {at - 2:g}l4 4m0-4l-4 4")
            else:
                clean.append(f"M{x:g} {at:g}h0")
    return "".join(clean), "".join(disturbed)


def _medians(launches: Sequence[LaunchRecord], y: _Scale, width: float) -> Iterator[str]:
    for number, record in enumerate(launches):
        start, at = _LEFT + number * width, y(sorted(record.latency_ms)[len(record.latency_ms) // 2])
        yield (
            f'<line class="median" x1="{start + 0.05 * width:.1f}" x2="{start + 0.95 * width:.1f}" '
            f'y1="{at}" y2="{at}"/>'
        )


def _limit_line(check: Check, y: _Scale) -> str:
    limit = check.limit or 0.0
    label = check.key.removeprefix("latency_").removesuffix("_ms")
    at = y(limit)
    return (
        f'<line class="limit" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>'
        f'<text x="{_WIDTH - _RIGHT}" y="{at - 4}" text-anchor="end">'
        f"{label} limit {wording.number(limit)}</text>"
    )


def _axis(y: _Scale) -> Iterator[str]:
    for value in _ticks(y.low, y.high):
        at = y(value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>'
        yield f'<text x="{_LEFT - 6}" y="{at + 4}" text-anchor="end">{wording.number(value)}</text>'
    yield f'<text x="2" y="{_TOP}">ms</text>'


def _launch_axis(count: int, width: float) -> Iterator[str]:
    every = max(1, math.ceil(count / 12))
    for number in range(0, count, every):
        x = _LEFT + (number + 0.5) * width
        yield f'<text x="{x:.1f}" y="{_PLOT_HEIGHT - 14}" text-anchor="middle">{number + 1}</text>'
    yield f'<text x="{_WIDTH / 2}" y="{_PLOT_HEIGHT - 1}" text-anchor="middle">launch</text>'


def _ticks(low: float, high: float) -> Iterator[float]:
    """About five round values between the ends."""
    raw = (high - low) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step)
    yield from (number * step for number in range(first, math.floor(high / step) + 1))


def _svg(height: int, label: str, parts: Sequence[str]) -> str:
    body = "".join(parts)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img"><title>{_escape(label)}</title>{body}</svg>'


def _escape(text: str) -> str:
    import html

    return html.escape(text)
