"""`edgekit package`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import flags
from edgekit.cli.console import configure_logging, note, print_json


def package(
    artifact: Annotated[Path, typer.Argument(help="An artifact directory written by `edgekit compile`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .edgekit file to write.")],
    report: Annotated[
        Path | None, typer.Option(help="Its report directory; default: ARTIFACT.report.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="The exported model; default: where the artifact's manifest says.")
    ] = None,
    allow_failed: Annotated[
        bool,
        typer.Option(
            "--allow-failed", help="Package without a passing report; recorded and shown everywhere."
        ),
    ] = False,
    with_source: Annotated[
        bool,
        typer.Option(
            "--with-source",
            help="Put the model's ONNX into the package too, so that a device with another engine version "
            "can build its own artifact: `edgekit compile PACKAGE -o DIR`.",
        ),
    ] = False,
    name: Annotated[str, typer.Option(help="Name inside the package; default: the artifact's.")] = "",
    force: flags.Force = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
) -> None:
    """Put an artifact, its processor and its goldens into one file that tests itself on the device.

    Refuses (exit code 1) an artifact whose report is missing, FAIL or INCONCLUSIVE. Limits that
    were not measured are listed in the package as unproven.

    Example: edgekit package build/kiosk -o my-model.edgekit
    """
    configure_logging(verbose)
    from edgekit.stages.package import PackageOptions
    from edgekit.stages.package import package as run_stage

    options = PackageOptions(
        report=report,
        model=model,
        allow_failed=allow_failed,
        name=name,
        force=force,
        with_source=with_source,
    )
    result = run_stage(artifact, output, options)
    if json:
        print_json(result.info)
        return
    if result.up_to_date:
        note(f"{result.path}: up to date", quiet=quiet)
    for key in result.info.table.unproven:
        note(f"unproven: {key}", quiet=quiet)
    print(result.path)
