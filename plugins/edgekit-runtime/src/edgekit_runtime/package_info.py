"""What an .edgekit file says about itself: its manifest.json, as values.

The package's own table holds all that a device needs; the artifact's manifest travels along unread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, TypeVar, cast

from edgekit_runtime.answers import KINDS
from edgekit_runtime.codec import from_json, to_json
from edgekit_runtime.errors import ManifestError, ProtocolError
from edgekit_runtime.frames import JsonValue
from edgekit_runtime.manifests import FileEntry, check_entries, files_digest
from edgekit_runtime.strictjson import Fields, check_schema, dump_json, nearest, parse_json
from edgekit_runtime.values import PRECISIONS, InputEntry, OptionValue, Signature, Tolerance

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")

PACKAGE_SCHEMA = 1
PACKAGE_KIND = "package"

#: The first bytes of every package: a zip entry manifest.json, stored as it is, of this kind.
PACKAGE_START = re.compile(
    rb'PK\x03\x04.{4}\0\0.{16}\x0d\0\0\0manifest\.json\{\s*"schema": \d+,\s*"kind": "package"', re.DOTALL
)

#: What the artifact was compiled from, where a package carries it: the rest of the model's directory.
SOURCE = "source"
#: Directories a package may hold.
PARTS = ("artifact", "processor", "golden", SOURCE)

VERDICTS = ("PASS", "FAIL", "INCONCLUSIVE", "NOT_MEASURED")

_KEYS = ("schema", "kind", "name", "created", "edgekit", "inputs", "files", "digest", "package")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLine:
    """One limit of the budget and what validate found. outcome: a word of `VERDICTS`."""

    key: str
    limit: float
    unit: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageTable:
    """The `package` table: how to run the artifact, and what is proven of it.

    verdict, confidence: the report's; unproven: budget keys that no report has proven;
    allow_failed: packed although the report did not allow it; machine: where it was measured;
    answers: how outputs are read and goldens judged, a word of `answers.KINDS`.
    """

    backend: str
    backend_version: str
    precision: str
    task: str
    answers: str
    signature: Signature
    tolerance: Tolerance
    verdict: str
    confidence: float
    threads: int = 1
    device: str = "cpu"
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    engine_versions: Mapping[str, str] = field(default_factory=dict)
    budget: tuple[BudgetLine, ...] = ()
    unproven: tuple[str, ...] = ()
    allow_failed: bool = False
    target: str = ""
    machine: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageInfo:
    """A package's manifest. digest: over its files, and what `edgekit` and people call it by."""

    name: str
    created: str
    edgekit: str
    digest: str
    inputs: tuple[InputEntry, ...]
    files: tuple[FileEntry, ...]
    table: PackageTable


def has_source(info: PackageInfo) -> bool:
    """Whether the package carries the model that its artifact was compiled from."""
    return any(entry.path.startswith(f"{SOURCE}/") for entry in info.files)


def doubts(info: PackageInfo) -> list[str]:
    """What must not be forgotten about a package, whenever it is used."""
    doubts = []
    if info.table.allow_failed:
        doubts.append(f"warning: packed with --allow-failed although its verdict was {info.table.verdict}")
    if info.table.unproven:
        doubts.append(f"unproven: {', '.join(info.table.unproven)}")
    return doubts


def info_to_bytes(info: PackageInfo) -> bytes:
    """The manifest.json of a package. `schema` and `kind` come first: they are its mark."""
    table = {
        "schema": PACKAGE_SCHEMA,
        "kind": PACKAGE_KIND,
        "name": info.name,
        "created": info.created,
        "edgekit": info.edgekit,
        "inputs": to_json(info.inputs),
        "files": to_json(info.files),
        "digest": info.digest,
        "package": to_json(info.table),
    }
    return dump_json(table)


def info_from_bytes(data: bytes, *, where: str) -> PackageInfo:
    """The package that `data` describes. Raises `ManifestError` naming the key that is wrong."""
    value = parse_json(data, where=where, error=ManifestError)
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind != PACKAGE_KIND:
        raise ManifestError(f"{where}: kind is {kind!r}, not {PACKAGE_KIND!r}")
    check_schema(value, PACKAGE_SCHEMA, where=where, error=ManifestError)
    manifest = Fields(value, known=_KEYS, where=where, error=ManifestError)
    info = PackageInfo(
        name=manifest.text("name"),
        created=manifest.text("created"),
        edgekit=manifest.text("edgekit"),
        digest=manifest.text("digest"),
        inputs=tuple(_read(InputEntry, item, manifest.where("inputs")) for item in manifest.items("inputs")),
        files=tuple(_read(FileEntry, item, manifest.where("files")) for item in manifest.items("files")),
        table=_read(PackageTable, manifest.raw("package"), manifest.where("package")),
    )
    check_info(info, where=where)
    return info


def check_info(info: PackageInfo, *, where: str) -> None:
    """Raise `ManifestError` when the values contradict each other or lead outside the package."""
    try:
        check_entries(info.files)
    except ManifestError as exc:
        raise ManifestError(f"{where}: files: {exc.message}", hint=exc.hint) from exc
    outside = [
        entry.path for entry in info.files if entry.path.split("/")[0] not in PARTS or "/" not in entry.path
    ]
    parts = {entry.path.split("/")[0] for entry in info.files}
    table = info.table
    problems = (
        (not info.name, "name is empty"),
        (bool(outside), f"the file {(outside or [''])[0]!r} is in none of {', '.join(PARTS)}"),
        ("artifact" not in parts, "there are no files in artifact/"),
        ("golden" not in parts, "there are no files in golden/"),
        (not _DIGEST.match(info.digest), f"digest is {info.digest!r}"),
        (files_digest(info.files) != info.digest, "digest is not that of the files it lists"),
        (
            table.precision not in PRECISIONS,
            f"precision is {table.precision!r}, known: {', '.join(PRECISIONS)}",
        ),
        (table.verdict not in VERDICTS, f"verdict is {table.verdict!r}, known: {', '.join(VERDICTS)}"),
        (not 0.0 <= table.confidence <= 1.0, f"confidence is {table.confidence}, not a share"),
        (table.answers not in KINDS, f"answers is {table.answers!r}, known: {', '.join(KINDS)}"),
        (table.threads < 1, f"threads is {table.threads}"),
        (min(table.tolerance.atol, table.tolerance.rtol) < 0, "tolerance is negative"),
        (len(set(table.labels)) != len(table.labels), "labels holds one label twice"),
    )
    for failed, problem in problems:
        if failed:
            raise ManifestError(f"{where}: {problem}")


def _read(cls: type[T], value: object, where: str) -> T:
    """`value` as a `cls`, with the nearest known key named for a key that is not."""
    if isinstance(value, dict):
        known = [item.name for item in fields(cast("type[DataclassInstance]", cls))]
        for key in value:
            if key not in known:
                raise ManifestError(f"{where} has the unknown key {key!r}", hint=nearest(key, known))
    try:
        return from_json(cls, cast(JsonValue, value), where)
    except ProtocolError as exc:
        raise ManifestError(exc.message) from exc
