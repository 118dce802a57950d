"""`edgekit validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import flags
from edgekit.cli.ci import announce
from edgekit.cli.console import configure_logging, note, print_json, progress


def validate(
    artifact: Annotated[Path, typer.Argument(help="An artifact directory written by `edgekit compile`.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled test rows that judge accuracy: .jsonl, .csv, .parquet, or a folder of images or "
            "recordings with a folder for each class."
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="The exported model; default: where the artifact's manifest says.")
    ] = None,
    target: Annotated[
        str, typer.Option(help="Take budget and workload from this target instead of the artifact's own.")
    ] = "",
    budget: flags.Budgets = None,
    no_budget: Annotated[bool, typer.Option("--no-budget", help="Measure without judging.")] = False,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="One-sided confidence of every claim.")
    ] = 0.99,
    max_seconds: Annotated[
        float, typer.Option(min=1, max=86400, help="Stop measuring after so long: INCONCLUSIVE.")
    ] = 120.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Report directory; default: ARTIFACT.report.")
    ] = None,
    workload: flags.Workloads = None,
    assume_nothing: Annotated[
        bool,
        typer.Option(
            "--assume-nothing",
            help="Never use the random-effects model that decides with few launches; needs more time.",
        ),
    ] = False,
    metric: flags.Metric = "",
    include_rows: flags.IncludeRows = False,
    columns: flags.Columns = "",
    labels: flags.Labels = "",
    threads: flags.Threads = None,
    device: Annotated[
        str, typer.Option(help="Where to run: `local`, or a device uri; default: the target's.")
    ] = "",
    seed: flags.Seed = 0,
    force: flags.Force = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
) -> None:
    """Measure an artifact and prove, or not, that it keeps its budget.

    Every limit is judged PASS, FAIL, INCONCLUSIVE or NOT_MEASURED at the stated confidence; only
    PASS on all of them exits with 0. Latency is sampled over fresh processes. Accuracy is paired
    with the exported model on the same rows.

    Example: edgekit validate build/kiosk --data test.jsonl --budget latency_p90_ms=20
    """
    configure_logging(verbose)
    from edgekit.stages.validate import ValidateOptions
    from edgekit.stages.validate import validate as run_stage
    from edgekit.stages.verdicts import exit_code

    options = ValidateOptions(
        data=data,
        model=model,
        target=target,
        budget=tuple(budget or ()),
        no_budget=no_budget,
        confidence=confidence,
        max_seconds=max_seconds,
        workload=tuple(workload or ()),
        assume_nothing=assume_nothing,
        metric=metric,
        include_rows=include_rows,
        columns=flags.mapping(columns, "--columns"),
        labels=flags.mapping(labels, "--labels"),
        threads=threads,
        device=device,
        seed=seed,
        force=force,
    )
    with progress(quiet=quiet or json) as on_progress:
        result = run_stage(artifact, output, options, on_progress)
    announce(result.manifest)
    if json:
        print_json(result.manifest)
    else:
        from edgekit.report import render

        if result.up_to_date:
            note(f"{result.path}: up to date", quiet=quiet)
        print(render("terminal", result.manifest))
        print(result.path)
    raise typer.Exit(exit_code(result.manifest))
