"""The command that makes a report again, for `ReportTable.reproduce`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.values import Target

if TYPE_CHECKING:
    from edgekit.stages.validating.settling import ValidateOptions


def validate_command(artifact: Path, output: Path | None, options: ValidateOptions) -> str:
    """`edgekit validate` with everything that differs from the defaults, quoted for a shell."""
    return shlex.join(["edgekit", "validate", str(artifact), *_words(output, options)])


def _words(output: Path | None, options: ValidateOptions) -> Iterator[str]:
    standard = type(options)()
    valued = {
        "--data": options.data,
        "--columns": _pairs(options.columns),
        "--labels": _pairs(options.labels),
        "--metric": options.metric,
        "--model": options.model,
        "--target": _target(options.target),
        "--device": options.device,
        "--threads": options.threads,
    }
    for flag, value in valued.items():
        if value:
            yield from (flag, str(value))
    for limit in options.budget:
        yield from ("--budget", limit)
    for workload in options.workload:
        yield from ("--workload", workload)
    numbers = ("confidence", "max_seconds", "seed")
    for name in numbers:
        value = getattr(options, name)
        if value != getattr(standard, name):
            yield from (
                f"--{name.replace('_', '-')}",
                f"{value:.12g}" if isinstance(value, float) else str(value),
            )
    for name in ("no_budget", "include_rows", "assume_nothing"):
        if getattr(options, name):
            yield f"--{name.replace('_', '-')}"
    if output is not None:
        yield from ("--output", str(output))


def _pairs(mapping: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in mapping.items())


def _target(given: Target | Path | str) -> str:
    return given.origin or given.name if isinstance(given, Target) else str(given)
