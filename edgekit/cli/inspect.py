"""`edgekit inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import flags
from edgekit.cli.console import configure_logging, print_json


def inspect(
    path: Annotated[Path, typer.Argument(help="A model, artifact or report directory, or an .edgekit file.")],
    json: flags.Json = False,
    verbose: flags.Verbose = 0,
) -> None:
    """Show what is inside and where it came from; every file is hashed.

    Example: edgekit inspect build/kiosk
    """
    configure_logging(verbose)
    from edgekit.stages.inspect import inspect_path, summary

    found = inspect_path(path)
    if json:
        print_json(found)
    else:
        print(summary(path, found))
