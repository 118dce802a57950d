"""The two sides of a diff: an artifact, a package or a report, verified before anything is believed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.files.digests import file_digest
from edgekit.files.manifests import MANIFEST_NAME, Manifest, manifest_kind, read_manifest, verify
from edgekit.measuring.footprint import MIB, artifact_mib, fallback
from edgekit.report.jsonfmt import REPORT_FILE, read_document
from edgekit.stages.parents import find_parent, table_of
from edgekit.values import ArtifactTable, DiffSide, InputEntry, ReportTable, RunSettings
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.reader import is_package, open_package
from edgekit_runtime.values import Placement

ARTIFACT, PACKAGE, REPORT = "artifact", "package", "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReport:
    """What a report has measured. data: digest of the rows that judged accuracy, "" for none."""

    table: ReportTable
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runnable:
    """An artifact with all that running and judging it takes. labels: the model's, in class order."""

    directory: Path
    table: ArtifactTable
    run: RunSettings
    task: str
    labels: tuple[str, ...]
    golden: Path
    processor: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """OLD or NEW. runnable and report are None for the reasons in no_run and no_report."""

    role: str
    shown: DiffSide
    runnable: Runnable | None
    report: StoredReport | None
    no_run: str = ""
    no_report: str = ""


def open_side(role: str, path: Path, scratch: ExitStack) -> Side:
    """Read and verify what lies at `path`; a package is unpacked until `scratch` closes.

    Raises UsageError for anything else than the three kinds, DigestMismatch, ManifestError or
    PackageError for one that is damaged.
    """
    if not path.exists():
        raise UsageError(f"{role}: {path}: no such file or directory", hint="check the path")
    if path.is_file():
        if path.suffix == ".json":
            return _report_file(role, path)
        if is_package(path) or path.suffix == ".edgekit":
            return _package(role, path, scratch)
        raise _neither(role, path)
    kind = manifest_kind(path)
    if kind == "model":
        raise UsageError(
            f"{role}: {path}: is an exported model, which runs nowhere yet",
            hint="make an artifact of it with `edgekit compile`",
        )
    if kind == REPORT:
        return _report_directory(role, path, path)
    if kind == ARTIFACT:
        return _artifact(role, path)
    read_manifest(path)  # explains a manifest that is damaged, missing or too new
    raise _neither(role, path)


def _neither(role: str, path: Path) -> UsageError:
    return UsageError(
        f"{role}: {path}: is no artifact, no .edgekit package and no report",
        hint="give what `edgekit compile`, `package` or `validate` wrote",
    )


def _artifact(role: str, path: Path) -> Side:
    manifest = read_manifest(path, ARTIFACT)
    verify(path, manifest)
    table = table_of(manifest.artifact)
    runnable, no_run = None, ""
    try:
        model = find_parent(path, manifest, "model", None)
        verify(model.path, model.manifest)
    except EdgekitError as problem:
        no_run = f"{role} cannot be run without its model: {problem.message}"
    else:
        model_table = table_of(model.manifest.model)
        runnable = Runnable(
            directory=path,
            table=table,
            run=table.run,
            task=model_table.task,
            labels=model_table.labels,
            golden=model.path / "golden",
            processor=model.path / "processor",
        )
    report, no_report = _report_beside(role, path, manifest)
    shown = _shown(path, ARTIFACT, manifest, table.run)
    return Side(role=role, shown=shown, runnable=runnable, report=report, no_run=no_run, no_report=no_report)


def _package(role: str, path: Path, scratch: ExitStack) -> Side:
    package = scratch.enter_context(open_package(path))
    packed, home = package.info.table, package.directory
    manifest = read_manifest(home / "artifact", ARTIFACT)
    verify(home / "artifact", manifest)
    run = RunSettings(threads=packed.threads, device=packed.device, options=packed.options)
    runnable = Runnable(
        directory=home / "artifact",
        table=table_of(manifest.artifact),
        run=run,
        task=packed.task,
        labels=packed.labels,
        golden=home / "golden",
        processor=home / "processor",
    )
    return Side(
        role=role,
        shown=_shown(path, PACKAGE, manifest, run),
        runnable=runnable,
        report=None,
        no_report=f"{role} is a package, which holds no samples: give the report of its artifact",
    )


