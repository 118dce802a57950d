"""The words and numbers that all formats share, so that no two of them say different things."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from edgekit.errors import UsageError
from edgekit.files.manifests import Manifest
from edgekit.values import AccuracyRecord, Check, Interval, Outcome, ReportTable
from edgekit_runtime.values import Machine

#: Shown beside the word on the page, so that nobody has to tell colours apart.
SIGNS = {Outcome.PASS: "✓", Outcome.FAIL: "✗", Outcome.INCONCLUSIVE: "?", Outcome.NOT_MEASURED: "-"}


def report_of(manifest: Manifest) -> ReportTable:
    """The manifest's report. Raises UsageError when it is of another kind."""
    if manifest.report is None:
        raise UsageError(
            f"{manifest.name}: is an edgekit {manifest.kind}, not a report",
            hint="make one with `edgekit validate`",
        )
    return manifest.report


def number(value: float) -> str:
    """Four significant digits, never an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = max(0, 3 - len(str(int(abs(value)))) + (1 if abs(value) >= 1 else 2))
    text = f"{value:.{min(digits, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def interval(found: Interval | None) -> str:
    """An estimate with its bounds: "17.2 (16.8 to 18.1)"."""
    if found is None:
        return "-"
    low, high = (None if bound is None else number(bound) for bound in (found.low, found.high))
    estimate = number(found.estimate)
    if low is not None and high is not None:
        return estimate if low == high == estimate else f"{estimate} ({low} to {high})"
    if low is not None:
        return f"{estimate} (at least {low})"
    return f"{estimate} (at most {high})" if high is not None else f"{estimate} (no bound yet)"


def is_floor(key: str) -> bool:
    """Whether the limit is a lower one."""
    return key.endswith("_min")


def limit(check: Check) -> str:
    """The limit with its direction and unit: "<= 20 ms". Plain ASCII: any terminal can show it."""
    if check.limit is None:
        return "-"
    return f"{'>=' if is_floor(check.key) else '<='} {number(check.limit)} {check.unit}"


def why(check: Check) -> str:
    """The reason and the method in one string."""
    return " ".join(part for part in (check.reason, f"[{check.method}]" if check.method else "") if part)


def verdict_line(table: ReportTable) -> str:
    """One line that a person can quote."""
    subject = f"{table.artifact_name} ({table.backend}, {table.precision})"
    where = machine_name(table.machine)
    if not table.machine_is_target:
        where += f" (which is not {table.target_name})"
    return f"{table.verdict}: {subject} on {where} {_claim(table)}."


def _claim(table: ReportTable) -> str:
    confidence = f"at {table.confidence * 100:.6g} % confidence"
    if table.golden is not None and table.golden.outcome is Outcome.FAIL:
        return f"does not agree with the exported model: {table.golden.reason or 'goldens differ'}"
    if not table.checks:
        agrees = table.golden is not None and table.golden.outcome is Outcome.PASS
        return f"{'agrees with the exported model' if agrees else 'was not judged'}; no limit was given"
    listed = [_measured(check) for check in table.checks if check.outcome is table.verdict]
    words = {
        Outcome.PASS: f"keeps its budget {confidence}",
        Outcome.FAIL: f"misses its budget {confidence}",
        Outcome.INCONCLUSIVE: f"is not proven to keep its budget {confidence}, nor to miss it",
        Outcome.NOT_MEASURED: "is not proven, since not everything was measured",
    }
    return f"{words[table.verdict]}: {', '.join(listed)}"


def _measured(check: Check) -> str:
    if check.observed is None:
        return check.key
    verb = "" if check.outcome is Outcome.PASS else "against "
    return f"{check.key} {number(check.observed.estimate)} {verb}{limit(check)}"


def machine_name(machine: Machine) -> str:
    """The machine in a few words."""
    return machine.device_tree or machine.cpu or machine.arch


def conditions(table: ReportTable) -> str:
    """Under what the figures hold."""
    shape = ", ".join(f"{axis} {size}" for axis, size in table.workload.items())
    threads = "1 thread" if table.threads == 1 else f"{table.threads} threads"
    return f"{threads}, {shape}" if shape else threads


def figure_rows(table: ReportTable) -> Iterator[tuple[str, str]]:
    """What was measured, whether limited or not, as (what, how much)."""
    latencies = (("p50", table.latency_p50_ms), ("p90", table.latency_p90_ms), ("p99", table.latency_p99_ms))
    for name, found in latencies:
        if found is not None:
            yield f"latency {name}", f"{interval(found)} ms"
    if table.cold_start_ms is not None:
        yield "cold start, median of launches", f"{interval(table.cold_start_ms)} ms"
    if table.peak_memory_mib is not None:
        yield "memory over the engine's own, highest launch", f"{interval(table.peak_memory_mib)} MiB"
    yield "artifact", f"{number(table.artifact_mib)} MiB"
    if table.golden is not None:
        golden = table.golden
        yield "goldens", f"{golden.agreeing} of {golden.cases} agree, max error {golden.max_abs_error:.3g}"
    if table.accuracy is not None:
        yield from accuracy_rows(table.accuracy)


def accuracy_rows(found: AccuracyRecord) -> Iterator[tuple[str, str]]:
    """Artifact against exported model on the same rows."""
    yield found.metric, f"{found.artifact:.2%} (exported model {found.model:.2%}) on {found.rows} rows"
    yield "answers that changed", f"{found.flips} ({found.lost} lost, {found.gained} gained)"
    far = found.max_logit_distance
    yield "largest output distance", "not comparable" if far > 1e300 else f"{far:.3g}"


def runs_made(table: ReportTable) -> str:
    """How much was measured: "46 launches, 2,300 runs, 12 disturbed"."""
    runs = sum(len(record.latency_ms) for record in table.launches)
    disturbed = sum(sum(record.disturbed) for record in table.launches)
    return f"{len(table.launches)} launches, {runs:,} runs, {disturbed:,} disturbed"


def reproduce(manifest: Manifest) -> str:
    """The command that made the report, as far as the report knows it."""
    table = report_of(manifest)
    paths = {entry.role: entry.path for entry in manifest.inputs}
    words = ["edgekit", "validate", paths.get("artifact") or table.artifact_name]
    if paths.get("data"):
        words += ["--data", paths["data"]]
    for check in table.checks:
        if check.limit is not None:
            words += ["--budget", f"{check.key}={check.limit:.12g}"]
    words += ["--confidence", f"{table.confidence:.12g}", "--threads", str(table.threads)]
    if not table.checks:
        words.append("--no-budget")
    return shlex.join(words)


def machine_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    """The machine's fingerprint."""
    yield "processor", machine.cpu or "unknown"
    yield "architecture", f"{machine.arch}, {machine.system}"
    yield "cores", f"{machine.cores}, of which {number(machine.usable_cores)} may be used"
    yield "memory", f"{machine.memory_mib:,} MiB"
    optional = (
        ("board", machine.device_tree),
        ("GPU", ", ".join(machine.gpu)),
        ("CPU features", " ".join(machine.isa)),
        ("governor", machine.governor),
        ("Python", machine.python),
        ("emulated", "yes" if machine.emulated else ""),
    )
    yield from ((name, text) for name, text in optional if text)
