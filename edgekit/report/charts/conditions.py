"""The machine launch by launch, as strips on the same axis as the runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit.report import wording
from edgekit.report.charts.canvas import LEFT, RIGHT, TEXT_LINE, WIDTH, Scale, svg, text
from edgekit.report.charts.launches import launch_axis, slot_width
from edgekit.values import LaunchRecord

_STRIP, _GAP, _AXIS = 24, 10, 48


@dataclass(frozen=True, slots=True)
class Strip:
    """One reading. factor: from the record's unit to `unit`; from_zero: where the strip begins."""

    name: str
    unit: str
    read: Callable[[LaunchRecord], float | None]
    factor: float = 1.0
    from_zero: bool = True


STRIPS = (
    Strip("control computation", "ms", lambda record: record.control_ms),
    Strip("load before the launch", "", lambda record: record.conditions.load),
    Strip("time stolen by other guests", "%", lambda record: record.conditions.steal_share, 100.0),
    Strip("time with a task waiting", "%", lambda record: record.conditions.pressure_share, 100.0),
    Strip("clock", "MHz", lambda record: record.conditions.mhz, from_zero=False),
    Strip("hottest zone", "\N{DEGREE SIGN}C", lambda record: record.conditions.celsius, from_zero=False),
)


def conditions_svg(launches: Sequence[LaunchRecord]) -> str:
    """The strips whose readings the system told, for the launches that made runs; "" without any."""
    launches = [record for record in launches if record.latency_ms]
    parts: list[str] = []
    top = 0.0
    for strip in STRIPS:
        values = [strip.read(record) for record in launches]
        known = [value * strip.factor for value in values if value is not None]
        if not known:
            continue
        parts.append(text(LEFT, top + TEXT_LINE - 6, _label(strip, known)))
        base = top + TEXT_LINE + _STRIP
        y = _scale(strip, known, base)
        parts.append(
            f'<rect class="track" x="{LEFT}" y="{base - _STRIP:g}" width="{WIDTH - LEFT - RIGHT}" '
            f'height="{_STRIP}"/>'
        )
        scaled = [None if value is None else y(value * strip.factor) for value in values]
        parts.append(f'<path class="strip" d="{_steps(scaled, base)}"/>')
        top = base + _GAP
    if not parts:
        return ""
    parts += launch_axis(len(launches), top - _GAP)
    return svg(top - _GAP + _AXIS, "the machine during each launch", parts)


def _label(strip: Strip, known: Sequence[float]) -> str:
    low, high = wording.number(min(known)), wording.number(max(known))
    unit = f" {strip.unit}" if strip.unit else ""
    return f"{strip.name}: {low}{unit}" if low == high else f"{strip.name}: {low} to {high}{unit}"


def _scale(strip: Strip, known: Sequence[float], base: float) -> Scale:
    low, high = (0.0 if strip.from_zero else min(known)), max(known)
    slack = max(high - low, 1e-6 * max(abs(high), 1.0))
    return Scale(low if strip.from_zero else low - 0.3 * slack, high + 0.05 * slack, base, base - _STRIP)


def _steps(heights: Sequence[float | None], base: float) -> str:
    """One filled column for each launch; a launch without a reading stays empty."""
    width = slot_width(len(heights))
    return "".join(
        f"M{LEFT + number * width:.1f} {base:g}V{at:g}h{width:.1f}V{base:g}z"
        for number, at in enumerate(heights)
        if at is not None
    )
