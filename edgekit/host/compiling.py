"""The compile half of a backend, asked from here and run in a worker of its own, here or on a device."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.devices import LocalDevice
from edgekit.devices.base import Device
from edgekit.discovery import find_backend
from edgekit.errors import ModelFileError, OutputError, WorkerError
from edgekit.host.client import OnProgress, WorkerClient
from edgekit.host.guard import WORK, strays, wrote_beside
from edgekit.host.jobs import describe
from edgekit.host.remote import DeviceWithFiles, bringing_files
from edgekit.values import Compiled, CompileRequest, Probe, Support, Target
from edgekit_runtime.calls import Reply
from edgekit_runtime.codec import from_json, to_json
from edgekit_runtime.errors import EdgekitError, TransferFailed
from edgekit_runtime.frames import JsonValue
from edgekit_runtime.manifests import FileEntry

_JOBS = "edgekit.host.jobs"
PROBE_SECONDS = 120.0
CHECK_SECONDS = 600.0
_PRIVATE = "private"


def probe_backend(name: str, *, timeout: float = PROBE_SECONDS) -> Probe:
    """Whether the compile half of `name` works here; a missing engine is an answer."""
    with _Job(name, timeout=timeout).started() as job:
        return from_json(Probe, job.call("probe", {}).value)


def check_model(
    name: str,
    model: Path,
    target: Target,
    *,
    timeout: float = CHECK_SECONDS,
    device: Device | None = None,
    on_progress: OnProgress | None = None,
) -> Support:
    """Whether backend `name`, as it is on `device`, takes this ONNX file, operator by operator."""
    if not model.is_file():
        raise ModelFileError(f"there is no ONNX file {model}", hint="export the model first")
    with bringing_files(device or LocalDevice()) as where:
        job = _Job(name, timeout=timeout, threads=target.run.threads, device=where)
        if isinstance(where, DeviceWithFiles):
            place, target = where.place_model(model, on_progress), _without_origin(target)
        else:
            place = str(model.resolve())
        with job.started():
            return from_json(Support, job.call("check", {"model": place, "target": to_json(target)}).value)


def compile_model(
    name: str,
    request: CompileRequest,
    *,
    on_progress: OnProgress | None = None,
    timeout: float | None = None,
    memory_mib: int | None = None,
    device: Device | None = None,
) -> Compiled:
    """Build `request` with backend `name`; the files are in `request.workdir` afterwards.

    device: where it is built, by default this machine; what it needs is brought there, and what was built
    is fetched. The workdir must exist and be empty, and is empty again after any error. Raises what the
    contract promises (CompileFailed, PrecisionNotGiven, ...), ContractViolation for a broken promise,
    a WorkerError when the worker is lost, TransferFailed when files do not come through.
    """
    workdir = request.workdir.resolve()
    if not workdir.is_dir() or any(workdir.iterdir()):
        raise OutputError(f"the work directory {workdir} does not exist or is not empty")
    request = _settled(request)
    try:
        with bringing_files(device or LocalDevice()) as where:
            job = _Job(name, timeout, memory_mib, request.threads, device=where)
            if isinstance(where, DeviceWithFiles):
                return _build_there(job, where, request, on_progress)
            with tempfile.TemporaryDirectory(prefix="edgekit-", ignore_cleanup_errors=True) as scratch:
                job.scratch = scratch
                return _build(job, request, workdir, on_progress)
    except BaseException:
        _empty(workdir)
        raise


def _build(job: _Job, request: CompileRequest, workdir: Path, on_progress: OnProgress | None) -> Compiled:
    """Let the plugin write two levels down, look at both levels, then bring the files up."""
    private = Path(tempfile.mkdtemp(prefix=".private-", dir=workdir))
    inner = private / WORK
    inner.mkdir()
    inside = replace(request, workdir=inner)
    with job.started() as running:
        reply = running.call("compile_artifact", {"request": to_json(inside)}, on_progress)
    beside = strays(workdir, private.name) + strays(private, WORK)
    if beside:
        raise wrote_beside(running.who, beside)
    for path in list(inner.iterdir()):
        path.rename(workdir / path.name)
    shutil.rmtree(private)
    return from_json(Compiled, reply.value)


def _build_there(
    job: _Job, there: DeviceWithFiles, request: CompileRequest, on_progress: OnProgress | None
) -> Compiled:
    """The same on a device that sees nothing of this machine: all paths in the request are the device's."""
    model = there.place_model(request.model, on_progress)
    rows = None if request.calibration is None else there.place(request.calibration, on_progress)
    scratch, room = there.scratch, there.room_for_build()
    inner, temporary = f"{room}/{_PRIVATE}/{WORK}", f"{room}/temporary"
    for name in (inner, temporary):
        scratch.directory(name)
    job.scratch = scratch.path(temporary)
    asked = to_json(replace(request, target=_without_origin(request.target)))
    paths = {"model": model, "calibration": rows, "workdir": scratch.path(inner)}
    with job.started() as running:
        reply = running.call("compile_artifact", {"request": {**_table(asked), **paths}}, on_progress)
    scratch.remove(temporary)
    compiled = from_json(Compiled, reply.value)
    built = _listed_as(compiled, scratch.entries(room), job.who)
    scratch.fetch(inner, built, request.workdir, on_progress)
    return compiled


