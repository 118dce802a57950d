"""`edgekit doctor`."""

from __future__ import annotations

import typer

from edgekit.cli import flags
from edgekit.cli.console import print_json, progress, table


def doctor(json: flags.Json = False) -> None:
    """Say what works on this machine and what to install for the rest.

    Exits with 4 when a backend is broken.
    """
    from edgekit.stages.doctor import examine

    with progress(quiet=json) as shown:
        findings = examine(shown)
    if json:
        print_json(findings)
    else:
        print(
            table(
                [(found.state, found.subject, found.detail) for found in findings],
                ("STATE", "WHAT", "DETAIL"),
            )
        )
    raise typer.Exit(4 if any(found.state == "broken" for found in findings) else 0)
