"""One report as a row of the overview: its figures, its name, and whether they can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.files.manifests import Manifest
from edgekit.report import wording
from edgekit.values import AccuracyRecord, GeneratedRecord, Interval, Outcome, ReportTable
from edgekit_runtime.errors import ManifestError

_MOST = 1e300
_LEAST = {"latency_p50_ms": 1e-9, "latency_p90_ms": 1e-9, "cold_start_ms": 1e-9, "artifact_mib": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A report as it was found. path: as given; verified: whether every file was hashed.

    page: the report's own page as a link from the overview page; "" when there is none.
    """

    path: str
    manifest: Manifest
    verified: bool
    page: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The accuracy of an artifact, with one-sided bounds that follow from the bounds of its drop.

    is_share: of rows answered right, else another metric. rows, data: on what it was measured; data is the
    file's name, data_digest that of its bytes.
    """

    metric: str
    higher_is_better: bool
    is_share: bool
    rows: int
    data: str
    data_digest: str
    artifact: Interval
    model: float
    drop: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One report. label: its name in the overview, told apart from all others.

    agrees: whether it gave the exported model's recorded answers, as far as that was tried; one that did not
    competes in nothing. best: the fields in which no report of the group is better; left_out: why it is not
    compared for the front, "" when it is. line: the verdict in one sentence. Intervals are None where not
    measured.
    """

    label: str
    path: str
    page: str
    verified: bool
    created: str
    artifact: str
    artifact_digest: str
    target: str
    machine_is_target: bool
    machine: str
    backend: str
    precision: str
    verdict: Outcome
    line: str
    confidence: float
    latency_p50_ms: Interval | None
    latency_p90_ms: Interval | None
    cold_start_ms: Interval | None
    peak_memory_mib: Interval | None
    artifact_mib: float | None
    accuracy: Score | None
    generated: GeneratedRecord | None = None
    agrees: bool = True
    left_out: str = ""
    best: tuple[str, ...] = ()
    not_beaten: bool = False


def row_of(source: Source, label: str) -> Row:
    """Raises ManifestError naming the path of a report whose figures cannot be."""
    table = wording.report_of(source.manifest)
    _refuse_impossible(table, source.path)
    score = None if table.accuracy is None else _score(source.manifest, table, table.accuracy)
    return Row(
        label=label,
        path=source.path,
        page=source.page,
        verified=source.verified,
        created=source.manifest.created,
        artifact=table.artifact_name,
        artifact_digest=table.artifact_digest,
        target=table.target_name,
        machine_is_target=table.machine_is_target,
        machine=wording.machine_name(table.machine),
        backend=table.backend,
        precision=table.precision,
        verdict=table.verdict,
        line=wording.verdict_line(table),
        confidence=table.confidence,
        latency_p50_ms=table.latency_p50_ms,
        latency_p90_ms=table.latency_p90_ms,
        cold_start_ms=table.cold_start_ms,
        peak_memory_mib=table.peak_memory_mib,
        artifact_mib=table.artifact_mib or None,
        accuracy=score,
        generated=table.generated,
        agrees=table.golden is None or table.golden.outcome is not Outcome.FAIL,
    )


def _score(manifest: Manifest, table: ReportTable, found: AccuracyRecord) -> Score:
    sign = 1.0 if found.higher_is_better else -1.0
    judged = next((check.observed for check in table.checks if check.key == "accuracy_drop"), None)
    seen = Interval(estimate=100.0 * sign * (found.model - found.artifact))
    drop = found.drop or judged or seen

    def at(bound: float | None) -> float | None:
        return None if bound is None else found.model - sign * bound / 100.0

    low, high = (drop.high, drop.low) if found.higher_is_better else (drop.low, drop.high)
    data = next((entry for entry in manifest.inputs if entry.role == "data"), None)
    return Score(
        metric=found.metric,
        higher_is_better=found.higher_is_better,
        is_share=found.lost is not None and found.gained is not None,
        rows=found.rows,
        data=data.path.rpartition("/")[2] if data is not None else "",
        data_digest=data.digest if data is not None else "",
        artifact=Interval(estimate=found.artifact, low=at(low), high=at(high)),
        model=found.model,
        drop=drop,
    )


def labels_of(sources: Sequence[Source]) -> list[str]:
    """The artifact's name, with its target and then its path where that is not enough."""
    tables = [wording.report_of(source.manifest) for source in sources]
    labels = [table.artifact_name for table in tables]
    counted = Counter(labels)
    labels = [
        f"{label} on {table.target_name}" if counted[label] > 1 else label
        for label, table in zip(labels, tables, strict=True)
    ]
    counted = Counter(labels)
    return [
        f"{label} ({source.path})" if counted[label] > 1 else label
        for label, source in zip(labels, sources, strict=True)
    ]


def _refuse_impossible(table: ReportTable, path: str) -> None:
    """Only a report that was edited or made by hand can hold such figures."""
    for name, value in _figures(table):
        least = _LEAST.get(name, -_MOST)
        if not least <= value <= _MOST:  # false for NaN too
            raise ManifestError(
                f"{path}: report.{name} is {value}, which cannot be", hint="make the report again"
            )


def _figures(table: ReportTable) -> Iterator[tuple[str, float]]:
    """Every figure that the overview shows, under its name in the report."""
    intervals = {
        "latency_p50_ms": table.latency_p50_ms,
        "latency_p90_ms": table.latency_p90_ms,
        "cold_start_ms": table.cold_start_ms,
        "peak_memory_mib": table.peak_memory_mib,
    }
    intervals |= {f"checks.{check.key}": check.observed for check in table.checks}
    yield "artifact_mib", table.artifact_mib
    if table.accuracy is not None:
        intervals["accuracy.drop"] = table.accuracy.drop
        yield "accuracy.artifact", table.accuracy.artifact
        yield "accuracy.model", table.accuracy.model
    for name, found in intervals.items():
        if found is not None:
            yield name, found.estimate
            yield from ((f"{name} bound", bound) for bound in (found.low, found.high) if bound is not None)
