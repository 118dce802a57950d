"""The JSON Schema of report.json, made from the values.

python -m tests.report.schema     # writes edgekit/report/report.schema.json anew
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from edgekit import report
from edgekit.report.jsonfmt import ReportDocument

PATH = Path(report.__file__).with_name("report.schema.json")


def report_schema() -> Any:
    """The schema as plain JSON data."""
    schema = json.loads(json.dumps(msgspec.json.schema(ReportDocument)))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgekit report.json",
        **schema,
    }


def without_descriptions(data: Any) -> Any:
    """The schema's rules alone: wording may change without notice."""
    if isinstance(data, dict):
        return {key: without_descriptions(value) for key, value in data.items() if key != "description"}
    return [without_descriptions(item) for item in data] if isinstance(data, list) else data


if __name__ == "__main__":
    PATH.write_text(json.dumps(report_schema(), indent=2) + "\n", encoding="utf-8")
