"""Many reports side by side: like is compared with like, and what is not beaten is named.

Reports are alike when they were measured on the same machine (its whole fingerprint), at the same workload,
with the same threads; only within such a group is anything called best. Accuracies are alike when the metric
and the rows are the same too. A report is not beaten (Pareto-optimal) when no alike one is at least as good
in latency, size and accuracy and better in one of them. Estimates are compared, so where intervals overlap
an order is seen, not proven.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgekit.report import wording
from edgekit.report.overview_rows import Row, Score, Source, labels_of, row_of
from edgekit.values import Interval, ReportTable
from edgekit_runtime.values import Machine

OVERVIEW_SCHEMA = 1
Percentile = Literal["p50", "p90"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Reports of a group whose accuracies are alike. yardstick: metric and rows, in words.

    rows, not_beaten: labels, the quickest first.
    """

    yardstick: str
    rows: tuple[str, ...]
    not_beaten: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Reports measured alike. heading: machine and conditions in words, told apart from other groups'."""

    heading: str
    machine: Machine
    workload: Mapping[str, int]
    shapes: tuple[Mapping[str, int], ...]
    threads: int
    rows: tuple[Row, ...]
    contests: tuple[Contest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All reports. percentile: the latency by which they are ordered and compared."""

    schema: int
    kind: str
    created: str
    edgekit: str
    percentile: Percentile
    groups: tuple[Group, ...]

    def rows(self) -> Iterator[Row]:
        """Every report, group by group."""
        for group in self.groups:
            yield from group.rows


@dataclass(frozen=True, slots=True)
class Point:
    """What the front is about. Less latency and size are better, and more score."""

    latency: float
    size: float
    score: float

    def beats(self, other: Point) -> bool:
        """At least as good in everything, and not the same."""
        as_good = self.latency <= other.latency and self.size <= other.size and self.score >= other.score
        return as_good and self != other


def not_beaten(points: Sequence[Point]) -> tuple[bool, ...]:
    """For each point, whether no other one beats it. Equal points do not beat each other."""
    return tuple(not any(other.beats(point) for other in points) for point in points)


def overview(sources: Sequence[Source], percentile: Percentile, created: str, version: str) -> Overview:
    """Group, compare and name the reports; their order does not matter.

    Raises ManifestError naming the path of a report whose figures cannot be.
    """
    found: dict[object, list[tuple[ReportTable, Row]]] = {}
    for source, label in zip(sources, labels_of(sources), strict=True):
        table = wording.report_of(source.manifest)
        found.setdefault(_alike(table), []).append((table, row_of(source, label)))
    members = sorted(found.values(), key=lambda group: _group_order([table for table, _ in group]))
    headings = _headings([group[0][0] for group in members])
    groups = (
        _group(group[0][0], heading, [row for _, row in group], percentile)
        for group, heading in zip(members, headings, strict=True)
    )
    return Overview(
        schema=OVERVIEW_SCHEMA,
        kind="overview",
        created=created,
        edgekit=version,
        percentile=percentile,
        groups=tuple(groups),
    )


def latency(row: Row, percentile: Percentile) -> Interval | None:
    """The latency by which reports are compared."""
    return row.latency_p50_ms if percentile == "p50" else row.latency_p90_ms


def point(row: Row, percentile: Percentile) -> Point | None:
    """The row among its likes; None when it is left out."""
    found = latency(row, percentile)
    if row.left_out or found is None or row.accuracy is None or row.artifact_mib is None:
        return None
    sign = 1.0 if row.accuracy.higher_is_better else -1.0
    score = sign * row.accuracy.artifact.estimate
    return Point(latency=found.estimate, size=row.artifact_mib, score=score)


def _alike(table: ReportTable) -> tuple[object, ...]:
    """Equal for two reports whose latencies may be compared."""
    return (
        table.machine,
        _axes(table.workload),
        tuple(sorted(_axes(shape) for shape in table.shapes)),
        table.threads,
        table.streams,
        None if table.heat is None else round(table.heat.seconds),
    )


def _axes(shape: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(shape.items()))


def _group_order(tables: Sequence[ReportTable]) -> tuple[str, str, str]:
    """By machine, then by conditions; the last part settles what those words leave open."""
    table = tables[0]
    return wording.machine_name(table.machine), wording.conditions(table), repr(_alike(table))


def _headings(tables: Sequence[ReportTable]) -> list[str]:
    """Machine and conditions; machines of one name are told apart by the fields that differ."""
    texts = []
    for table in tables:
        namesakes = [
            other.machine
            for other in tables
            if wording.machine_name(other.machine) == wording.machine_name(table.machine)
        ]
        differing = (
            f"{field.name} {_value(getattr(table.machine, field.name))}"
            for field in dataclasses.fields(Machine)
            if len({getattr(machine, field.name) for machine in namesakes}) > 1
        )
        told = ", ".join(differing)
        name = wording.machine_name(table.machine)
        texts.append(f"{name}{f' ({told})' if told else ''}; {wording.conditions(table)}")
    return [  # mixes of shapes may differ in ways that the words leave out
        f"{text}, mix {texts[: at + 1].count(text)}" if texts.count(text) > 1 else text
        for at, text in enumerate(texts)
    ]


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return str(value) or "unknown"


def _group(table: ReportTable, heading: str, rows: Sequence[Row], percentile: Percentile) -> Group:
    rows = [dataclasses.replace(row, left_out=_why_left_out(row, percentile)) for row in rows]
    rows.sort(key=lambda row: _row_order(row, percentile))
    contests, optimal = _contests(rows, percentile)
    rows = [dataclasses.replace(row, not_beaten=row.label in optimal) for row in rows]
    best = _best(rows)
    return Group(
        heading=heading,
        machine=table.machine,
        workload=table.workload,
        shapes=table.shapes,
        threads=table.threads,
        rows=tuple(dataclasses.replace(row, best=best[row.label]) for row in rows),
        contests=contests,
    )


def _why_left_out(row: Row, percentile: Percentile) -> str:
    if not row.agrees:
        return "its answers are not the exported model's"
    gaps = (
        (latency(row, percentile) is None, f"latency {percentile}"),
        (row.accuracy is None, "accuracy"),
        (row.artifact_mib is None, "size"),
    )
    missing = " and ".join(name for gap, name in gaps if gap)
    return f"no {missing} was measured" if missing else ""


def _row_order(row: Row, percentile: Percentile) -> tuple[float, str]:
    found = latency(row, percentile)
    return (math.inf if found is None else found.estimate), row.label


def _contests(rows: Sequence[Row], percentile: Percentile) -> tuple[tuple[Contest, ...], set[str]]:
    """The contests of a group, and the labels of all that are not beaten."""
    alike: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.accuracy is not None and point(row, percentile) is not None:
            alike.setdefault(_yardstick(row.accuracy), []).append(row)
    contests: list[Contest] = []
    optimal: set[str] = set()
    for members in (alike[key] for key in sorted(alike, key=repr)):
        points = [found for row in members if (found := point(row, percentile)) is not None]
        front = [row.label for row, best in zip(members, not_beaten(points), strict=True) if best]
        labels = tuple(row.label for row in members)
        contests.append(
            Contest(yardstick=_words(members[0], len(alike) > 1), rows=labels, not_beaten=tuple(front))
        )
        optimal.update(front if len(members) > 1 else ())
    return tuple(contests), optimal


def _yardstick(score: Score) -> tuple[object, ...]:
    return score.metric, score.higher_is_better, score.rows, score.data_digest


def _words(row: Row, has_others: bool) -> str:
    """The yardstick in words, with the head of the rows' digest where there are other yardsticks."""
    score = row.accuracy
    if score is None:
        return ""
    rows = "1 row" if score.rows == 1 else f"{score.rows:,} rows"
    source = f" of {score.data}" if score.data else ""
    told_apart = f" [{score.data_digest[7:15]}]" if has_others and score.data_digest else ""
    return f"{score.metric} on {rows}{source}{told_apart}"


def _best(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """For each label the fields in which it is best. A field in which all are equal has no best one."""
    fields: dict[str, Callable[[Row], float | None]] = {
        "latency_p50_ms": lambda row: _estimate(row.latency_p50_ms),
        "latency_p90_ms": lambda row: _estimate(row.latency_p90_ms),
        "cold_start_ms": lambda row: _estimate(row.cold_start_ms),
        "peak_memory_mib": lambda row: _estimate(row.peak_memory_mib),
        "artifact_mib": lambda row: row.artifact_mib,
    }
    if len({_yardstick(row.accuracy) for row in rows if row.accuracy is not None}) == 1:
        fields["accuracy"] = _loss
        fields["accuracy_drop"] = lambda row: _estimate(None if row.accuracy is None else row.accuracy.drop)
    best: dict[str, list[str]] = {row.label: [] for row in rows}
    for name, of in fields.items():
        known = {row.label: value for row in rows if row.agrees and (value := of(row)) is not None}
        if len(set(known.values())) > 1:
            for label in (label for label, value in known.items() if value == min(known.values())):
                best[label].append(name)
    return {label: tuple(names) for label, names in best.items()}


def _estimate(found: Interval | None) -> float | None:
    return None if found is None else found.estimate


def _loss(row: Row) -> float | None:
    if row.accuracy is None:
        return None
    return row.accuracy.artifact.estimate * (-1 if row.accuracy.higher_is_better else 1)
