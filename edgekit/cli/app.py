"""The command tree. Each command imports its stage when it is called, so `--help` stays quick."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from edgekit.cli import (
    backend,
    compile,
    diff,
    doctor,
    export,
    inspect,
    package,
    report,
    run,
    target,
    validate,
)
from edgekit.cli.console import print_error
from edgekit.errors import InternalError, OutputError
from edgekit_runtime.errors import EdgekitError

app = typer.Typer(
    name="edgekit",
    help="Take a fine-tuned model to an edge device and prove that it meets its budget.",
    epilog="Exit codes: 0 proven, 1 a budget or gate failed, 2 usage or bad file, 3 export failed or wrong, "
    "4 plugin, runtime or device failed, 5 inconclusive or not measured, 130 interrupted.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command("export")(export.export)
app.command("compile")(compile.compile_)
app.command("validate")(validate.validate)
app.command("package")(package.package)
app.command("report")(report.report)
app.command("diff")(diff.diff)
app.command("run")(run.run)
app.command("inspect")(inspect.inspect)
app.add_typer(target.app, name="target")
app.add_typer(backend.app, name="backend")
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"edgekit {version('edgekit')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


#: What a command that was interrupted leaves with, and what typer makes of KeyboardInterrupt.
INTERRUPTED = 130


def _fail(error: EdgekitError) -> None:
    print_error(error, as_json="--json" in sys.argv[1:])
    sys.exit(error.exit_code)


def main() -> None:
    """Run the command line and leave with the exit code of the README's table."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name or label must not break the answer
    try:
        app()
    except EdgekitError as error:
        _fail(error)
    except OSError as problem:
        _fail(OutputError(f"{problem.filename or 'input or output'}: {problem.strerror or problem}"))
    except Exception as problem:  # the last wall: whatever it is, it is no failed budget
        bug = InternalError(f"{type(problem).__name__}: {problem}", hint="this is a bug; -vv shows where")
        bug.__cause__ = problem
        _fail(bug)
    except (KeyboardInterrupt, SystemExit) as leaving:
        if isinstance(leaving, SystemExit) and leaving.code != INTERRUPTED:
            raise
        print("interrupted; nothing was left half-written", file=sys.stderr)
        sys.exit(INTERRUPTED)
