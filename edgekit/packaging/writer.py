"""Write an `.edgekit` file: a zip with a manifest, read by `edgekit_runtime.reader`.

The same inputs give the same bytes. The file appears whole or not at all, and only after the reader
that a device uses has verified it.
"""

from __future__ import annotations

import datetime
import stat
import zipfile
import zlib
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from edgekit.errors import OutputError
from edgekit.files.directories import new_file
from edgekit.values import InputEntry
from edgekit_runtime.errors import DigestMismatch, EdgekitError, PackageError
from edgekit_runtime.manifests import MANIFEST, FileEntry, files_digest, list_files
from edgekit_runtime.package_info import SOURCE, PackageInfo, PackageTable, check_info, info_to_bytes
from edgekit_runtime.reader import LIMITS, is_package, read_info

_CHUNK = 1 << 20
_MODE = (stat.S_IFREG | 0o644) << 16
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's first day: bytes must not depend on the clock
_TEXT = frozenset({".json", ".txt", ".md", ".xml", ".yaml", ".toml"})
_SMALL = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageContents:
    """The directories that go into a package, under the names of these fields.

    source: a model directory, of which all goes in that is not in `golden` and `processor` already.
    """

    artifact: Path
    golden: Path
    processor: Path | None = None
    source: Path | None = None


def write_package(
    output: Path,
    *,
    table: PackageTable,
    contents: PackageContents,
    name: str,
    inputs: tuple[InputEntry, ...],
    created: str = "",
) -> PackageInfo:
    """Write the package to `output`, which may be free or hold an earlier package.

    created: UTC, ISO 8601; now when empty. Raises `OutputError` when `output` cannot be written or
    is something else, `OutputBusy` when another run is writing it, `ManifestError` for files that
    no package may hold.
    """
    output = output.absolute()
    _refuse_foreign(output, contents)
    sources = _sources(contents)
    files = tuple(entry for entry, _ in sources)
    info = PackageInfo(
        name=name,
        created=created or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        edgekit=metadata.version("edgekit"),
        digest=files_digest(files),
        inputs=inputs,
        files=files,
        table=table,
    )
    check_info(info, where=str(output))
    with new_file(output) as temporary:
        _write_zip(temporary, info, sources)
        _verify(temporary, info, output)
    return info


def _refuse_foreign(output: Path, contents: PackageContents) -> None:
    if output.is_symlink() or (output.exists() and not output.is_file()):
        raise OutputError(f"{output}: exists and is not a plain file", hint="choose another --output")
    if output.is_file() and output.stat().st_size and not is_package(output):
        raise OutputError(f"{output}: exists and is not an edgekit package", hint="choose another --output")
    for part in (contents.artifact, contents.golden, contents.processor, contents.source):
        if part is not None and part.resolve() in output.resolve().parents:
            raise OutputError(
                f"{output}: lies inside {part}, which is to be packed", hint="choose another --output"
            )


def _sources(contents: PackageContents) -> list[tuple[FileEntry, Path]]:
    """Every file with its place in the package, sorted by that."""
    parts = {"artifact": contents.artifact, "golden": contents.golden, "processor": contents.processor}
    found = [
        (replace(entry, path=f"{part}/{entry.path}"), directory / entry.path)
        for part, directory in (*parts.items(), (SOURCE, contents.source))
        if directory is not None
        for entry in list_files(directory, skip=())
        if part != SOURCE or entry.path.partition("/")[0] not in ("golden", "processor")
    ]
    total = sum(entry.size for entry, _ in found)
    if len(found) >= LIMITS.entries or total > LIMITS.total:
        raise PackageError(
            f"{len(found)} files of {total} bytes together are too much for one package",
            hint=f"a package holds fewer than {LIMITS.entries} files and at most {LIMITS.total} bytes",
        )
    return sorted(found, key=lambda item: item[0].path)


def _write_zip(path: Path, info: PackageInfo, sources: list[tuple[FileEntry, Path]]) -> None:
    with path.open("xb") as stream, zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(_entry(MANIFEST, zipfile.ZIP_STORED), info_to_bytes(info))
        for entry, source in sources:
            _copy(archive, entry, source)


def _copy(archive: zipfile.ZipFile, entry: FileEntry, source: Path) -> None:
    record = _entry(entry.path, _compression(entry, source))
    record.file_size = entry.size  # lets zipfile choose zip64 for big files
    with source.open("rb") as reader, archive.open(record, "w") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)


def _entry(path: str, compression: int) -> zipfile.ZipInfo:
    record = zipfile.ZipInfo(path, date_time=_EPOCH)
    record.compress_type = compression
    record.create_system = 3  # unix, wherever this runs
    record.external_attr = _MODE
    return record


def _compression(entry: FileEntry, source: Path) -> int:
    """Deflate for text; weights hardly shrink, and a reader must refuse what shrinks too well."""
    if source.suffix.lower() not in _TEXT:
        return zipfile.ZIP_STORED
    if entry.size > _SMALL and entry.size > _packed_size(source) * LIMITS.ratio // 2:
        return zipfile.ZIP_STORED
    return zipfile.ZIP_DEFLATED


def _packed_size(source: Path) -> int:
    packer = zlib.compressobj()
    with source.open("rb") as stream:
        size = sum(len(packer.compress(chunk)) for chunk in iter(lambda: stream.read(_CHUNK), b""))
    return size + len(packer.flush())


def _verify(temporary: Path, info: PackageInfo, output: Path) -> None:
    """Read the file as a device would; what was listed must be what was packed."""
    try:
        same = read_info(temporary) == info
    except EdgekitError as problem:
        raise DigestMismatch(
            f"{output}: not written, a file changed while it was packed: {problem.message}",
            hint="run it again when nothing writes to the artifact",
        ) from problem
    if not same:
        raise PackageError(f"{output}: not written, it would not read back as it was", hint="report this")
