"""`edgekit diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import flags
from edgekit.cli.ci import append_summary
from edgekit.cli.console import configure_logging, print_json, progress

_SIDE = "An artifact directory, an .edgekit file, or a report (its directory or report.json)."


def diff(
    old: Annotated[Path, typer.Argument(help=_SIDE)],
    new: Annotated[Path, typer.Argument(help="The same kinds; compared with OLD.")],
    fail_on: Annotated[
        str,
        typer.Option(
            help="Gates, with commas: slower, less-accurate, bigger, fallback. A FAIL exits with 1, an "
            "undecided one with 5."
        ),
    ] = "",
    margin: Annotated[float, typer.Option(help="Share of latency that NEW may be slower by.")] = 0.05,
    accuracy_margin: Annotated[
        float, typer.Option(help="Points of the metric that NEW may be worse by.")
    ] = 0.5,
    size_margin: Annotated[
        float, typer.Option(help="Share that NEW may be bigger by; 0: not a byte.")
    ] = 0.01,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="One-sided confidence of every bound.")
    ] = 0.99,
    max_seconds: Annotated[
        float, typer.Option(min=1, max=86400, help="Stop launching pairs after so long.")
    ] = 120.0,
    threads: flags.Threads = None,
    workload: flags.Workloads = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled test rows that both answer: .jsonl, .csv, .parquet, or a folder of images or "
            "recordings with a folder for each class."
        ),
    ] = None,
    columns: flags.Columns = "",
    labels: flags.Labels = "",
    metric: flags.Metric = "",
    device: Annotated[
        str, typer.Option(help="Where both run: `local`, or a device uri; default: the targets'.")
    ] = "",
    seed: flags.Seed = 0,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
) -> None:
    """Compare two builds: is NEW faster or slower, bigger, less accurate than OLD, and is that proven?

    Where both run here, they are launched in pairs, one directly after the other in turned order, and
    the median ratio of a pair gets bounds. Otherwise the samples of their reports are compared, which
    is said. Without --fail-on the exit code is 0 whatever the difference.

    Example: edgekit diff build/before build/after --fail-on slower,less-accurate --data test.jsonl
    """
    configure_logging(verbose)
    from edgekit.stages.diff import DiffOptions, exit_code
    from edgekit.stages.diff import diff as run_stage

    options = DiffOptions(
        fail_on=tuple(name.strip() for name in fail_on.split(",") if name.strip()),
        margin=margin,
        accuracy_margin=accuracy_margin,
        size_margin=size_margin,
        confidence=confidence,
        max_seconds=max_seconds,
        threads=threads,
        workload=tuple(workload or ()),
        device=device,
        data=data,
        columns=flags.mapping(columns, "--columns"),
        labels=flags.mapping(labels, "--labels"),
        metric=metric,
        seed=seed,
    )
    with progress(quiet=quiet or json) as on_progress:
        table = run_stage(old, new, options, on_progress)
    from edgekit.report.difference import markdown, plain

    append_summary(lambda: markdown(table))
    if json:
        print_json(table)
    else:
        print(plain(table))
    raise typer.Exit(exit_code(table))
