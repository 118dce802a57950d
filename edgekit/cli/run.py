"""`edgekit run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import flags
from edgekit.cli.console import configure_logging, note, print_json, table


def run(
    package: Annotated[Path, typer.Argument(help="An .edgekit file.")],
    text: Annotated[list[str], typer.Argument(help="One or more texts to classify.")],
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
) -> None:
    """Run a package on this machine, as a device would: verified, no torch needed.

    Example: edgekit run my-model.edgekit "a film to remember"
    """
    configure_logging(verbose)
    from edgekit_runtime.package_info import doubts
    from edgekit_runtime.reader import open_package

    with open_package(package) as opened:
        info = opened.info
        predictions = opened.predict(text)
    if json:
        rows = [
            {"text": row, "prediction": prediction} for row, prediction in zip(text, predictions, strict=True)
        ]
        print_json({"package": str(package), "predictions": rows, "unproven": info.table.unproven})
        return
    for line in doubts(info):
        note(line, quiet=quiet)
    shown = [
        (answer.label, f"{answer.score:.3f}", row) for row, answer in zip(text, predictions, strict=True)
    ]
    print(table(shown, ("LABEL", "SCORE", "TEXT")))
