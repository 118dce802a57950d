"""What diff found out about two artifacts: NEW against OLD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from edgekit.values.reports import AccuracyRecord, Check, Interval
from edgekit_runtime.values import Machine, Placement

DIFF_SCHEMA = 1


class Change(StrEnum):
    """What is proven of NEW against OLD. UNPROVEN: no difference either way, nor that there is none."""

    FASTER = "faster"
    SLOWER = "slower"
    SMALLER = "smaller"
    BIGGER = "bigger"
    MORE_ACCURATE = "more accurate"
    LESS_ACCURATE = "less accurate"
    SAME = "the same"
    UNPROVEN = "no difference proven"
    NOT_MEASURED = "not measured"


class DiffMethod(StrEnum):
    """How a figure was compared. PAIRED: interleaved launches, or the same rows; STORED: from the samples
    of two reports, not paired; INDIRECT: each against the exported model, in its own report."""

    PAIRED = "paired"
    STORED = "stored"
    INDIRECT = "indirect"
    EXACT = "exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffSide:
    """One of the two. kind: "artifact", "package" or "report"; path: as it was given.

    bytes: of the artifact's files, goldens left out; engine_versions and options: unknown to a report.
    fallback: share of the work not done in the precision or on the device asked for, None when not told;
    fallback_basis: "time" or "nodes".
    """

    path: str
    kind: str
    name: str
    digest: str
    backend: str
    precision: str
    target: str
    threads: int
    bytes: int
    backend_version: str = ""
    engine_versions: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    placement: Placement | None = None
    fallback: float | None = None
    fallback_basis: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffFigure:
    """One figure of both. ratio: NEW/OLD; difference: for accuracy, how many points NEW is worse.

    Bounds are one-sided, each at the diff's confidence. reason: why it was not measured, or what a
    reader must know.
    """

    key: str
    unit: str
    change: Change
    old: float | None = None
    new: float | None = None
    ratio: Interval | None = None
    difference: Interval | None = None
    method: DiffMethod = DiffMethod.PAIRED
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRecord:
    """One launch of each, next to each other in time. old_ms, new_ms: their median latencies.

    new_first: NEW was launched first; disturbed: the ratio cannot be trusted either way.
    """

    number: int
    new_first: bool
    old_ms: float
    new_ms: float
    disturbed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChange:
    """Something that was asked for or used, and is not the same in both."""

    key: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementChange:
    """Executed nodes, and their share of time where told, of one precision on one device."""

    precision: str
    device: str
    old_nodes: int
    new_nodes: int
    old_time: float | None = None
    new_time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffTable:
    """The result of diff. figures: what was compared; gates: what was asked to hold, one outcome each.

    margin: share by which latencies may differ and still be called the same; threads, workload (its
    shapes), machine: of the paired launches, or of both reports; None and empty when nothing was timed.
    accuracy: paired on the same rows: `artifact` is NEW and `model` is OLD.
    """

    old: DiffSide
    new: DiffSide
    confidence: float
    margin: float
    figures: tuple[DiffFigure, ...]
    gates: tuple[Check, ...] = ()
    schema: int = DIFF_SCHEMA
    threads: int | None = None
    workload: tuple[Mapping[str, int], ...] = ()
    machine: Machine | None = None
    pairs: tuple[PairRecord, ...] = ()
    settings: tuple[SettingChange, ...] = ()
    placement: tuple[PlacementChange, ...] = ()
    accuracy: AccuracyRecord | None = None
    notes: tuple[str, ...] = ()
