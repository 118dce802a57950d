"""What is inside a model, artifact, report or package, and where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.files.manifests import Manifest, read_manifest, verify
from edgekit.report.calibrating import calibration_rows
from edgekit.values import ArtifactTable, ModelTable, ReportTable, Target
from edgekit_runtime.package_info import PackageInfo, doubts
from edgekit_runtime.pipelines import Pipeline, read_pipeline
from edgekit_runtime.reader import read_info
from edgekit_runtime.values import Placement, Signature, TensorSpec

MIB = 1024 * 1024
#: Labels shown; a model of images has a thousand.
MOST_LABELS = 12
#: Inputs or outputs of a part that are named; a decoder has four for each layer.
MOST_TENSORS = 4


def inspect_path(path: Path) -> Manifest | PackageInfo:
    """Read and verify a directory or package; every file is hashed.

    Raises ManifestError, DigestMismatch or PackageError naming the file that is wrong.
    """
    if path.is_dir():
        manifest = read_manifest(path)
        verify(path, manifest)
        return manifest
    if not path.exists():
        raise UsageError(f"{path}: no such file or directory", hint="check the path")
    return read_info(path)


def summary(path: Path, found: Manifest | PackageInfo) -> str:
    """`edgekit inspect` for a person."""
    if isinstance(found, PackageInfo):
        return "\n".join(_package_lines(path, found))
    lines = [f"{path}: edgekit {found.kind} {found.name!r}, made {found.created} by edgekit {found.edgekit}"]
    lines.append(f"  digest      {found.digest} (verified)")
    for entry in found.inputs:
        lines.append(f"  made from   {entry.role}: {entry.path or '(value)'} {entry.digest[:19]}…")
    if found.model is not None:
        lines += _model_lines(found.model)
    lines += _pipeline_lines(read_pipeline(path))
    if found.artifact is not None:
        lines += _artifact_lines(found.artifact)
    if found.report is not None:
        lines += _report_lines(found.report)
    lines.append("  files")
    lines += [f"    {entry.size / MIB:9.2f} MiB  {entry.path}" for entry in found.files]
    return "\n".join(lines)


#: Values of keys that say nothing.
_NOTHING: tuple[object, ...] = ("", {}, [], (), None)


def target_summary(target: Target) -> str:
    """`edgekit target show` for a person: every key that says something."""
    from edgekit.files.tables import encode

    lines = [f"{target.name}: {target.summary}"]
    for key, value in encode(target).items():
        if key in ("name", "summary", "schema") or value in _NOTHING:
            continue
        if not isinstance(value, dict):
            lines.append(f"  {key:<16}{value}")
            continue
        shown = {name: item for name, item in value.items() if item not in _NOTHING}
        lines += [f"  {key}"] * bool(shown) + [
            f"    {name:<16}{_value(item)}" for name, item in shown.items()
        ]
    return "\n".join(lines)


def _value(item: object) -> str:
    return ", ".join(map(str, item)) if isinstance(item, (list, tuple)) else str(item)


def _signature_lines(signature: Signature) -> list[str]:
    lines = []
    for title, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            lines.append(f"  {title:<12}{spec.name}: {spec.dtype} [{', '.join(map(str, spec.shape))}]")
    return lines


def _model_lines(table: ModelTable) -> list[str]:
    passed = sum(check.passed for check in table.checks)
    worst = max((check.max_abs_error for check in table.checks), default=0.0)
    source = ", ".join(f"{key} {value}" for key, value in table.source.items())
    return [
        f"  task        {table.task}{_labels(table.labels)}",
        f"  source      {source}",
        f"  opset       {table.opset}",
        *_signature_lines(table.signature),
        *_axis_lines(table),
        *_part_lines(table),
        f"  checks      {passed} of {len(table.checks)} passed, largest error {worst:.1e} "
        f"(tolerance {table.tolerance.atol:g} + {table.tolerance.rtol:g}·|x|)",
        f"  tools       {', '.join(f'{name} {version}' for name, version in table.tool_versions.items())}",
    ]


def _part_lines(table: ModelTable) -> list[str]:
    lines = []
    for part, signature in table.parts.items():
        inputs, outputs = (_short(specs) for specs in (signature.inputs, signature.outputs))
        lines.append(f"  part        {part}: {inputs} -> {outputs}")
    return lines


def _short(specs: Sequence[TensorSpec]) -> str:
    """Names of tensors; of many the first ones."""
    shown = ", ".join(spec.name for spec in specs[:MOST_TENSORS])
    more = len(specs) - MOST_TENSORS
    return f"{shown} and {more} more" if more > 0 else shown


def _pipeline_lines(pipeline: Pipeline | None) -> list[str]:
    if pipeline is None:
        return []
    most = pipeline.generation.max_tokens
    how = f"greedy, at most {most} tokens"
    return [f"  generates   by {' and '.join(pipeline.parts)} ({pipeline.kind}): {how}"]


def _labels(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:MOST_LABELS])
    more = len(labels) - MOST_LABELS
    return f" ({shown}{f' and {more} more' if more > 0 else ''})" if shown else ""


def _axis_lines(table: ModelTable) -> list[str]:
    ends = [
        f"{name} {low} to {high}" if high is not None else f"{name} {low} and more"
        for name, (low, high) in table.axes.items()
    ]
    return [f"  axes        {', '.join(ends)}"] if ends else []


def _artifact_lines(table: ArtifactTable) -> list[str]:
    engines = ", ".join(f"{name} {version}" for name, version in table.engine_versions.items())
    lines = [
        f"  target      {table.target.name}",
        f"  backend     {table.backend} {table.backend_version} ({engines})",
        f"  precision   {table.precision}",
        f"  built on    {table.built_on.cpu or table.built_on.arch}",
        *_signature_lines(table.signature),
    ]
    lines += [f"  note        {line}" for line in table.notes]
    if table.calibration is not None:
        lines.append("  calibrated on")
        lines += [f"    {name:<14}{value}" for name, value in calibration_rows(table.calibration)]
        lines += [f"    warning: {line}" for line in table.calibration.warnings]
    return lines + (_placement_lines(table.placement) if table.placement is not None else [])


def _placement_lines(placement: Placement) -> list[str]:
    lines = [f"  executed    {placement.source}"]
    for row in placement.rows:
        share = "" if row.time_share is None else f", {row.time_share:.0%} of the time"
        lines.append(f"    {row.nodes:5d} nodes {row.precision} on {row.device}{share}")
    return lines


def _report_lines(table: ReportTable) -> list[str]:
    lines = [f"  verdict     {table.verdict} at {table.confidence:g}", f"  artifact    {table.artifact_name}"]
    lines += [f"    {check.outcome:<13} {check.key} {check.reason}".rstrip() for check in table.checks]
    return lines


def _package_lines(path: Path, info: PackageInfo) -> list[str]:
    table = info.table
    engines = ", ".join(f"{name} {version}" for name, version in table.engine_versions.items())
    lines = [
        f"{path}: edgekit package {info.name!r}, made {info.created} by edgekit {info.edgekit}",
        f"  digest      {info.digest} (verified)",
        *(f"  made from   {entry.role}: {entry.digest[:19]}…" for entry in info.inputs),
        f"  task        {table.task}{_labels(table.labels)}",
        f"  backend     {table.backend} {table.backend_version}, {table.precision} ({engines})",
        f"  target      {table.target}, {table.threads} thread(s) on {table.device}",
        f"  tolerance   {table.tolerance.atol:g} + {table.tolerance.rtol:g}·|x| against the original in fp32",
        *_signature_lines(table.signature),
        f"  verdict     {table.verdict} at {table.confidence:g}"
        + (f" on {table.machine}" if table.machine else ""),
        *(f"    {line.outcome:<13} {line.key} {line.limit:g} {line.unit}".rstrip() for line in table.budget),
        *(f"  {line}" for line in doubts(info)),
        "  files",
    ]
    return lines + [f"    {entry.size / MIB:9.2f} MiB  {entry.path}" for entry in info.files]
