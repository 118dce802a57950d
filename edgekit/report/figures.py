"""What was measured, as (what, how much) rows that every format shows alike."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgekit.report import wording
from edgekit.report.wording import interval, number
from edgekit.values import (
    AccuracyRecord,
    GeneratedRecord,
    GoldenRecord,
    HeatRecord,
    LaunchRecord,
    Outcome,
    ReportTable,
)
from edgekit_runtime.values import Machine

#: More shapes than this are told as one row; the page lists them all.
MOST_SHAPE_ROWS = 6

Rows = Iterator[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeRow:
    """The runs of one shape, all launches together. p50_ms, p90_ms: None when it made no run."""

    name: str
    runs: int
    share: float
    p50_ms: float | None
    p90_ms: float | None


def figure_rows(table: ReportTable) -> Rows:
    """Everything that was found, whether limited or not."""
    yield from measured_rows(table)
    if table.accuracy is not None:
        yield from accuracy_rows(table.accuracy)


def measured_rows(table: ReportTable) -> Rows:
    """What the launches and the files tell; accuracy stands apart."""
    yield from _latency_rows(table)
    yield from _shapes_in_short(shape_rows(table))
    if table.heat is not None and table.heat.windows_ms:
        yield "sustained latency", _heat(table.heat)
    if table.cold_start_ms is not None:
        yield "cold start, median of launches", f"{interval(table.cold_start_ms)} ms"
    if table.throughput is not None:
        streams = "1 stream" if table.streams == 1 else f"{table.streams} streams"
        yield f"throughput, {streams}", f"{interval(table.throughput)} samples/s"
    if table.peak_memory_mib is not None:
        yield "memory over the engine's own, highest launch", f"{interval(table.peak_memory_mib)} MiB"
    if table.steady_memory_mib is not None:
        yield "memory over the engine's own, after the runs", f"{interval(table.steady_memory_mib)} MiB"
    if table.energy_mj is not None:
        yield "energy of one run, whole machine", f"{interval(table.energy_mj)} mJ"
    yield "artifact", f"{number(table.artifact_mib)} MiB"
    if table.golden is not None:
        yield "goldens", _goldens(table.golden)


def _goldens(golden: GoldenRecord) -> str:
    if golden.outcome is Outcome.NOT_MEASURED:
        return f"not compared: {golden.reason}"
    return f"{golden.agreeing} of {golden.cases} agree, max error {golden.max_abs_error:.3g}"


def _latency_rows(table: ReportTable) -> Rows:
    latencies = (("p50", table.latency_p50_ms), ("p90", table.latency_p90_ms), ("p99", table.latency_p99_ms))
    for name, found in latencies:
        if found is not None:
            yield f"latency {name}", f"{interval(found)} ms"
    if table.generated is not None:
        yield "tokens generated in one run", _generated(table.generated)


def _generated(found: GeneratedRecord) -> str:
    counted = "1 run" if found.runs == 1 else f"{found.runs} runs"
    return f"least {found.least}, median {found.median}, most {found.most} (of {counted})"


def _heat(heat: HeatRecord) -> str:
    first, last = heat.windows_ms[0], heat.windows_ms[-1]
    change = f", {last / first - 1:+.1%}" if first > 0 else ""
    return (
        f"{number(last)} ms in the last window, {number(first)} ms in the first{change} "
        f"({number(heat.seconds)} s without a pause)"
    )


def accuracy_rows(found: AccuracyRecord) -> Rows:
    """Artifact against exported model on the same rows."""
    counted = found.lost is not None and found.gained is not None
    artifact, model = (
        f"{value:.2%}" if counted else number(value) for value in (found.artifact, found.model)
    )
    direction = "" if found.higher_is_better else ", lower is better"
    yield found.metric, f"{artifact} (exported model {model}{direction}) on {found.rows:,} rows"
    yield f"{'drop' if found.higher_is_better else 'rise'} in {found.metric}", _worse(found)
    changed = f"{found.flips:,} changed"
    if counted:
        changed += f": {found.lost:,} lost, {found.gained:,} gained"
    same = (found.rows - found.flips) / found.rows if found.rows else 1.0
    yield "agreement", f"{same:.2%} of rows get the same answer ({changed})"
    far = found.max_logit_distance
    yield "largest output distance", "not comparable" if far > 1e300 else f"{far:.3g}"


def _worse(found: AccuracyRecord) -> str:
    """By how many points the artifact is worse; below 0 it is better."""
    if found.drop is not None:
        return f"{interval(found.drop)} points [{found.method}]"
    sign = 1.0 if found.higher_is_better else -1.0
    return f"{number(100.0 * sign * (found.model - found.artifact))} points"


def shape_rows(table: ReportTable) -> tuple[ShapeRow, ...]:
    """The runs of each shape of the mix; nothing when there is one shape. Plain percentiles, no bounds."""
    if len(table.shapes) < 2:
        return ()
    runs: list[list[float]] = [[] for _ in table.shapes]
    for record in table.launches:
        for which, value in zip(record.shape, record.latency_ms, strict=False):
            if 0 <= which < len(runs):
                runs[which].append(value)
    total = sum(len(values) for values in runs) or 1
    return tuple(
        ShapeRow(
            name=wording.shape(sizes),
            runs=len(values),
            share=len(values) / total,
            p50_ms=_percentile(values, 0.5),
            p90_ms=_percentile(values, 0.9),
        )
        for sizes, values in zip(table.shapes, runs, strict=True)
    )


def shape_latency(row: ShapeRow) -> str:
    """ "p50 3.1 ms, p90 3.4 ms"."""
    if row.p50_ms is None or row.p90_ms is None:
        return "no run"
    return f"p50 {number(row.p50_ms)} ms, p90 {number(row.p90_ms)} ms"


def _shapes_in_short(rows: Sequence[ShapeRow]) -> Rows:
    if len(rows) <= MOST_SHAPE_ROWS:
        for row in rows:
            yield f"latency at {row.name}", f"{shape_latency(row)} ({row.runs:,} runs)"
        return
    timed = sorted((row for row in rows if row.p50_ms is not None), key=lambda row: row.p50_ms or 0.0)
    if timed:
        yield f"quickest of {len(rows)} shapes, {timed[0].name}", shape_latency(timed[0])
        yield f"slowest of {len(rows)} shapes, {timed[-1].name}", shape_latency(timed[-1])


def _percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of `values` does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None


def machine_rows(machine: Machine) -> Rows:
    """The machine's fingerprint."""
    yield "processor", machine.cpu or "unknown"
    yield "architecture", f"{machine.arch}, {machine.system}"
    yield "cores", f"{machine.cores}, of which {number(machine.usable_cores)} may be used"
    yield "memory", f"{machine.memory_mib:,} MiB"
    optional = (
        ("board", machine.device_tree),
        ("GPU", ", ".join(_gpus(machine))),
        ("CPU features", " ".join(machine.isa)),
        ("governor", machine.governor),
        ("Python", machine.python),
        ("emulated", "yes" if machine.emulated else ""),
    )
    yield from ((name, text) for name, text in optional if text)


