"""Files that the host brings to this machine, has made here and takes back.

They lie in one directory of this worker, which goes with the worker however that ends. Names are relative
to it, with "/" between their parts, and none leads out of it. Files travel in pieces that both ends can
hold in memory; `entries` says what really lies here, with a sha256 over each whole file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from edgekit_runtime.calls import Call, Reply, WorkerState, worker_function
from edgekit_runtime.codec import to_json
from edgekit_runtime.errors import ManifestError, TransferFailed
from edgekit_runtime.frames import JsonValue
from edgekit_runtime.manifests import list_files, safe_relative
from edgekit_runtime.supervisor import leave_to_supervisor

#: Bytes that travel in one frame, at most.
PIECE = 4 << 20
_PREFIX = "edgekit-worker-"
_SPACE = "free some space there, or set TMPDIR there to a directory on another disk"


@worker_function
def make(call: Call) -> Reply:
    """{} -> {directory, free}: the directory as this machine names it, and the free bytes of its disk."""
    directory = _directory(call.state)
    return Reply({"directory": str(directory), "free": shutil.disk_usage(directory).free})


@worker_function
def put(call: Call) -> Reply:
    """{name, offset} + a piece of a file -> {}. The pieces come in order; offset 0 begins a new file."""
    name, offset = call.params.text("name"), call.params.integer("offset")
    path = _place(call.state, name)
    with _explained(name):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if offset else "xb") as stream:
            if stream.tell() != offset:
                raise TransferFailed(f"{name}: a piece at {offset} came where {stream.tell()} was awaited")
            stream.write(call.body)
    return Reply()


@worker_function
def copy(call: Call) -> Reply:
    """{source, name} -> {}: a file that lies here already, once more under another name."""
    source, name = call.params.text("source"), call.params.text("name")
    path = _place(call.state, name)
    with _explained(name):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_place(call.state, source), path)
    return Reply()


@worker_function
def directory(call: Call) -> Reply:
    """{name} -> {}: a new, empty directory."""
    name = call.params.text("name")
    path = _place(call.state, name)
    with _explained(name):
        path.mkdir(parents=True)
    return Reply()


@worker_function
def entries(call: Call) -> Reply:
    """{name} -> {} + a JSON list of the files below that directory: path, size, sha256."""
    name = call.params.text("name")
    with _explained(name):
        try:
            found = list_files(_place(call.state, name), skip=())
        except ManifestError as problem:
            raise TransferFailed(f"{name}: {problem.message}", hint=problem.hint) from problem
    return Reply(body=json.dumps([to_json(entry) for entry in found]).encode())


@worker_function
def get(call: Call) -> Reply:
    """{name, offset} -> {} + the next piece of a file, empty at its end."""
    name, offset = call.params.text("name"), call.params.integer("offset")
    path = _place(call.state, name)
    with _explained(name), path.open("rb") as stream:
        stream.seek(offset)
        return Reply(body=stream.read(PIECE))


@worker_function
def remove(call: Call) -> Reply:
    """{name} -> {}: a file or directory that is not needed any more; one that is not here is fine."""
    path = _place(call.state, call.params.text("name"))
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
    return Reply()


@worker_function
def versions(call: Call) -> Reply:
    """{distributions} -> {name: version}, "" for one that is not installed here. Nothing is imported."""
    given = call.params.get("distributions")
    names = [name for name in given if isinstance(name, str)] if isinstance(given, list) else []
    found: dict[str, JsonValue] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return Reply(found)


def _directory(state: WorkerState) -> Path:
    """This worker's directory, made when it is first needed, for its user alone."""
    if state.scratch is None:
        path = Path(tempfile.gettempdir()).resolve() / f"{_PREFIX}{secrets.token_hex(8)}"
        leave_to_supervisor(str(path))  # first, so that none is ever left behind
        with _explained(str(path)):
            path.mkdir(mode=0o700)
        state.scratch = path
    return state.scratch


def _place(state: WorkerState, name: str) -> Path:
    """Where `name` lies; what leads out of the directory, also by a link, is refused."""
    root = _directory(state)
    try:
        path = (root / safe_relative(name)).resolve()
    except ManifestError as problem:
        raise TransferFailed(problem.message, hint="a name stays below the worker's directory") from problem
    if not path.is_relative_to(root):
        raise TransferFailed(f"{name} is a link that leads out of the worker's directory")
    return path


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        hint = _SPACE if problem.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        reason = os.strerror(problem.errno) if problem.errno else str(problem)
        raise TransferFailed(f"{name}: {reason}", hint=hint) from problem
