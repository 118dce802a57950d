"""One export of one architecture, and what its checks saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edgekit
from edgekit_runtime.goldens import read_goldens
from tests.exporting.architectures.registry import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """task: the one that export chose; same: least share of equal answers in a check; error: the largest
    numeric error; apart: how far the recorded outputs of two inputs are from each other, at most."""

    task: str
    same: float
    error: float
    apart: float


def run(entry: Entry, scratch: Path) -> Outcome:
    """Make the model in `scratch` and export it. Raises EdgekitError as export does."""
    source, output = scratch / "source", scratch / "model"
    entry.architecture.build(source, entry.task)
    named = entry.task in entry.architecture.named
    options = edgekit.ExportOptions(task=entry.task) if named else edgekit.ExportOptions()
    table = edgekit.export(source, output, options=options).manifest.model
    assert table is not None
    return Outcome(
        task=table.task,
        same=min(check.agreement for check in table.checks),
        error=max(check.max_abs_error for check in table.checks),
        apart=_apart(output),
    )


def _apart(output: Path) -> float:
    """Spread of the largest outputs over the recorded inputs, element by element where shapes allow."""
    goldens = read_goldens(output / "golden")
    firsts = [
        np.ravel(np.asarray(golden.outputs[name], dtype=np.float64))
        for golden in goldens
        for name in sorted(golden.outputs)[:1]
    ]
    width = min(first.size for first in firsts)
    return float(np.ptp(np.stack([first[:width] for first in firsts]), axis=0).max())
