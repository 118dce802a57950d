"""Size, memory and fallback: figures that need no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgekit.values import LaunchRecord
from edgekit_runtime.manifests import FileEntry
from edgekit_runtime.values import Placement

MIB = 1024 * 1024
#: Only needed to prove the artifact, not to run it.
_PROOFS = ("golden/",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """Share of the work that ran in another precision or on another device than asked.

    basis: "time", or "nodes" when the engine does not time them; where: what ran where instead.
    """

    share: float
    basis: str
    where: str


def tree_bytes(directory: Path) -> int:
    """Bytes of every file below `directory`."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def artifact_mib(files: Iterable[FileEntry]) -> float:
    """MiB of the files that running the artifact needs; goldens are left out."""
    return sum(entry.size for entry in files if not entry.path.startswith(_PROOFS)) / MIB


def memory_mib(record: LaunchRecord) -> float | None:
    """What opening and running the artifact added to the worker, the engine's import left out."""
    if record.baseline_mib is None or record.peak_mib is None:
        return None
    return max(0.0, record.peak_mib - record.baseline_mib)


def fallback(placement: Placement, precision: str, device: str) -> Fallback | None:
    """The share that fell back, by time where the engine tells it, else by nodes; None for no nodes."""
    timed = [row.time_share or 0.0 for row in placement.rows]
    by_time = all(row.time_share is not None for row in placement.rows) and sum(timed) > 0
    weights = timed if by_time else [float(row.nodes) for row in placement.rows]
    total = sum(weights)
    if total <= 0:
        return None
    away = [
        (weight / total, f"{row.precision} on {row.device}")
        for row, weight in zip(placement.rows, weights, strict=True)
        if row.precision != precision or row.device.casefold() != device.casefold()
    ]
    where = ", ".join(f"{share:.1%} {place}" for share, place in sorted(away, reverse=True) if share > 0)
    return Fallback(share=sum(share for share, _ in away), basis="time" if by_time else "nodes", where=where)
