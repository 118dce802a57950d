"""What every stage shares: its result, "up to date", and telling observers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.discovery import stage_finished
from edgekit.files.digests import file_digest, tree_digest, value_digest
from edgekit.files.manifests import Manifest, read_manifest, verify
from edgekit.values import InputEntry, Outcome, StageEvent
from edgekit_runtime.errors import EdgekitError

OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """A directory that a stage wrote, or found up to date."""

    path: Path
    manifest: Manifest
    up_to_date: bool


def quiet(done: int, total: int, what: str) -> None:
    """A progress callback that shows nothing."""


def path_input(role: str, path: Path) -> InputEntry:
    """Digest of a file or tree, with its name: where it lay is the builder's own business."""
    digest = tree_digest(path) if path.is_dir() else file_digest(path)
    return InputEntry(role=role, digest=digest, path=path.name)


def value_input(role: str, value: object) -> InputEntry:
    """Digest of a value that decides the result, such as a stage's options."""
    return InputEntry(role=role, digest=value_digest(value))


def relative_path(path: Path, output: Path) -> str:
    """`path` as seen from `output`, so that a tree of stages can be moved as a whole."""
    try:
        return Path(os.path.relpath(path.resolve(), output.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


def up_to_date(output: Path, kind: str, inputs: Sequence[InputEntry]) -> Manifest | None:
    """The manifest at `output` when it was made from the same inputs and no file has changed since."""
    try:
        manifest = read_manifest(output, kind)
        if not same_inputs(manifest.inputs, inputs):
            return None
        verify(output, manifest)
    except EdgekitError:
        return None
    return manifest


def same_inputs(one: Sequence[InputEntry], other: Sequence[InputEntry]) -> bool:
    """Whether both were made from the same things, wherever those lay."""
    return {(entry.role, entry.digest) for entry in one} == {(entry.role, entry.digest) for entry in other}


def announce(name: str, result: StageResult, started: float, verdict: Outcome | None = None) -> StageResult:
    """Tell the observers that a stage which began at `started` (time.monotonic) has finished."""
    tell(name, result.path, started, up_to_date=result.up_to_date, verdict=verdict)
    return result


def tell(
    name: str, output: Path, started: float, *, up_to_date: bool, verdict: Outcome | None = None
) -> None:
    """The same for a stage whose result is a file."""
    seconds = time.monotonic() - started
    stage_finished(
        StageEvent(stage=name, output=output, seconds=seconds, up_to_date=up_to_date, verdict=verdict)
    )
