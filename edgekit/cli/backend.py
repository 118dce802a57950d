"""`edgekit backend`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import flags
from edgekit.cli.console import configure_logging, note, print_json, progress, table

app = typer.Typer(
    help="Backends: what is installed, and whether it keeps its promises.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="Name of an installed backend (`edgekit backend list`).")]


@app.command("list")
def list_(json: flags.Json = False) -> None:
    """List the installed backends. A broken one is named and hides no other."""
    from edgekit.stages.backends import list_backends

    found = list_backends()
    if json:
        print_json(found)
        return
    rows = [(entry.name, entry.distribution, entry.version, entry.state, entry.summary) for entry in found]
    print(table(rows, ("NAME", "DISTRIBUTION", "VERSION", "STATE", "SUMMARY")))


@app.command("show")
def show(name: Name, json: flags.Json = False) -> None:
    """Show one backend: precisions, capabilities, options, and whether it works here."""
    from edgekit.stages.backends import backend_summary, show_backend

    shown = show_backend(name)
    if json:
        print_json(shown)
    else:
        print(backend_summary(shown))


@app.command("check")
def check(
    name: Name,
    model: Annotated[Path, typer.Option(help="A model directory written by `edgekit export`.")],
    target: flags.TargetName = "this-machine",
    device: flags.BuildDevice = "",
    json: flags.Json = False,
    verbose: flags.Verbose = 0,
) -> None:
    """Will it take this model? Operator by operator, before anything is compiled. Exits with 4 if not."""
    configure_logging(verbose)
    from edgekit.stages.backends import check_backend

    support = check_backend(name, model, target, device)
    if json:
        print_json(support)
    else:
        rows = [
            (row.op_type, str(row.count), "yes" if row.supported else "NO", row.reason)
            for row in support.operators
        ]
        print(table(rows, ("OPERATOR", "NODES", "TAKEN", "REASON")))
        for line in support.notes:
            note(line)
    raise typer.Exit(0 if support.supported else 4)


@app.command("test")
def test(
    name: Name,
    target: Annotated[
        str, typer.Option(help="Build for this target (name or file); default: this machine.")
    ] = "",
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Run the conformance kit on a backend.

    Exits with 4 when it breaks a promise, and with 5 when it keeps those that can be tested here, and
    hardware is missing for the others.
    """
    from edgekit.testing import run_contract

    with progress(quiet=quiet or json) as shown:
        result = run_contract(name, target=target, on_progress=shown)
    if json:
        print_json(result)
    else:
        print(
            table([(row.test, row.outcome, row.reason) for row in result.rows], ("TEST", "OUTCOME", "REASON"))
        )
        note(result.summary, quiet=quiet)
    raise typer.Exit(result.exit_code)