def _shown(path: Path, kind: str, manifest: Manifest, run: RunSettings) -> DiffSide:
    table = table_of(manifest.artifact)
    recipe = table.recipe
    options = {f"compile option {name}": str(value) for name, value in recipe.options.items()}
    options |= {f"run option {name}": str(value) for name, value in run.options.items()}
    options |= {
        "nodes kept high": ", ".join(recipe.keep_high),
        "calibration rows": str(recipe.calibration_rows),
        "device": run.device,
    }
    return placed(
        DiffSide(
            path=str(path),
            kind=kind,
            name=manifest.name,
            digest=manifest.digest,
            backend=table.backend,
            backend_version=table.backend_version,
            precision=table.precision,
            target=table.target.name,
            threads=run.threads,
            bytes=round(artifact_mib(manifest.files) * MIB),
            engine_versions=table.engine_versions,
            options=options,
        ),
        table.placement,
        run.device,
    )


def placed(shown: DiffSide, placement: Placement | None, device: str) -> DiffSide:
    """The side with where its nodes ran, and what share of the work that makes fallback."""
    share = fallback(placement, shown.precision, device) if placement is not None else None
    return dataclasses.replace(
        shown,
        placement=placement,
        fallback=share.share if share is not None else None,
        fallback_basis=share.basis if share is not None else "",
    )


def _report_beside(role: str, path: Path, manifest: Manifest) -> tuple[StoredReport | None, str]:
    """ARTIFACT.report when it is the report of this very artifact, else why not."""
    beside = path.resolve().with_name(path.resolve().name + ".report")
    if not beside.is_dir():
        return None, f"{role} has no report at {beside.name}: make it with `edgekit validate`"
    try:
        stored = _stored(beside)
    except EdgekitError as problem:
        return None, f"{role}'s report cannot be read: {problem.message}"
    written_for = stored.table.artifact_manifest
    other = stored.table.artifact_digest != manifest.digest
    if other or (written_for and written_for != file_digest(path / MANIFEST_NAME)):
        return None, f"{beside.name} is the report of another artifact, or of an earlier one"
    return stored, ""


def _stored(directory: Path) -> StoredReport:
    manifest = read_manifest(directory, REPORT)
    verify(directory, manifest)
    return StoredReport(table=table_of(manifest.report), data=manifest.input_digest("data"))


def _report_file(role: str, path: Path) -> Side:
    """report.json: of the directory it lies in when that is a report, else alone, unverified."""
    if path.name == REPORT_FILE and manifest_kind(path.parent) == REPORT:
        return _report_directory(role, path, path.parent)
    document = read_document(path)
    data = _digests(document.inputs).get("data", "")
    return _from_report(role, path, StoredReport(table=document.report, data=data), document.name)


def _report_directory(role: str, path: Path, directory: Path) -> Side:
    return _from_report(role, path, _stored(directory), read_manifest(directory, REPORT).name)


def _digests(inputs: tuple[InputEntry, ...]) -> Mapping[str, str]:
    return {entry.role: entry.digest for entry in inputs}


def _from_report(role: str, path: Path, stored: StoredReport, name: str) -> Side:
    table = stored.table
    shown = DiffSide(
        path=str(path),
        kind=REPORT,
        name=name,
        digest=table.artifact_digest,
        backend=table.backend,
        precision=table.precision,
        target=table.target_name,
        threads=table.threads,
        bytes=round(table.artifact_mib * MIB),
    )
    rows = table.placement.rows if table.placement is not None else ()
    device = max(rows, key=lambda row: row.nodes).device if rows else "cpu"  # a report does not tell it
    return Side(
        role=role,
        shown=placed(shown, table.placement, device),
        runnable=None,
        report=stored,
        no_run=f"{role} is a report",
    )
