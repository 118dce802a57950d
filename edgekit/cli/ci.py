"""What a run tells the CI service that it runs in: a job summary, and one annotation for each open limit.

GitHub Actions alone is spoken to; other services read junit.xml. See "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from edgekit.cli.console import note
from edgekit.files.manifests import Manifest
from edgekit.values import Check, Outcome, ReportTable

_COMMANDS = {Outcome.FAIL: "error", Outcome.INCONCLUSIVE: "warning", Outcome.NOT_MEASURED: "warning"}


def announce(manifest: Manifest) -> None:
    """Tell the job what `manifest`, a report, concludes; nothing outside GitHub Actions.

    Appends to the file that GITHUB_STEP_SUMMARY names, and prints annotations on stderr when GITHUB_ACTIONS
    is "true". A summary that cannot be written is a note on stderr: the verdict does not hang on it.
    """
    from edgekit.report import render

    append_summary(lambda: render("markdown", manifest))
    if os.environ.get("GITHUB_ACTIONS") == "true" and manifest.report is not None:
        for line in workflow_commands(manifest.report):
            print(line, file=sys.stderr)


def workflow_commands(table: ReportTable) -> tuple[str, ...]:
    """One workflow command for each limit that is not PASS, and one when the goldens do not agree."""
    from edgekit.report import wording

    checks = list(table.checks)
    golden = table.golden
    if golden is not None:
        reason = golden.reason or f"{golden.agreeing} of {golden.cases} cases agree"
        checks.append(Check(key="goldens", limit=None, unit="", outcome=golden.outcome, reason=reason))
    lines = []
    for check in checks:
        if check.outcome not in _COMMANDS:
            continue
        title = f"{table.artifact_name}: {check.key} {check.outcome}"
        said = wording.why(check)
        if check.observed is not None:
            said = f"{wording.interval(check.observed)} {check.unit}, limit {wording.limit(check)}; {said}"
        lines.append(f"::{_COMMANDS[check.outcome]} title={_property(title)}::{_data(said)}")
    return tuple(lines)


def append_summary(text: Callable[[], str]) -> None:
    """Append markdown to the job's summary, when the job has one."""
    path = os.environ.get("GITHUB_STEP_SUMMARY", "")
    if not path:
        return
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text() + "\n")
    except (OSError, ValueError) as problem:  # ValueError: a path that no system takes
        note(f"the job summary was not written to GITHUB_STEP_SUMMARY={path}: {problem}")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
