"""`edgekit run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import flags
from edgekit.cli.console import configure_logging, note, print_json


def run(
    package: Annotated[Path, typer.Argument(help="An .edgekit file.")],
    row: Annotated[list[str], typer.Argument(help="Texts, or paths of images or recordings.")],
    pairs: Annotated[
        bool,
        typer.Option("--pairs", help="Take the rows two by two: question and context, or two to compare."),
    ] = False,
    candidates: Annotated[
        str | None,
        typer.Option("--candidates", help="Labels that a zero-shot model chooses from, as a,b,c."),
    ] = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = 0,
) -> None:
    """Run a package on this machine, as a device would: verified, no torch needed.

    Example: edgekit run my-model.edgekit "a film to remember"
    """
    configure_logging(verbose)
    from edgekit_runtime.asking import answers_json, ask, line
    from edgekit_runtime.package_info import doubts
    from edgekit_runtime.reader import open_package

    with open_package(package) as opened:
        info = opened.info
        found = ask(opened, row, pairs=pairs, candidates=candidates)
    if json:
        print_json(answers_json(info, found))
        return
    for doubt in doubts(info):
        note(doubt, quiet=quiet)
    for item in found:
        print(line(info, item))
