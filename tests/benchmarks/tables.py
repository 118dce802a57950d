"""The command line of the studies that are committed with their table."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path


def print_or_write(make: Callable[[], str], path: Path) -> None:
    """Print the table, or with --write put it into its file; the time it took goes to stderr."""
    started = time.monotonic()
    text = make()
    if "--write" in sys.argv[1:]:
        path.write_text(text, encoding="utf-8")
    else:
        print(text)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
