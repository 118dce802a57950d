"""The host's end of a worker's directory: files are brought there, made there, and taken back.

Nothing that the other end says is trusted: names must stay below the directory they are taken into, sizes
have limits, and what arrives is compared with its sha256 on both sides.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from edgekit.host.client import OnProgress, WorkerClient
from edgekit_runtime.archive import Limits
from edgekit_runtime.calls import Reply
from edgekit_runtime.codec import Table, from_json
from edgekit_runtime.errors import ManifestError, ProtocolError, TransferFailed
from edgekit_runtime.frames import JsonValue
from edgekit_runtime.manifests import FileEntry, check_entries, file_entry
from edgekit_runtime.scratch import PIECE

_SCRATCH = "edgekit_runtime.scratch"
#: For one piece of a file, over the slowest line; also for a digest of the largest file.
PIECE_SECONDS = 600.0
#: What is taken from a device is no more than a package may hold.
LIMITS = Limits()
_MIB = 1 << 20


class Scratch:
    """Files in the directory of one worker, which goes when the worker ends.

    What lies there already is not sent a second time. Names are relative, with "/".
    """

    def __init__(self, worker: WorkerClient) -> None:
        self._worker = worker
        self._where = worker.device.uri
        self._known: dict[tuple[str, int], str] = {}

    def path(self, name: str) -> str:
        """`name` as processes on that machine open it."""
        made = Table(_mapping(self._call("make").value), where="make")
        return f"{made.text('directory')}/{name}"

    def directory(self, name: str) -> None:
        """Make an empty directory."""
        self._call("directory", {"name": name})

    def remove(self, name: str) -> None:
        """Remove a file or a directory with all that lies in it."""
        self._known = {
            key: known for key, known in self._known.items() if not PurePosixPath(known).is_relative_to(name)
        }
        self._call("remove", {"name": name})

    def entries(self, name: str) -> tuple[FileEntry, ...]:
        """The files below directory `name`, their names checked. Raises TransferFailed."""
        try:
            listed = json.loads(self._call("entries", {"name": name}).body)
            found = tuple(from_json(FileEntry, entry) for entry in listed)
            check_entries(found)
        except (ValueError, TypeError, ProtocolError, ManifestError) as problem:
            raise TransferFailed(f"{self._where} lists files that cannot be: {problem}") from problem
        if len(found) > LIMITS.entries or sum(entry.size for entry in found) > LIMITS.total:
            raise TransferFailed(
                f"{self._where} has {len(found)} files of {sum(entry.size for entry in found)} bytes to give",
                hint=f"at most {LIMITS.entries} files and {LIMITS.total} bytes are taken",
            )
        return found

    def send(self, name: str, files: Mapping[str, Path], on_progress: OnProgress | None = None) -> None:
        """Bring `files`, by their names in it, to the new directory `name`.

        Raises TransferFailed when there is no room, or when what lies there in the end is not what is here.
        """
        total = sum(path.stat().st_size for path in files.values())
        self._require_room(total)
        told = _Told(on_progress, f"sending to {self._where}", total)
        self.directory(name)
        sent = [self._send_file(f"{name}/{inside}", path, told) for inside, path in files.items()]
        there = {f"{name}/{entry.path}": entry for entry in self.entries(name)}
        for entry in sent:
            found = there.pop(entry.path, None)
            if found is None or (found.size, found.sha256) != (entry.size, entry.sha256):
                raise TransferFailed(f"{entry.path} did not arrive whole on {self._where}", hint="try again")
            self._known[(entry.sha256, entry.size)] = entry.path
        if there:
            raise TransferFailed(f"{self._where} has a file that was not sent: {next(iter(there))}")

    def fetch(
        self, name: str, entries: Sequence[FileEntry], into: Path, on_progress: OnProgress | None = None
    ) -> None:
        """Take `entries`, as listed of directory `name`, into the local directory `into`."""
        total = sum(entry.size for entry in entries)
        free = shutil.disk_usage(into).free
        if total > free:
            raise TransferFailed(
                f"{total // _MIB} MiB are to come from {self._where}, and {free // _MIB} MiB are free here",
                hint="free some space, or choose an --output on another disk",
            )
        told = _Told(on_progress, f"fetching from {self._where}", total)
        for entry in entries:
            path = into / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as stream:
                self._fetch_file(f"{name}/{entry.path}", entry, stream, told)
            self._known[(entry.sha256, entry.size)] = f"{name}/{entry.path}"

    def _send_file(self, name: str, path: Path, told: _Told) -> FileEntry:
        known = None
        if self._known:
            here = file_entry(path.parent, path.name)
            known = self._known.get((here.sha256, here.size))
        if known is not None:
            self._call("copy", {"source": known, "name": name})
            told.more(here.size)
            return FileEntry(path=name, size=here.size, sha256=here.sha256)
        digest, offset = hashlib.sha256(), 0
        for piece in _pieces(path):
            self._call("put", {"name": name, "offset": offset}, piece)
            digest.update(piece)
            offset += len(piece)
            told.more(len(piece))
        return FileEntry(path=name, size=offset, sha256=digest.hexdigest())

    def _fetch_file(self, name: str, entry: FileEntry, stream: BinaryIO, told: _Told) -> None:
        digest, offset = hashlib.sha256(), 0
        while offset < entry.size:
            piece = self._call("get", {"name": name, "offset": offset}).body
            if not 0 < len(piece) <= min(PIECE, entry.size - offset):
                raise TransferFailed(f"{self._where} gave {len(piece)} bytes of {name} at {offset}")
            stream.write(piece)
            digest.update(piece)
            offset += len(piece)
            told.more(len(piece))
        if digest.hexdigest() != entry.sha256:
            raise TransferFailed(f"{name} did not arrive whole from {self._where}", hint="try again")

    def _require_room(self, total: int) -> None:
        made = Table(_mapping(self._call("make").value), where="make")
        free = made.integer("free")
        if total > free:
            raise TransferFailed(
                f"{total // _MIB} MiB are to go to {self._where}, which has {free // _MIB} MiB free in "
                f"{made.text('directory')}",
                hint="free some space there, or set TMPDIR there to a directory on another disk",
            )

    def _call(self, function: str, params: Mapping[str, JsonValue] | None = None, body: bytes = b"") -> Reply:
        return self._worker.call(f"{_SCRATCH}:{function}", params, body=body, timeout=PIECE_SECONDS)


class _Told:
    """Tells of every piece, in MiB of the whole."""

    def __init__(self, on_progress: OnProgress | None, what: str, total: int) -> None:
        self._on_progress = on_progress
        self._what = what
        self._total = total
        self._done = 0

    def more(self, size: int) -> None:
        self._done += size
        if self._on_progress is not None:
            self._on_progress(self._done // _MIB, -(-self._total // _MIB), f"{self._what} (MiB)")


def _pieces(path: Path) -> Iterator[bytes]:
    """A file piece by piece; an empty file is one empty piece."""
    with path.open("rb") as stream:
        piece = stream.read(PIECE)
        yield piece
        while piece := stream.read(PIECE):
            yield piece


def _mapping(value: JsonValue) -> Mapping[str, JsonValue]:
    if not isinstance(value, Mapping):
        raise ProtocolError(f"the worker answered {value!r} where a table belongs")
    return value
