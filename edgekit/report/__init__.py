"""A report in the forms that people and CI read. Every format is a `ReportFormat`, ours and a plugin's alike.

wording.py    the same words and numbers for every format; the verdict line
figures.py    what was measured, as rows
terminal.py   a compact table          jsonfmt.py   report.json
html.py       one page, no network     junit.py     one test case for each limit
markdown.py   for a job's summary      charts/      the page's drawings
calibrating.py  what the artifact was calibrated on
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from edgekit.discovery import PASSES_WALLS, plugin_report_formats, resolve
from edgekit.errors import PluginBroken, PluginConflict, PluginError, UnknownName
from edgekit.files.manifests import MANIFEST_NAME, Manifest
from edgekit.files.tables import nearest
from edgekit.hooktypes import ReportFormat
from edgekit_runtime.errors import EdgekitError, ManifestError
from edgekit_runtime.manifests import safe_relative

#: A format without a filename is shown, not written.
OWN_FORMATS = (
    ReportFormat(name="terminal", filename="", writer="edgekit.report.terminal:render"),
    ReportFormat(name="json", filename="report.json", writer="edgekit.report.jsonfmt:render"),
    ReportFormat(name="html", filename="report.html", writer="edgekit.report.html:render"),
    ReportFormat(name="junit", filename="junit.xml", writer="edgekit.report.junit:render"),
    ReportFormat(name="markdown", filename="report.md", writer="edgekit.report.markdown:render"),
)

Writer = Callable[[Manifest], str]


def report_formats() -> tuple[ReportFormat, ...]:
    """Every format, ours first. Raises PluginConflict for a name or a filename that is taken twice."""
    formats = (*OWN_FORMATS, *plugin_report_formats())
    names: set[str] = set()
    files = {MANIFEST_NAME}
    for each in formats:
        if each.name in names or (each.filename and each.filename in files):
            raise PluginConflict(
                f"two report formats are called {each.name!r} or write {each.filename!r}",
                hint="uninstall the plugin that brings one of them",
            )
        names.add(each.name)
        files.add(each.filename)
    return formats


def render(name: str, manifest: Manifest) -> str:
    """The report in one format. Raises UnknownName, or PluginError when a plugin's writer fails."""
    formats = {each.name: each for each in report_formats()}
    if name not in formats:
        raise UnknownName(f"there is no report format {name!r}", hint=nearest(name, formats))
    return _render(formats[name], manifest)


def write_report_files(directory: Path, manifest: Manifest) -> tuple[Path, ...]:
    """Write every format that has a filename into `directory`; the manifest itself is not ours to write."""
    written = []
    for each in report_formats():
        if not each.filename:
            continue
        path = directory / _plain_name(each)
        path.write_text(_render(each, manifest), encoding="utf-8")
        written.append(path)
    return tuple(written)


def _plain_name(each: ReportFormat) -> str:
    try:
        plain = len(safe_relative(each.filename).parts) == 1
    except ManifestError:
        plain = False
    if not plain:
        raise PluginBroken(
            f"report format {each.name!r} wants to write {each.filename!r}", hint="report this to its author"
        )
    return each.filename


def _render(each: ReportFormat, manifest: Manifest) -> str:
    writer = resolve(each.writer)
    if not callable(writer):
        raise PluginBroken(f"report format {each.name!r}: {each.writer} is not callable")
    try:
        text: object = cast(Writer, writer)(manifest)
    except (EdgekitError, *PASSES_WALLS):
        raise
    except BaseException as cause:  # the call wall: a report format may be a plugin's
        raise PluginError(
            f"report format {each.name!r} failed: {type(cause).__name__}: {cause}",
            hint="report this to its author; every other format works without it",
        ) from cause
    if not isinstance(text, str):
        raise PluginBroken(f"report format {each.name!r} returned {type(text).__name__}, not text")
    return text
