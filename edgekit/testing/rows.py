"""A pytest plugin that writes one JSON line per test: its name, what came of it, and why."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgekit.testing.runner import NEEDS_DEVICE, ROWS_VARIABLE, total_file


def pytest_collection_finish(session: pytest.Session) -> None:
    """How many tests there will be, for whoever shows progress."""
    total_file(Path(os.environ[ROWS_VARIABLE])).write_text(str(len(session.items)), encoding="utf-8")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One line for the call, or for the set-up or tear-down when that is where it ended."""
    if report.when == "call" or report.outcome != "passed":
        row = {"test": report.nodeid.rpartition("::")[2], **_outcome(report)}
        with Path(os.environ[ROWS_VARIABLE]).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


def _outcome(report: pytest.TestReport) -> dict[str, str]:
    if report.outcome == "skipped":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        reason = reason.removeprefix("Skipped: ")
        for outcome in ("blocked", "not claimed", "not available", NEEDS_DEVICE):
            if reason.startswith(outcome):
                return {"outcome": outcome, "reason": reason}
        return {"outcome": "skipped", "reason": reason}
    return {"outcome": report.outcome, "reason": report.longreprtext if report.outcome == "failed" else ""}
