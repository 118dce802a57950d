"""The overview's plot as inline SVG: latency (log) against accuracy, size as area, better to the upper left.

Drawn for a given width in pixels, so that a phone gets its own drawing with readable words.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgekit.report import wording
from edgekit.report.charts.canvas import Scale, line, text, ticks
from edgekit.report.overview import Percentile, latency, point
from edgekit.report.overview_rows import Row, Score
from edgekit.report.overview_text import score_text
from edgekit.values import Interval, Outcome

#: So many shapes, and as many colours; of more backends no two have the same of both, up to the square.
MARKS = 6
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 14, 40
_LETTER, _LINE = 6.6, 14.0
_SMALLEST, _MOST_LABELS = 4.0, 14
#: Of a label's area; what would be covered more than this is left to the table and the tooltip.
_MOST_COVERED = 0.5
#: What the next place of a label costs, in covered area: a label belongs to the nearest point.
_FARTHER = 8.0
#: From left and top to right and bottom, in pixels.
_Line = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class _LogScale:
    """Values to positions by their logarithm."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        shown = min(max(value, self.low), self.high)  # a bound may be 0, which has no logarithm
        return Scale(math.log(self.low), math.log(self.high), self.start, self.end)(math.log(shown))


@dataclass(frozen=True, slots=True)
class _Bubble:
    """A report where it is drawn."""

    row: Row
    score: Score
    latency: Interval
    x: float
    y: float
    radius: float
    mark: int


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: _Box) -> float:
        """The area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, high)


def pareto_svg(rows: Sequence[Row], percentile: Percentile, marks: Mapping[str, int], width: int) -> str:
    """The reports of one contest. marks: the number of each backend's shape; "" when there is no point.

    The line is the best accuracy that any of them reaches within each latency; a ring marks what is not
    beaten on latency, size and accuracy at once, which may lie below the line for being small.
    """
    height = round(min(0.85 * width, 400) + 40)
    known = [row for row in rows if point(row, percentile) is not None]
    if not known:
        return ""
    x, y = _axes(known, percentile, width, height)
    largest = max(row.artifact_mib or 0.0 for row in known)
    most = 7.0 + width / 60
    bubbles = [
        _Bubble(
            row=row,
            score=score,
            latency=found,
            x=x(found.estimate),
            y=y(score.artifact.estimate),
            radius=max(_SMALLEST, round(most * math.sqrt((row.artifact_mib or 0.0) / largest), 1)),
            mark=marks[row.backend],
        )
        for row in known
        if (score := row.accuracy) is not None and (found := latency(row, percentile)) is not None
    ]
    bubbles.sort(key=lambda bubble: -bubble.radius)
    front = _front(bubbles, width, height)
    whiskers = [line for bubble in bubbles for line in _whiskers(bubble, x, y)]
    parts = [
        *_latency_axis(x, percentile, width, height),
        *_score_axis(y, bubbles[0].score, width),
        _path("front", front),
        _path("whisker", whiskers),
        *(_drawn(bubble, percentile) for bubble in bubbles),
        *_labels(bubbles, [*front, *whiskers], width, height),
    ]
    title = f"latency {percentile} against {bubbles[0].score.metric}"
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img"><title>{html.escape(title)}</title>'
        f"{''.join(parts)}</svg>"
    )


def mark_svg(mark: int, tone: str) -> str:
    """A shape for the legend."""
    return f'<svg class="key" viewBox="0 0 18 18" aria-hidden="true">{_shape(mark, 9, 9, 6, tone)}</svg>'


def tone(outcome: Outcome) -> str:
    """How a verdict is drawn: full, crossed out, or hollow and dashed."""
    return {Outcome.PASS: "full", Outcome.FAIL: "crossed"}.get(outcome, "dashed")


def _axes(rows: Sequence[Row], percentile: Percentile, width: int, height: int) -> tuple[_LogScale, Scale]:
    latencies = [value for row in rows for value in _ends(latency(row, percentile)) if value > 0]
    scores = [value for row in rows if row.accuracy is not None for value in _ends(row.accuracy.artifact)]
    factor = max(1.12, (max(latencies) / min(latencies)) ** 0.09)
    spread = (max(scores) - min(scores)) or 0.01 * abs(max(scores)) or 1.0
    ends = height - _BOTTOM, _TOP
    is_up = next(row.accuracy.higher_is_better for row in rows if row.accuracy is not None)
    bottom, top = ends if is_up else ends[::-1]
    return (
        _LogScale(min(latencies) / factor, max(latencies) * factor, _LEFT, width - _RIGHT),
        Scale(min(scores) - 0.12 * spread, max(scores) + 0.12 * spread, bottom, top),
    )


def _ends(found: Interval | None) -> Iterator[float]:
    if found is not None:
        yield from (value for value in (found.estimate, found.low, found.high) if value is not None)


def _latency_axis(x: _LogScale, percentile: Percentile, width: int, height: int) -> Iterator[str]:
    bottom, before = height - _BOTTOM, -math.inf
    for value in _log_ticks(x.low, x.high):
        at = x(value)
        yield line("grid", (at, at), (_TOP, bottom))
        if at - before > 34:
            yield text(at, bottom + 16, wording.number(value), "middle")
            before = at
    yield text((_LEFT + width - _RIGHT) / 2, height - 6, f"latency {percentile}, ms (log)", "middle")


def _score_axis(y: Scale, score: Score, width: int) -> Iterator[str]:
    for value in ticks(y.low, y.high):
        yield line("grid", (_LEFT, width - _RIGHT), (y(value), y(value)))
        yield text(_LEFT - 6, y(value) + 4, score_text(score, value), "end")


def _log_ticks(low: float, high: float) -> list[float]:
    """Round values, as coarse as leaves at least four of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        found = [step * 10.0**power for power in powers for step in steps]
        found = [value for value in found if low <= value <= high]
        if len(found) >= 4:
            return found
    return ticks(low, high)


