"""What an artifact was calibrated on: told by the backend (`LearntRanges`) and by edgekit (the report)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeSetter:
    """A calibration run that alone made ranges of activations wide.

    run: its place among the feeds, from 0; ranges: how many it made at least twice as wide as all others ask
    for; tensor: where it did so most; width: of the range there, and width_without: as all others ask for;
    part: of a model of several graphs, filled in by edgekit.
    """

    run: int
    ranges: int
    tensor: str
    width: float
    width_without: float
    part: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntRanges:
    """Ranges of activations that were learnt from calibration rows. count: of tensors; setters: the runs
    that alone made some of them wide, those of most ranges first."""

    count: int
    setters: tuple[RangeSetter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Sizes of one axis over the calibration runs: quartiles, and the ends. workload: the sizes that the
    target promises there, () when it promises none."""

    least: int
    lower: int
    median: int
    upper: int
    most: int
    workload: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeRow:
    """A calibration row that alone made ranges of activations wide. row: its number in the file, from 1;
    the rest as in `RangeSetter`."""

    row: int
    ranges: int
    tensor: str
    width: float
    width_without: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """What the calibration rows are like.

    rows: used; given: in the file; repeated: used ones that repeat another; lengths: by axis, without the
    batch; classes: rows, or tags, by label, {} where no labels were read; padding: share of positions that
    a mask leaves out, None without a mask; ranges: learnt from them, 0 for weights alone or dynamic
    ranges; range_rows: that alone made some of them wide, those of most ranges first;
    warnings: why they may not do.
    """

    rows: int
    given: int
    repeated: int = 0
    lengths: Mapping[str, Lengths] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    padding: float | None = None
    ranges: int = 0
    range_rows: tuple[RangeRow, ...] = ()
    warnings: tuple[str, ...] = ()