def _listed_as(compiled: Compiled, found: Sequence[FileEntry], who: str) -> tuple[FileEntry, ...]:
    """The files of the workdir among those `found` in the room of a build, which are those that it lists."""
    inside = f"{_PRIVATE}/{WORK}/"
    beside = [entry.path.removeprefix(f"{_PRIVATE}/") for entry in found if not entry.path.startswith(inside)]
    if beside:
        raise wrote_beside(who, beside)
    built = tuple(replace(entry, path=entry.path.removeprefix(inside)) for entry in found)
    if {entry.path for entry in built} != set(compiled.files):
        raise TransferFailed(f"{who} has other files to give than it listed", hint="try again")
    return built


def _settled(request: CompileRequest) -> CompileRequest:
    """The worker runs elsewhere: no relative paths."""
    calibration = None if request.calibration is None else request.calibration.resolve()
    return replace(request, model=request.model.resolve(), calibration=calibration)


def _without_origin(target: Target) -> Target:
    """A path of this machine says nothing elsewhere."""
    return replace(target, origin="")


def _table(value: JsonValue) -> Mapping[str, JsonValue]:
    return value if isinstance(value, Mapping) else {}


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@dataclass(slots=True)
class _Job:
    """One worker for one call to one backend, whose name stands in every error."""

    backend: str
    timeout: float | None = None
    memory_mib: int | None = None
    threads: int = 1
    scratch: str = ""
    who: str = ""
    worker: WorkerClient | None = None
    device: Device | None = None

    @contextmanager
    def started(self) -> Iterator[_Job]:
        """Start the worker; errors of the worker itself name the backend."""
        self.who = describe(find_backend(self.backend))
        environment = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self.scratch) if self.scratch else {}
        client = WorkerClient(
            self.device or LocalDevice(),
            environment=environment,
            threads=self.threads,
            memory_mib=self.memory_mib,
        )
        with client as self.worker:
            yield self

    def call(
        self, function: str, params: Mapping[str, JsonValue], on_progress: OnProgress | None = None
    ) -> Reply:
        """Call a job, the backend filled in."""
        if self.worker is None:
            raise WorkerError("the worker has not been started")
        try:
            return self.worker.call(
                f"{_JOBS}:{function}",
                {"backend": self.backend, **params},
                timeout=self.timeout,
                on_progress=on_progress,
            )
        except WorkerError as lost:
            raise type(lost)(f"{self.who}{self._place()}: {lost.message}", hint=lost.hint) from lost
        except EdgekitError as error:
            if not self._place():
                raise
            raise type(error)(f"{error.message}{self._place()}", hint=error.hint) from error

    def _place(self) -> str:
        """Where it is, when that is not here."""
        device = self.device
        return "" if device is None or isinstance(device, LocalDevice) else f" (on {device.uri})"
