"""`edgekit export`."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli import flags
from edgekit.cli.console import configure_logging, note, print_json, progress
from edgekit.exporting.options import DEFAULT_OPSET, DEFAULT_TOLERANCE, ExportOptions


def export(
    source: Annotated[str, typer.Argument(help="A folder written by save_pretrained().")],
    output: flags.Output,
    task: Annotated[
        str, typer.Option(help="What the model is for; `auto` reads it from config.json.")
    ] = "auto",
    opset: Annotated[int, typer.Option(help="ONNX opset of the exported graph.")] = DEFAULT_OPSET,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Largest absolute error allowed against torch; recorded.")
    ] = DEFAULT_TOLERANCE.atol,
    max_length: Annotated[
        int | None,
        typer.Option(min=2, help="Longest input in tokens; default: what model and tokenizer allow."),
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option("--allow-pickle", help="Accept pickled weights; only tensors are loaded from them."),
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that the model folder brings.")
    ] = False,
    seed: flags.Seed = 0,
    force: flags.Force = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
) -> None:
    """Export a fine-tuned model to ONNX and prove that it is still the same model.

    The exported graph is compared with torch at batch sizes and lengths that the export did not
    trace, on real inputs, padded and unpadded. A miss fails the command with exit code 3 and leaves
    no output. The output directory holds model.onnx, the processor, recorded goldens and a manifest.

    Example: edgekit export ./my-model -o build/model
    """
    configure_logging(verbose)
    from edgekit.stages.export import export as run_stage
    from edgekit.values import Tolerance

    options = ExportOptions(
        task=task,
        opset=opset,
        tolerance=Tolerance(atol=tolerance, rtol=DEFAULT_TOLERANCE.rtol),
        max_length=max_length,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        seed=seed,
        force=force,
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
        note(f"{len(model.checks)} checks against torch passed, largest error {worst:.1e}", quiet=quiet)
    print(result.path)
