"""The words and numbers that all formats share, so that no two of them say different things."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from edgekit.errors import UsageError
from edgekit.files.manifests import Manifest
from edgekit.values import Check, GeneratedRecord, Interval, Outcome, ReportTable
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


def assumes(check: Check) -> str:
    """What the outcome rests on, to print beside it: "assumes: ..."; "" when there is nothing."""
    return f"assumes: {check.assumption}" if check.assumption else ""


def grounds(check: Check) -> str:
    """The reason and the method in one string."""
    return " ".join(part for part in (check.reason, f"[{check.method}]" if check.method else "") if part)


def why(check: Check) -> str:
    """What the outcome assumes, the reason and the method in one string."""
    return "; ".join(part for part in (assumes(check), grounds(check)) if part)


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
    if table.golden is not None and table.golden.outcome is Outcome.NOT_MEASURED:
        return f"is not proven: it was not run: {table.golden.reason}"
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
    resting = f" ({assumes(check)})" if check.assumption else ""
    return f"{check.key} {number(check.observed.estimate)} {verb}{limit(check)}{resting}"


def machine_name(machine: Machine) -> str:
    """The machine in a few words."""
    return machine.device_tree or machine.cpu or machine.arch


def conditions(table: ReportTable) -> str:
    """Under what the figures hold."""
    parts = ["1 thread" if table.threads == 1 else f"{table.threads} threads"]
    if table.streams > 1:
        parts.append(f"{table.streams} streams")
    if len(table.shapes) > 1:
        parts.append(mix(table))
    elif table.workload and table.workload_source == "data":
        parts.append(f"shapes of the given rows (median: {shape(table.workload)})")
    elif table.workload:
        parts.append(shape(table.workload))
    if table.heat is not None:
        parts.append(f"after {number(table.heat.seconds)} s of heat-up")
    return ", ".join(parts)


def generated(found: GeneratedRecord) -> str:
    """How many tokens were generated: "9 to 31 tokens, median 12"."""
    if found.least == found.most:
        return "1 token" if found.most == 1 else f"{found.most} tokens"
    return f"{found.least} to {found.most} tokens, median {found.median}"


def shape(sizes: Mapping[str, int]) -> str:
    """One shape: "batch 1, sequence 128"."""
    return ", ".join(f"{axis} {size}" for axis, size in sizes.items())


def mix(table: ReportTable) -> str:
    """The mix of shapes: "12 shapes (batch 1, sequence 8 to 128)"."""
    axes = dict.fromkeys(axis for sizes in table.shapes for axis in sizes)
    ranges = []
    for axis in axes:
        sizes = sorted(each[axis] for each in table.shapes if axis in each)
        ranges.append(f"{axis} {sizes[0]}" if sizes[0] == sizes[-1] else f"{axis} {sizes[0]} to {sizes[-1]}")
    return f"{len(table.shapes)} shapes ({', '.join(ranges)})"


def runs_made(table: ReportTable) -> str:
    """How much was measured: "46 launches, 2,300 runs, 12 disturbed", and answers of how many tokens."""
    runs = sum(len(record.latency_ms) for record in table.launches)
    disturbed = sum(sum(record.disturbed) for record in table.launches)
    answers = "" if table.generated is None else f", answers of {generated(table.generated)}"
    return f"{len(table.launches)} launches, {runs:,} runs, {disturbed:,} disturbed{answers}"


def reproduce(manifest: Manifest) -> str:
    """The command that made the report; of a report that kept none, as far as its figures tell it."""
    table = report_of(manifest)
    if table.reproduce:
        return table.reproduce
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
