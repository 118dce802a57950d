"""`edgekit export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import flags
from edgekit.cli.console import configure_logging, note, print_json, progress
from edgekit.exporting.options import (
    DEFAULT_OPSET,
    DEFAULT_TOLERANCE,
    ExportOptions,
    parse_axes,
    parse_tolerance,
)


def export(
    source: Annotated[
        str, typer.Argument(help="A model folder, adapter folder, hub id, .onnx or .pt2 file.")
    ],
    output: flags.Output,
    task: Annotated[
        str, typer.Option(help="What the model is for; `auto` reads it from the source.")
    ] = "auto",
    opset: Annotated[int, typer.Option(help="ONNX opset of the exported graph.")] = DEFAULT_OPSET,
    tolerance: Annotated[
        str,
        typer.Option(
            metavar="ATOL[,RTOL]",
            help="Error allowed against the original: absolute, and a share of the value; recorded.",
        ),
    ] = f"{DEFAULT_TOLERANCE.atol:g},{DEFAULT_TOLERANCE.rtol:g}",
    max_length: Annotated[
        int | None,
        typer.Option(min=2, help="Longest input in tokens; default: what model and tokenizer allow."),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Longest answer in tokens of a model that generates; default: what the model says."
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            metavar="CODE",
            help="Language of the answers, as the model's tokenizer writes it; default: what the model says.",
        ),
    ] = None,
    static: Annotated[
        bool,
        typer.Option(
            "--static", help="Fix every axis: one row, of --max-length tokens; for models that take no other."
        ),
    ] = False,
    axis: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW:HIGH", help="How far an axis of an .onnx file may go; may be repeated."
        ),
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option("--allow-pickle", help="Accept pickled weights; only tensors are loaded from them."),
    ] = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code", help="Run Python code that the model folder or .pt2 file brings."
        ),
    ] = False,
    base: Annotated[
        Path | None, typer.Option(help="Folder of an adapter's base model; default: what its config names.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a hub model; default: its main branch.")
    ] = None,
    seed: flags.Seed = 0,
    force: flags.Force = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
) -> None:
    """Export a fine-tuned model to ONNX and prove that it is still the same model.

    The exported graph is compared with the original at batch sizes and lengths that the export did
    not trace, on real inputs, padded and unpadded. A miss fails the command with exit code 3, leaves
    no output, and keeps the evidence in OUTPUT.failed. The output directory holds model.onnx (of a
    model that generates one for each part, and pipeline.json), the processor, recorded goldens,
    reproduce.sh and a manifest.

    Example: edgekit export ./my-model -o build/model
    """
    configure_logging(verbose)
    from edgekit.stages.export import export as run_stage

    options = ExportOptions(
        task=task,
        opset=opset,
        tolerance=parse_tolerance(tolerance),
        max_length=max_length,
        max_new_tokens=max_new_tokens,
        language=language,
        static=static,
        axis_ranges=parse_axes(axis or ()),
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        seed=seed,
        force=force,
        base=base,
        revision=revision,
    )
    with progress(quiet=quiet or json) as on_progress:
        result = run_stage(source, output, options=options, on_progress=on_progress)
    if json:
        print_json(result.manifest)
        return
    model = result.manifest.model
    if result.up_to_date:
        note(f"{result.path}: up to date", quiet=quiet)
    elif model is not None:
        worst = max((check.max_abs_error for check in model.checks), default=0.0)
        if "shape" in model.source:
            note(f"the model takes one shape only, {model.source['shape']}", quiet=quiet)
        if "decoding" in model.source:
            note(f"decoding is {model.source['decoding']}", quiet=quiet)
        note(
            f"{len(model.checks)} checks against the original passed, largest error {worst:.1e}", quiet=quiet
        )
    print(result.path)
