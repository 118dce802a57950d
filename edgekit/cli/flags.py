"""The flags that mean the same in every command, declared once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON; nothing else goes to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no notes.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="More log lines on stderr; -vv for all.")
]
Force = Annotated[bool, typer.Option("--force", help="Do the work again even if the output is up to date.")]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Where the result goes; appears whole or not at all.")
]
TargetName = Annotated[
    str,
    typer.Option("--target", help="A target file, or the name of a shipped target (`edgekit target list`)."),
]
BuildDevice = Annotated[
    str,
    typer.Option(
        "--device",
        help="Build and check on this device, `local` for this machine; default: the target's where engines "
        "are built on the target itself, else this machine.",
    ),
]
Budgets = Annotated[
    list[str] | None, typer.Option("--budget", help="A limit such as latency_p90_ms=20; may be repeated.")
]
Workloads = Annotated[
    list[str] | None,
    typer.Option(
        "--workload",
        help="Shapes and use, over the target's: sequence=128,batch=1; repeat it for a mix; `data` for the "
        "lengths of --data; streams=4; heat_seconds=60.",
    ),
]
Metric = Annotated[
    str,
    typer.Option(
        "--metric",
        help="What accuracy_drop is about, instead of the task's own: a metric's name, or FILE.py:FUNCTION.",
    ),
]
IncludeRows = Annotated[
    bool, typer.Option("--include-rows", help="Put the text of rows whose answer changed into the report.")
]
Columns = Annotated[
    str,
    typer.Option("--columns", help="How the file names the columns, for example text=review,label=stars."),
]
Labels = Annotated[
    str,
    typer.Option(
        "--labels", help="How the file names the model's labels, tags or classes: 0=negative,1=positive."
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Compute threads; default: the target's.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn at random.")]


def mapping(text: str, flag: str) -> Mapping[str, str]:
    """Read "a=b,c=d". Raises UsageError naming the flag."""
    return settings([piece for piece in text.split(",") if piece.strip()], flag)


def settings(parts: Sequence[str], flag: str) -> Mapping[str, str]:
    """Read ["a=b", "c=d"]. Raises UsageError naming the flag."""
    from edgekit.errors import UsageError

    pairs: dict[str, str] = {}
    for part in parts:
        key, separator, value = (piece.strip() for piece in part.partition("="))
        if not (separator and key and value):
            raise UsageError(
                f"{flag}: {part!r} is not of the form name=value", hint=f"for example {flag} a=b"
            )
        if key in pairs:
            raise UsageError(f"{flag}: {key!r} is given twice", hint="give each name once")
        pairs[key] = value
    return pairs
