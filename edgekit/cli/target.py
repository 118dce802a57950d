"""`edgekit target`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import flags
from edgekit.cli.console import note, print_json, table

app = typer.Typer(help="Targets: hardware, how it is recognised, and its budget.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="A target file, or the name of a target (`edgekit target list`).")]


@app.command("list")
def list_(json: flags.Json = False) -> None:
    """List the targets that are shipped, your own, and those that plugins bring."""
    from edgekit.targets import list_targets

    found = list_targets()
    if json:
        print_json(found)
    else:
        rows = [
            (entry.name, entry.source, f"UNUSABLE: {entry.problem}" if entry.problem else entry.summary)
            for entry in found
        ]
        print(table(rows, ("NAME", "FROM", "SUMMARY")))


@app.command("show")
def show(name: Name, json: flags.Json = False) -> None:
    """Show a target with everything it extends merged in."""
    from edgekit.stages.inspect import target_summary
    from edgekit.targets import load_target

    target = load_target(name)
    if json:
        print_json(target)
    else:
        print(target_summary(target))


@app.command("check")
def check(name: Name, json: flags.Json = False) -> None:
    """Check a target: is the file sound, is its backend installed, is this machine it.

    Exits with 2 for a bad file, 4 when the backend is missing, 5 when limits cannot be measured here.
    """
    from edgekit.host.compiling import probe_backend
    from edgekit.stages.verdicts import worst_exit_code
    from edgekit.targets import check_target, load_target
    from edgekit_runtime.machine import read_machine

    findings = check_target(load_target(name), read_machine(), probe=probe_backend)
    if json:
        print_json(findings)
    else:
        print(
            table(
                [(found.level, found.key, found.message) for found in findings], ("LEVEL", "KEY", "FINDING")
            )
        )
    raise typer.Exit(worst_exit_code(found.exit_code for found in findings))


@app.command("probe")
def probe(
    name: Annotated[str, typer.Option(help="Name of the new target.")] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: stdout.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    json: flags.Json = False,
) -> None:
    """Write a target file for this machine: architecture, ISA, cores, quota, memory.

    With --json the target is printed as `edgekit target show --json` prints it, whether a file is
    written or not.
    """
    from edgekit.targets import parse_target, probe_target, write_target
    from edgekit_runtime.machine import read_machine

    text = probe_target(read_machine(), name)
    if output is not None:
        write_target(text, output, replace=force)
    if json:
        print_json(parse_target(text, output))
    elif output is None:
        print(text, end="")
    else:
        note(f"wrote {output}; add a [budget] and give it to `edgekit compile --target {output}`")
