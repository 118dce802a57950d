"""`edgekit report`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import flags
from edgekit.cli.console import configure_logging, print_json


class Format(StrEnum):
    """How stdout looks."""

    TEXT = "text"
    MARKDOWN = "markdown"


class Latency(StrEnum):
    """By which percentile reports are ordered and compared."""

    P50 = "p50"
    P90 = "p90"


def report(
    reports: Annotated[
        list[Path],
        typer.Argument(
            help="Report directories written by `edgekit validate`, folders of them, or report.json files."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write one self-contained page (.html) with a plot as well."),
    ] = None,
    latency: Annotated[
        Latency, typer.Option(help="The latency by which reports are ordered and compared.")
    ] = Latency.P90,
    form: Annotated[
        Format, typer.Option("--format", help="What stdout gets; markdown suits a CI job's summary.")
    ] = Format.TEXT,
    fail_on_verdict: Annotated[
        bool,
        typer.Option("--fail-on-verdict", help="Exit with the worst verdict's code instead of 0."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the output file whatever it holds.")
    ] = False,
    json: flags.Json = False,
    verbose: flags.Verbose = 0,
) -> None:
    """Show several reports in one table, and which artifacts are not beaten by another.

    Figures are compared only between reports of the same machine, workload and threads. Not beaten:
    no alike report is at least as good in latency, size and accuracy and better in one of them.

    Example: edgekit report build/*.report -o build/overview.html
    """
    configure_logging(verbose)
    from edgekit.errors import UsageError
    from edgekit.report import overview_text
    from edgekit.stages.overview import look

    if json and form is not Format.TEXT:
        raise UsageError("--json and --format both say what stdout gets", hint="give one of them")
    found = look(reports, percentile=latency.value, page=output, force=force)
    if json:
        print_json(found.overview)
    else:
        render = overview_text.markdown if form is Format.MARKDOWN else overview_text.text
        print(render(found.overview))
    if output is not None and not json:
        print(output)
    raise typer.Exit(found.worst if fail_on_verdict else 0)