def _gpus(machine: Machine) -> Iterator[str]:
    for name, arch in itertools.zip_longest(machine.gpu, machine.gpu_arch, fillvalue=""):
        yield f"{name} ({arch})" if arch else name


#: Name, unit, reading and factor to the unit; the median and the range over the launches are told.
_CONDITIONS: tuple[tuple[str, str, Callable[[LaunchRecord], float | None], float], ...] = (
    ("control computation", " ms", lambda record: record.control_ms, 1.0),
    ("load before a launch", "", lambda record: record.conditions.load, 1.0),
    ("tasks that could run", "", lambda record: record.conditions.running, 1.0),
    ("time stolen by other guests", " %", lambda record: record.conditions.steal_share, 100.0),
    ("time with a task waiting for a CPU", " %", lambda record: record.conditions.pressure_share, 100.0),
    ("involuntary context switches", "", lambda record: record.conditions.involuntary, 1.0),
    ("clock", " MHz", lambda record: record.conditions.mhz, 1.0),
    ("hottest zone", " \N{DEGREE SIGN}C", lambda record: record.conditions.celsius, 1.0),
)


def condition_rows(launches: Sequence[LaunchRecord]) -> Rows:
    """The machine during the launches, as far as the system told."""
    for name, unit, read, factor in _CONDITIONS:
        told = sorted(value * factor for value in map(read, launches) if value is not None)
        if not told:
            continue
        low, middle, high = (number(told[at]) for at in (0, len(told) // 2, -1))
        yield name, f"{middle}{unit}" if low == high else f"{middle}{unit} ({low} to {high})"
    slowed = [value for record in launches if (value := record.conditions.throttled) is not None]
    if slowed:
        yield "slowed for heat", f"{sum(slowed):,} times in {sum(bool(value) for value in slowed)} launches"
    told_rest = [record.settled for record in launches if record.settled is not None]
    if told_rest and not all(told_rest):
        yield "warm-up still drifting", f"{told_rest.count(False)} of {len(told_rest)} launches"


def cold_start_rows(launches: Sequence[LaunchRecord]) -> Rows:
    """What the cold start consists of: the median of each part over the launches."""
    names = dict.fromkeys(name for record in launches for name in record.cold_parts_ms)
    for name in names:
        values = [record.cold_parts_ms[name] for record in launches if name in record.cold_parts_ms]
        middle = _percentile(values, 0.5)
        if middle is not None:
            yield name, f"{number(middle)} ms"


def sensitivity_rows(table: ReportTable) -> Iterator[tuple[str, str, str, str]]:
    """Of each group of nodes quantized alone: its name, its error, answers that changed, ms saved."""
    for each in table.sensitivity:
        kept = ", kept high" if each.group in table.kept_high else ""
        nodes = "1 node" if each.nodes == 1 else f"{each.nodes} nodes"
        yield f"{each.group} ({nodes}{kept})", f"{each.error:.2%}", f"{each.flips}", f"{each.saved_ms:.2f}"
