"""report.json: the report for programs. Its schema lies beside this file, in report.schema.json.

Keys are added without notice, and a reader must take a key that is absent for its default; when one changes
its meaning, `schema` counts up. `accuracy.lost` and `accuracy.gained` are null for a metric that is no count
of right rows: no report of such a metric was written before it, so `schema` did not count up for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgekit.files.manifests import Manifest
from edgekit.files.tables import decode, encode, read_json
from edgekit.report.wording import report_of, verdict_line
from edgekit.values import InputEntry, Outcome, ReportTable

REPORT_SCHEMA = 1
REPORT_FILE = "report.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDocument:
    """The content of report.json. verdict and line repeat what the table says, for quick readers."""

    schema: int
    kind: str
    name: str
    created: str
    edgekit: str
    verdict: Outcome
    line: str
    inputs: tuple[InputEntry, ...]
    report: ReportTable


def render(manifest: Manifest) -> str:
    """The report as JSON, ending in a newline."""
    table = report_of(manifest)
    document = ReportDocument(
        schema=REPORT_SCHEMA,
        kind="report",
        name=manifest.name,
        created=manifest.created,
        edgekit=manifest.edgekit,
        verdict=table.verdict,
        line=verdict_line(table),
        inputs=manifest.inputs,
        report=table,
    )
    return json.dumps(encode(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_document(path: Path) -> ReportDocument:
    """Read a report.json. Raises ManifestError for anything that is none."""
    return decode(read_json(path), ReportDocument, where=str(path))
