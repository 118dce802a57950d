"""package: artifact + its report -> one .edgekit file that tests itself where it lands."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import PackageRefused
from edgekit.files.digests import file_digest
from edgekit.files.manifests import MANIFEST_NAME, read_manifest, verify
from edgekit.packaging.writer import PackageContents, write_package
from edgekit.report.jsonfmt import REPORT_FILE, read_document
from edgekit.stages.common import same_inputs, tell, value_input
from edgekit.stages.parents import find_parent, table_of
from edgekit.tasks import load_task
from edgekit.values import ArtifactTable, InputEntry, ModelTable, Outcome, ReportTable
from edgekit_runtime.errors import DigestMismatch, EdgekitError, ManifestError
from edgekit_runtime.package_info import BudgetLine, PackageInfo, PackageTable
from edgekit_runtime.reader import read_info


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageOptions:
    """report: the report directory, by default ARTIFACT.report; model: by default where the artifact
    says; allow_failed: package without a passing report, recorded in the package; name: by default
    the artifact's; with_source: the model's ONNX goes along, so that a device can build its own artifact.
    """

    report: Path | str | None = None
    model: Path | str | None = None
    allow_failed: bool = False
    name: str = ""
    force: bool = False
    with_source: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageResult:
    """The file that was written, or found up to date, and what it says about itself."""

    path: Path
    info: PackageInfo
    up_to_date: bool


def package(artifact: Path | str, output: Path | str, options: PackageOptions | None = None) -> PackageResult:
    """Put an artifact, its processor and its goldens into one file.

    Raises PackageRefused (exit code 1) when the report is missing, of another artifact, FAIL or
    INCONCLUSIVE, unless `allow_failed`; DigestMismatch when a file was changed since it was made.
    """
    started = time.monotonic()
    artifact, output, options = Path(artifact), Path(output), options or PackageOptions()
    manifest = read_manifest(artifact, "artifact")
    table = table_of(manifest.artifact)
    model = find_parent(artifact, manifest, "model", options.model)
    report = _report(artifact, options)
    packed = _package_table(table, table_of(model.manifest.model), report, options)
    name = options.name or manifest.name
    inputs = (
        InputEntry(role="artifact", digest=file_digest(artifact / MANIFEST_NAME)),
        InputEntry(role="model", digest=model.manifest.digest),
        value_input("settings", {"table": packed, "name": name, "with_source": options.with_source}),
    )
    found = None if options.force else _up_to_date(output, inputs)
    if found is None:
        verify(artifact, manifest)
        verify(model.path, model.manifest)
        contents = _contents(artifact, model.path, with_source=options.with_source)
        info = write_package(output, table=packed, contents=contents, name=name, inputs=inputs)
    else:
        info = found
    tell("package", output, started, up_to_date=found is not None, verdict=Outcome(packed.verdict))
    return PackageResult(path=output, info=info, up_to_date=found is not None)


def _contents(artifact: Path, model: Path, *, with_source: bool) -> PackageContents:
    processor = model / "processor"
    return PackageContents(
        artifact=artifact,
        processor=processor if processor.is_dir() else None,
        golden=model / "golden",
        source=model if with_source else None,
    )


def _report(artifact: Path, options: PackageOptions) -> ReportTable | None:
    """The artifact's own report as it was written; None when there is none and that is allowed."""
    path = Path(options.report) if options.report else artifact.with_name(artifact.name + ".report")
    try:
        manifest = read_manifest(path, "report")
    except ManifestError as problem:
        if options.allow_failed:
            return None
        raise PackageRefused(
            f"{artifact}: no report to go by: {problem.message}",
            hint="run `edgekit validate` first, or record that it is unproven with --allow-failed",
        ) from problem
    verify(path, manifest)
    report = table_of(manifest.report)
    if read_document(path / REPORT_FILE).report != report:
        raise DigestMismatch(
            f"{path / MANIFEST_NAME}: does not say what {REPORT_FILE} says",
            hint="run `edgekit validate` again",
        )
    if report.artifact_manifest != file_digest(artifact / MANIFEST_NAME):
        if options.allow_failed:
            return None
        hint = "run `edgekit validate` again"
        raise PackageRefused(f"{path}: is the report of another artifact, or of an earlier one", hint=hint)
    if report.verdict in (Outcome.FAIL, Outcome.INCONCLUSIVE) and not options.allow_failed:
        open_checks = (check for check in report.checks if check.outcome is not Outcome.PASS)
        lines = "; ".join(f"{check.key} {check.outcome}" for check in open_checks)
        raise PackageRefused(
            f"{artifact}: its report says {report.verdict} ({lines or 'the goldens differ'})",
            hint="meet the budget, measure longer, or record it with --allow-failed",
        )
    return report


def _package_table(
    artifact: ArtifactTable, model: ModelTable, report: ReportTable | None, options: PackageOptions
) -> PackageTable:
    checks = report.checks if report is not None else ()
    verdict = report.verdict if report is not None else Outcome.NOT_MEASURED
    unproven = [check.key for check in checks if check.outcome is not Outcome.PASS]
    if report is not None and report.golden is not None and report.golden.outcome is Outcome.NOT_MEASURED:
        unproven.insert(0, "answers")
    if not checks:
        why = "no report" if report is None else "validated without a budget"
        unproven.append(f"everything: {why}")
    machine = report.machine if report is not None else None
    return PackageTable(
        backend=artifact.backend,
        backend_version=artifact.backend_version,
        precision=artifact.precision,
        task=model.task,
        answers=load_task(model.task).answers,
        signature=artifact.signature,
        tolerance=model.tolerance,
        verdict=verdict,
        confidence=report.confidence if report is not None else 0.0,
        threads=report.threads if report is not None else artifact.run.threads,
        device=artifact.run.device,
        options=artifact.run.options,
        labels=model.labels,
        engine_versions=artifact.engine_versions,
        budget=tuple(
            BudgetLine(key=check.key, limit=check.limit, unit=check.unit, outcome=check.outcome)
            for check in checks
            if check.limit is not None
        ),
        unproven=tuple(unproven),
        allow_failed=options.allow_failed and verdict is not Outcome.PASS,
        target=report.target_name if report is not None else artifact.target.name,
        machine=(machine.cpu or machine.arch) if machine is not None else "",
    )


def _up_to_date(output: Path, inputs: tuple[InputEntry, ...]) -> PackageInfo | None:
    if not output.is_file():
        return None
    try:
        info = read_info(output)
    except EdgekitError:
        return None
    return info if same_inputs(info.inputs, inputs) else None
