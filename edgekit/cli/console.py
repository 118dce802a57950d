"""What the commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from edgekit_runtime.errors import EdgekitError


def print_json(value: object) -> None:
    """Print a frozen value as JSON, alone on stdout."""
    from edgekit.files.tables import encode

    print(json.dumps(encode(value), indent=2, ensure_ascii=False))


def print_error(error: EdgekitError, *, as_json: bool) -> None:
    """Say what happened, on stderr for a person, on stdout as JSON for a program."""
    if as_json:
        body = {
            "code": error.code,
            "exit_code": error.exit_code,
            "message": error.message,
            "hint": error.hint,
        }
        print(json.dumps({"error": body}, indent=2, ensure_ascii=False))
        return
    if logging.getLogger("edgekit").isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    print(f"error[{error.code}]: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)


def note(text: str, *, quiet: bool = False) -> None:
    """One line for a person, on stderr."""
    if not quiet:
        print(text, file=sys.stderr)


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Left-aligned columns as plain text, the last one unpadded."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    shown = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(shown)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr while the block runs; nothing unless stderr is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total, what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def update(done: int, total: int, what: str) -> None:
            # A total that is reached stops the clock, and `update` takes none away.
            bar.tasks[0].total, bar.tasks[0].finished_time = total or None, None
            bar.update(task, completed=done, description=what)

        yield update


def configure_logging(verbosity: int) -> None:
    """Log to stderr: warnings by default, -v adds information, -vv debugging."""
    form = "%(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format=form)
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    for house in ("edgekit", "edgekit_runtime"):
        logging.getLogger(house).setLevel(level)
