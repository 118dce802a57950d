"""From a report's verdict to the process's exit code."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.files.manifests import Manifest
from edgekit.values import Outcome

EXIT_CODES = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 5, Outcome.NOT_MEASURED: 5}


def worst_exit_code(codes: Iterable[int]) -> int:
    """One exit code for several findings: usage first, then 1 before 4 before 5 before 0."""
    order = (2, 3, 1, 4, 5, 0)
    return min(codes, key=order.index, default=0)


def exit_code(manifest: Manifest) -> int:
    """0 all proven, 1 a budget failed, 5 inconclusive or not measured.

    A report that was asked to judge nothing is 0 unless the goldens differ, or nothing could be run.
    """
    report = manifest.report
    if report is None:
        return 5
    run = report.golden is None or report.golden.outcome is not Outcome.NOT_MEASURED
    if run and not report.checks and report.verdict is Outcome.NOT_MEASURED:
        return 0
    return EXIT_CODES[report.verdict]
