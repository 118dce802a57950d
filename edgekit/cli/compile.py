"""`edgekit compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import flags
from edgekit.cli.console import configure_logging, note, print_json, progress


def compile_(
    model: Annotated[
        Path,
        typer.Argument(
            help="A model directory written by `edgekit export`, or a package made with `--with-source`, to "
            "build its artifact for this machine."
        ),
    ],
    output: flags.Output,
    target: Annotated[
        str,
        typer.Option(
            help="A target file, or the name of a shipped target (`edgekit target list`); default: "
            "this-machine, of a package its own."
        ),
    ] = "",
    backend: Annotated[str, typer.Option(help="Backend to compile with; default: the target's.")] = "",
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, fp16, bf16, fp8, int8, int8-weights, int4-weights, or auto: the fastest of int8, "
            "bf16, fp16 and fp32 that is right; default: the target's."
        ),
    ] = "",
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Rows that int8 and fp8 are calibrated on, never test rows: .jsonl, .csv, .parquet, a "
            "folder of images or recordings, or the model's own inputs: .npz, or a folder of them."
        ),
    ] = None,
    calibration_rows: Annotated[int, typer.Option(min=1, help="Use at most so many calibration rows.")] = 300,
    columns: flags.Columns = "",
    labels: flags.Labels = "",
    option: Annotated[
        list[str] | None, typer.Option(help="A backend option name=value (`edgekit backend show NAME`).")
    ] = None,
    keep_high: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of an ONNX node that stays in the model's precision; of a model of several graphs "
            "PART/NODE."
        ),
    ] = None,
    keep_anyway: Annotated[
        bool,
        typer.Option("--keep-anyway", help="Keep an artifact that a gate refuses; recorded in its manifest."),
    ] = False,
    budget: flags.Budgets = None,
    tune_data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled rows, never test rows, that choose which nodes stay high so that accuracy_drop is "
            "kept; default: labelled rows of --calibration that are not calibrated on."
        ),
    ] = None,
    tune_rows: Annotated[int, typer.Option(min=1, help="Use at most so many tune rows.")] = 1000,
    time_limit: Annotated[
        float, typer.Option(min=0, help="Seconds for choosing nodes; a search cut short goes on next time.")
    ] = 900.0,
    max_seconds: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds for timing a quantized artifact beside fp32; 0 decides by size alone."
        ),
    ] = 30.0,
    check_isa: Annotated[
        bool,
        typer.Option(
            help="Run a quantized artifact's recorded inputs on an emulated CPU like the target's, where "
            "this machine's is another (needs qemu-user)."
        ),
    ] = True,
    device: flags.BuildDevice = "",
    threads: flags.Threads = None,
    seed: flags.Seed = 0,
    force: flags.Force = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
) -> None:
    """Compile a model for one target with one backend, in the precision asked for or not at all.

    The artifact is opened and compared with the model's recorded outputs before it is kept. An
    artifact that disagrees, or that does not execute in the precision asked for, exits with 1. A
    quantized one is launched in turn with fp32: where it is slower, or neither faster nor smaller, it
    exits with 1 as well, and `--precision auto` keeps fp32.

    Example: edgekit compile build/model --precision int8 --calibration train.jsonl -o build/int8
    """
    configure_logging(verbose)
    from edgekit.stages.compile import CompileOptions, compile_model

    options = CompileOptions(
        target=target,
        backend=backend,
        precision=precision,
        calibration=calibration,
        calibration_rows=calibration_rows,
        columns=flags.mapping(columns, "--columns"),
        labels=flags.mapping(labels, "--labels"),
        options=flags.settings(option or (), "--option"),
        keep_high=tuple(keep_high or ()),
        keep_anyway=keep_anyway,
        threads=threads,
        seed=seed,
        force=force,
        budget=tuple(budget or ()),
        tune_data=tune_data,
        tune_rows=tune_rows,
        time_limit=time_limit,
        max_seconds=max_seconds,
        check_isa=check_isa,
        device=device,
    )
    with progress(quiet=quiet or json) as on_progress:
        result = compile_model(model, output, options, on_progress)
    if json:
        print_json(result.manifest)
        return
    if result.up_to_date:
        note(f"{result.path}: up to date", quiet=quiet)
    elif result.manifest.artifact is not None:
        for line in result.manifest.artifact.notes:
            note(f"note: {line}", quiet=quiet)
        calibrated = result.manifest.artifact.calibration
        for line in () if calibrated is None else calibrated.warnings:
            note(f"warning: calibration: {line}", quiet=quiet)
    print(result.path)
