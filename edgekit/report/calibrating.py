"""What an artifact was calibrated on, as rows of a name and a value: for the page, and for `inspect`."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.values import CalibrationReport, Lengths, RangeRow

#: Classes that are named; a model of images has a thousand.
MOST_CLASSES = 10


def calibration_rows(found: CalibrationReport) -> Iterator[tuple[str, str]]:
    """How many rows, how long, of which classes, and which of them set ranges. Without the warnings."""
    used = f"{found.rows:,}" if found.rows == found.given else f"{found.rows:,} of {found.given:,}"
    yield "rows", f"{used}, {found.repeated:,} of them repeat another" if found.repeated else used
    for axis, lengths in found.lengths.items():
        yield axis, lengths_text(lengths)
    if found.classes:
        yield "classes", _classes(found)
    if found.padding is not None:
        yield "padding", f"{found.padding:.1%} of positions"
    if found.ranges:
        yield "ranges learnt", _ranges(found)
    for row in found.range_rows:
        yield f"row {row.row}", range_text(row, found.ranges)


def lengths_text(found: Lengths) -> str:
    """Sizes of an axis in words: 6 to 53, half of them 17 to 31, median 23; the workload has 128."""
    if found.least == found.most:
        text = str(found.most)
    else:
        middle = f"half of them {found.lower} to {found.upper}, median {found.median}"
        text = f"{found.least} to {found.most}, {middle}"
    if not found.workload:
        return text
    return f"{text}; the workload has {', '.join(map(str, found.workload))}"


def range_text(row: RangeRow, ranges: int) -> str:
    """What a row did to ranges."""
    alone = f"alone made {row.ranges} of {ranges} ranges at least twice as wide"
    return f"{alone}, most in {row.tensor}: {row.width:.3g}, without it {row.width_without:.3g}"


def _classes(found: CalibrationReport) -> str:
    named = [f"{label} {count:,}" for label, count in found.classes.items()]
    more = len(named) - MOST_CLASSES
    return ", ".join(named[:MOST_CLASSES]) + (f" and {more} more" if more > 0 else "")


def _ranges(found: CalibrationReport) -> str:
    if found.range_rows:
        return f"{found.ranges:,}, some of them set by one row alone"
    return f"{found.ranges:,}, none of them made twice as wide by one row alone"
