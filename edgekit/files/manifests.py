"""manifest.json of a model, artifact or report directory: what is inside and where it came from.

A package's manifest is read by `edgekit_runtime.reader`, since devices need it.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from edgekit.files.tables import decode, read_json, write_json
from edgekit.values import SCHEMA, ArtifactTable, InputEntry, ModelTable, ReportTable
from edgekit_runtime.errors import DigestMismatch, ManifestError
from edgekit_runtime.manifests import FileEntry, files_digest, list_files, safe_relative, verify_files

MANIFEST_NAME = "manifest.json"
KINDS = ("model", "artifact", "report")
#: Directories of our own that are no stage's result: they may be replaced, and not be read.
OTHER_KINDS = ("failed-export",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of manifest.json. Exactly the table that `kind` names is set.

    created: UTC, ISO 8601; digest: over the sorted files (path, size, sha256), not this manifest.
    """

    schema: int
    kind: str
    name: str
    created: str
    edgekit: str
    inputs: tuple[InputEntry, ...]
    files: tuple[FileEntry, ...]
    digest: str
    model: ModelTable | None = None
    artifact: ArtifactTable | None = None
    report: ReportTable | None = None

    def input_digest(self, role: str) -> str:
        """Digest of the input with this role; "" when the stage had none."""
        return next((entry.digest for entry in self.inputs if entry.role == role), "")


def write_manifest(
    directory: Path,
    *,
    name: str,
    inputs: Sequence[InputEntry],
    table: ModelTable | ArtifactTable | ReportTable,
) -> Manifest:
    """Hash every file below `directory` and write its manifest.json."""
    files = list_files(directory)
    draft = Manifest(
        schema=SCHEMA,
        kind="",
        name=name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        edgekit=metadata.version("edgekit"),
        inputs=tuple(inputs),
        files=files,
        digest=files_digest(files),
    )
    if isinstance(table, ModelTable):
        manifest = replace(draft, kind="model", model=table)
    elif isinstance(table, ArtifactTable):
        manifest = replace(draft, kind="artifact", artifact=table)
    else:
        manifest = replace(draft, kind="report", report=table)
    write_json(directory / MANIFEST_NAME, manifest)
    return manifest


def read_manifest(directory: Path, kind: str | None = None) -> Manifest:
    """Read and check manifest.json; raise ManifestError unless it is of `kind` (when given).

    The files themselves are not hashed: see `verify`.
    """
    path = directory / MANIFEST_NAME
    if not path.is_file():
        expected = f"edgekit {kind}" if kind else "edgekit"
        raise ManifestError(
            f"{directory}: not an {expected} directory (no {MANIFEST_NAME})", hint=_origin_hint(kind)
        )
    data = read_json(path)
    if isinstance(data, dict) and isinstance(data.get("schema"), int) and data["schema"] > SCHEMA:
        raise ManifestError(
            f"{path}: schema {data['schema']} is newer than this edgekit reads ({SCHEMA})",
            hint="upgrade edgekit",
        )
    manifest = decode(data, Manifest, where=str(path))
    if manifest.kind not in KINDS or getattr(manifest, manifest.kind) is None:
        raise ManifestError(f"{path}: kind {manifest.kind!r} without its table", hint=_origin_hint(kind))
    if kind is not None and manifest.kind != kind:
        raise ManifestError(
            f"{directory}: holds an edgekit {manifest.kind}, not a {kind}", hint=_origin_hint(kind)
        )
    for entry in manifest.files:
        safe_relative(entry.path)
    return manifest


def verify(directory: Path, manifest: Manifest) -> None:
    """Hash every file; raise DigestMismatch naming the first that is missing, new or changed."""
    verify_files(directory, manifest.files)
    if files_digest(manifest.files) != manifest.digest:
        raise DigestMismatch(
            f"{directory / MANIFEST_NAME}: its digest is not that of the files it lists",
            hint="the manifest was edited; make the directory again",
        )


def manifest_kind(directory: Path) -> str:
    """The kind of the manifest below `directory`; "" when there is none that can be read."""
    try:
        data = json.loads((directory / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return ""
    kind = data.get("kind") if isinstance(data, dict) else None
    return kind if kind in (*KINDS, *OTHER_KINDS) else ""


def _origin_hint(kind: str | None) -> str:
    makers = {"model": "edgekit export", "artifact": "edgekit compile", "report": "edgekit validate"}
    return f"make one with `{makers[kind]}`" if kind in makers else "give a directory that edgekit wrote"