def _front(bubbles: Sequence[_Bubble], width: int, height: int) -> list[_Line]:
    """Steps: from each new best accuracy to the right until the next."""
    steps: list[_Line] = []
    at, best = 0.0, float(height - _BOTTOM)
    for bubble in sorted(bubbles, key=lambda bubble: (bubble.x, bubble.y)):
        if not steps or bubble.y < best:
            steps += [(at, best, bubble.x, best)] if steps else []
            steps.append((bubble.x, bubble.y, bubble.x, best))
            at, best = bubble.x, bubble.y
    return [*steps, (at, best, float(width - _RIGHT), best)]


def _whiskers(bubble: _Bubble, x: _LogScale, y: Scale) -> Iterator[_Line]:
    across, along = (
        [axis(value) for value in _ends(found)]
        for found, axis in ((bubble.latency, x), (bubble.score.artifact, y))
    )
    yield min(across), bubble.y, max(across), bubble.y
    yield bubble.x, min(along), bubble.x, max(along)


def _path(kind: str, lines: Sequence[_Line]) -> str:
    drawn = "".join(f"M{x1:g} {y1:g}L{x2:g} {y2:g}" for x1, y1, x2, y2 in lines)
    return f'<path class="{kind}" d="{drawn}"/>'


def _drawn(bubble: _Bubble, percentile: Percentile) -> str:
    row, score = bubble.row, bubble.score
    told = (
        f"{row.label}: {row.verdict}; {percentile} {wording.interval(bubble.latency)} ms; {score.metric} "
        f"{score_text(score, score.artifact.estimate)}; {wording.number(row.artifact_mib or 0.0)} MiB"
    )
    ring = f'<circle class="ring" cx="{bubble.x}" cy="{bubble.y}" r="{bubble.radius + 4}"/>'
    shape = _shape(bubble.mark, bubble.x, bubble.y, bubble.radius, tone(row.verdict))
    return f"<g><title>{html.escape(told)}</title>{ring if row.not_beaten else ''}{shape}</g>"


def _shape(mark: int, x: float, y: float, radius: float, look: str) -> str:
    """Shapes of equal area: pi times the radius squared."""
    colour, mark = (mark + mark // MARKS) % MARKS, mark % MARKS
    corners = {1: (4, 45), 2: (4, 0), 3: (3, -90), 4: (3, 90), 5: (6, 0)}
    attributes = f'class="mark m{colour} {look}"'
    if mark == 0:
        drawn = f'<circle {attributes} cx="{x}" cy="{y}" r="{radius}"/>'
    else:
        count, turned = corners[mark]
        reach = radius * math.sqrt(2 * math.pi / (count * math.sin(2 * math.pi / count)))
        angles = [math.radians(turned + 360 * corner / count) for corner in range(count)]
        path = "L".join(f"{x + reach * math.cos(a):.1f} {y + reach * math.sin(a):.1f}" for a in angles)
        drawn = f'<path {attributes} d="M{path}Z"/>'
    if look == "crossed":
        r = round(0.6 * radius + 2, 1)
        rising, falling = (x - r, y + r, x + r, y - r), (x - r, y - r, x + r, y + r)
        drawn += _path("cross", (rising, falling))
    return drawn


def _labels(bubbles: Sequence[_Bubble], lines: Sequence[_Line], width: int, height: int) -> Iterator[str]:
    """Names beside their points, where they cover least; of many points only those not beaten."""
    named = [each for each in bubbles if len(bubbles) <= _MOST_LABELS or each.row.not_beaten]
    taken = [
        _Box(each.x - each.radius, each.y - each.radius, each.x + each.radius, each.y + each.radius)
        for each in bubbles
    ]
    taken += [_Box(left - 1, top - 1, right + 1, bottom + 1) for left, top, right, bottom in lines]
    frame = _Box(_LEFT, _TOP, width - _RIGHT, height - _BOTTOM)
    for bubble in sorted(named, key=lambda each: (each.x, each.y)):
        name = _short(bubble.row.label, width)
        boxes = list(_places(bubble, len(name) * _LETTER))
        costs = [_cost(box, frame, taken) for box in boxes]
        at = min(range(len(boxes)), key=lambda at: costs[at] + _FARTHER * at)
        box = boxes[at]
        if costs[at] > _MOST_COVERED * _LINE * _LETTER * len(name):
            continue
        taken.append(box)
        yield f'<text class="name" x="{box.left:.1f}" y="{box.bottom - 3:.1f}">{html.escape(name)}</text>'


def _places(bubble: _Bubble, long: float) -> Iterator[_Box]:
    """Where a label may stand, the best places first."""
    away = bubble.radius + 7
    for below in (0.0, -0.7, 0.7):
        top = bubble.y - _LINE / 2 + below * (away + _LINE / 2)
        for left in (bubble.x + away, bubble.x - away - long):
            yield _Box(left, top, left + long, top + _LINE)
    for step in (1.0, 2.0, 3.0):
        for top in (bubble.y - away - step * _LINE, bubble.y + away + (step - 1) * _LINE):
            for left in (bubble.x - long / 2, bubble.x, bubble.x - long):
                yield _Box(left, top, left + long, top + _LINE)


def _cost(box: _Box, frame: _Box, taken: Sequence[_Box]) -> float:
    area = (box.right - box.left) * (box.bottom - box.top)
    outside = area - box.overlap(frame)
    return 10.0 * round(outside, 3) + sum(box.overlap(other) for other in taken)


def _short(label: str, width: int) -> str:
    most = max(12, int(0.4 * width / _LETTER))
    return label if len(label) <= most else label[: most - 1] + "…"
