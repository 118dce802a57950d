"""Many reports in one table and one page. Reads report directories, verified, and loose report.json files."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

from edgekit.errors import OutputError, UsageError
from edgekit.files.digests import value_digest
from edgekit.files.directories import new_file
from edgekit.files.manifests import MANIFEST_NAME, Manifest, manifest_kind, read_manifest, verify
from edgekit.files.tables import decode, read_json
from edgekit.report.jsonfmt import REPORT_FILE, REPORT_SCHEMA, ReportDocument
from edgekit.report.overview import Overview, Percentile, overview
from edgekit.report.overview_rows import Source
from edgekit.stages.verdicts import exit_code, worst_exit_code
from edgekit_runtime.errors import ManifestError

PAGE_FILE = "report.html"
_HEAD_BYTES = 2048
_HINT = "give report directories written by `edgekit validate`, their report.json, or a folder of them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """The overview, and the exit code of the worst verdict in it."""

    overview: Overview
    worst: int


def look(
    paths: Sequence[Path], *, percentile: Percentile = "p90", page: Path | None = None, force: bool = False
) -> Looked:
    """Read, verify and compare the reports at `paths`; write the page when `page` is given.

    force: let the page replace any plain file. Raises UsageError when a path holds no report or a report
    comes twice, ManifestError and DigestMismatch for a damaged one, OutputError and OutputBusy for the page.
    """
    if page is not None:
        _refuse_page(page, force=force)
    sources = read_reports(paths, page)
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    found = overview(sources, percentile, created, metadata.version("edgekit"))
    if page is not None:
        from edgekit.report.overview_page import render

        text = render(found)
        with new_file(page) as temporary:
            _write(temporary, text)
    return Looked(overview=found, worst=worst_exit_code(exit_code(each.manifest) for each in sources))


def read_reports(paths: Sequence[Path], page: Path | None = None) -> tuple[Source, ...]:
    """Every report at `paths`; links to their pages lead from where `page` will be."""
    sources: list[Source] = []
    places: dict[Path, Path] = {}
    contents: dict[str, Path] = {}
    for path in (found for given in paths for found in _reports_at(given)):
        place = path.resolve()
        if place in places:
            raise _twice(path, places[place], "is")
        places[place] = path
        source = _read(path, page)
        content = value_digest((source.manifest.created, source.manifest.report))
        if content in contents:
            raise _twice(path, contents[content], "holds the same report as")
        contents[content] = path
        sources.append(source)
    if not sources:
        raise UsageError("no report was given", hint=_HINT)
    return tuple(sources)


def _refuse_page(page: Path, *, force: bool) -> None:
    """Raise OutputError when the page would replace something else, or lie inside an edgekit directory."""
    if page.is_symlink() or (page.exists() and not page.is_file()):
        raise OutputError(f"{page}: exists and is not a plain file", hint="choose another --output")
    if page.is_file() and page.stat().st_size and not force and not _is_page(page):
        raise OutputError(
            f"{page}: exists and is not an overview page of edgekit",
            hint="choose another --output, or give --force to replace it",
        )
    for parent in page.absolute().parents:
        if kind := manifest_kind(parent):
            raise OutputError(
                f"{page}: lies inside {parent}, an edgekit {kind} directory, whose files are all listed",
                hint="choose another --output",
            )


def _is_page(page: Path) -> bool:
    from edgekit.report.overview_page import GENERATOR

    with page.open("rb") as stream:
        return GENERATOR.encode() in stream.read(_HEAD_BYTES)


def _reports_at(given: Path) -> list[Path]:
    """The report directories and report.json files that a path of the user's stands for."""
    if not given.exists():
        raise UsageError(f"{given}: no such file or directory", hint=_HINT)
    if not given.is_dir():
        has_manifest = given.name == REPORT_FILE and (given.parent / MANIFEST_NAME).exists()
        # a manifest that cannot be read may be this report's: better refused than left unverified
        is_part = has_manifest and manifest_kind(given.parent) in ("report", "")
        return [given.parent if is_part else given]
    if _looks_like_report(given) or (given / MANIFEST_NAME).exists():
        return [given]
    below = sorted(path for path in given.iterdir() if path.is_dir() and _looks_like_report(path))
    if not below:
        raise UsageError(f"{given}: holds no report, and none lies one level below it", hint=_HINT)
    return below


def _looks_like_report(directory: Path) -> bool:
    """Whether it is one, or was meant to be: a damaged one must not be passed over."""
    if directory.name.startswith("."):
        return False
    meant = directory.name.endswith(".report") and (directory / MANIFEST_NAME).exists()
    return meant or (directory / REPORT_FILE).exists() or manifest_kind(directory) == "report"


def _read(path: Path, page: Path | None) -> Source:
    if not path.is_dir():
        return Source(path=str(path), manifest=_read_document(path), verified=False)
    manifest = read_manifest(path, "report")
    verify(path, manifest)
    link = _link(path / PAGE_FILE, page) if page is not None and (path / PAGE_FILE).is_file() else ""
    return Source(path=str(path), manifest=manifest, verified=True, page=link)


def _read_document(path: Path) -> Manifest:
    """A loose report.json as the manifest that it was written from, without the files."""
    data = read_json(path)
    if not isinstance(data, dict) or data.get("kind") != "report" or "verdict" not in data:
        raise ManifestError(f"{path}: is not a report.json of edgekit", hint=_HINT)
    if isinstance(data.get("schema"), int) and data["schema"] > REPORT_SCHEMA:
        raise ManifestError(
            f"{path}: schema {data['schema']} is newer than this edgekit reads ({REPORT_SCHEMA})",
            hint="upgrade edgekit",
        )
    found = decode(data, ReportDocument, where=str(path))
    return Manifest(
        schema=found.schema,
        kind=found.kind,
        name=found.name,
        created=found.created,
        edgekit=found.edgekit,
        inputs=found.inputs,
        files=(),
        digest="",
        report=found.report,
    )


def _link(target: Path, page: Path) -> str:
    """`target` as seen from the page, as a URL."""
    try:
        relative = os.path.relpath(target.resolve(), page.absolute().parent.resolve())
    except ValueError:  # another drive
        return target.resolve().as_uri()
    return quote(Path(relative).as_posix())


def _twice(path: Path, other: Path, what: str) -> UsageError:
    return UsageError(f"{path}: {what} {other}, which was given too", hint="give each report once")


def _write(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
