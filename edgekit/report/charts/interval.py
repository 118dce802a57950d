"""A measured interval against its limit."""

from __future__ import annotations

from edgekit.report import wording
from edgekit.report.charts.canvas import WIDTH, Scale, line, svg, text
from edgekit.values import Check

_HEIGHT, _LABEL = 52, 47


def interval_svg(check: Check) -> str:
    """The measured interval against the limit; "" when nothing was measured or limited."""
    found, limit = check.observed, check.limit
    if found is None or limit is None:
        return ""
    known = [value for value in (found.estimate, found.low, found.high, limit) if value is not None]
    spread = (max(known) - min(known)) or abs(limit) or 1.0
    x = Scale(min(known) - 0.25 * spread, max(known) + 0.25 * spread, 8, WIDTH - 8)
    left = x(found.low) if found.low is not None else 0
    right = x(found.high) if found.high is not None else WIDTH
    allowed = (x(limit), WIDTH) if wording.is_floor(check.key) else (0, x(limit))
    at, middle = x(limit), x(found.estimate)
    label = f"{check.key}: {wording.interval(found)} against {wording.limit(check)}"
    parts = [
        f'<rect class="allowed" x="{allowed[0]}" y="4" width="{allowed[1] - allowed[0]:g}" height="22"/>',
        f'<rect class="interval" x="{left}" y="10" width="{max(2, right - left):g}" height="10" rx="2"/>',
        _open_end(0, 1) if found.low is None else "",
        _open_end(WIDTH, -1) if found.high is None else "",
        f'<circle class="estimate" cx="{middle}" cy="15" r="4.5"/>',
        line("limit", (at, at), (0, 30)),
        text(at, _LABEL, f"limit {wording.number(limit)}", _anchor(at)),
    ]
    if abs(middle - at) > 200:
        parts.append(text(middle, _LABEL, wording.number(found.estimate), _anchor(middle)))
    return svg(_HEIGHT, label, parts)


def _open_end(at: float, towards: int) -> str:
    """An arrow head: the interval has no end on this side."""
    return f'<path class="endless" d="M{at + towards * 9} 8L{at + towards * 2} 15L{at + towards * 9} 22"/>'


def _anchor(at: float) -> str:
    return "start" if at < 90 else "end" if at > WIDTH - 90 else "middle"
