"""Finding the directory that an artifact was made from, and making sure it is that very one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgekit.files.manifests import Manifest, read_manifest
from edgekit_runtime.errors import DigestMismatch, EdgekitError, ManifestError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A directory an earlier stage wrote."""

    path: Path
    manifest: Manifest


def find_parent(directory: Path, manifest: Manifest, role: str, given: Path | str | None) -> Parent:
    """The parent with this role: `given`, or where the manifest says it was.

    Raises ManifestError when it is not there, DigestMismatch when it has changed since.
    """
    entry = next((entry for entry in manifest.inputs if entry.role == role), None)
    if entry is None:
        raise ManifestError(f"{directory}: its manifest names no {role}", hint="make it again")
    path = Path(given) if given is not None else (directory / entry.path).resolve()
    try:
        found = read_manifest(path, role)
    except EdgekitError as problem:
        raise ManifestError(
            f"{directory}: its {role} is not at {path}: {problem.message}",
            hint=f"give its place with --{role}",
        ) from problem
    if found.digest != entry.digest:
        raise DigestMismatch(
            f"{path}: is not the {role} that {directory} was made from",
            hint=f"make {directory.name} again, or give the right one with --{role}",
        )
    return Parent(path=path, manifest=found)


def table_of(table: T | None) -> T:
    """A manifest's own table, which `read_manifest` has made sure is there."""
    if table is None:
        raise ManifestError("the manifest has no table of its kind", hint="make the directory again")
    return table
