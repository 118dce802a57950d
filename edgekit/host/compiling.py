"""The compile half of a backend, asked from here and run in a worker of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.devices import LocalDevice
from edgekit.discovery import find_backend
from edgekit.errors import ModelFileError, OutputError, WorkerError
from edgekit.host.client import OnProgress, WorkerClient
from edgekit.host.guard import WORK, strays, wrote_beside
from edgekit.host.jobs import describe
from edgekit.values import Compiled, CompileRequest, Probe, Support, Target
from edgekit_runtime.calls import Reply
from edgekit_runtime.codec import from_json, to_json
from edgekit_runtime.frames import JsonValue

_JOBS = "edgekit.host.jobs"
PROBE_SECONDS = 120.0
CHECK_SECONDS = 600.0


def probe_backend(name: str, *, timeout: float = PROBE_SECONDS) -> Probe:
    """Whether the compile half of `name` works here; a missing engine is an answer."""
    with _Job(name, timeout=timeout).started() as job:
        return from_json(Probe, job.call("probe", {}).value)


def check_model(name: str, model: Path, target: Target, *, timeout: float = CHECK_SECONDS) -> Support:
    """Whether backend `name` takes this ONNX file, operator by operator."""
    if not model.is_file():
        raise ModelFileError(f"there is no ONNX file {model}", hint="export the model first")
    params = {"model": str(model.resolve()), "target": to_json(target)}
    with _Job(name, timeout=timeout, threads=target.run.threads).started() as job:
        return from_json(Support, job.call("check", params).value)


def compile_model(
    name: str,
    request: CompileRequest,
    *,
    on_progress: OnProgress | None = None,
    timeout: float | None = None,
    memory_mib: int | None = None,
) -> Compiled:
    """Build `request` with backend `name`; the files are in `request.workdir` afterwards.

    The workdir must exist and be empty, and is empty again after any error. Raises what the
    contract promises (CompileFailed, PrecisionNotGiven, ...), ContractViolation for a broken
    promise, and a WorkerError when the worker is lost.
    """
    workdir = request.workdir.resolve()
    if not workdir.is_dir() or any(workdir.iterdir()):
        raise OutputError(f"the work directory {workdir} does not exist or is not empty")
    try:
        with tempfile.TemporaryDirectory(prefix="edgekit-", ignore_cleanup_errors=True) as scratch:
            job = _Job(name, timeout, memory_mib, request.threads, scratch)
            return _build(job, _settled(request), workdir, on_progress)
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


def _settled(request: CompileRequest) -> CompileRequest:
    """The worker runs elsewhere: no relative paths."""
    calibration = None if request.calibration is None else request.calibration.resolve()
    return replace(request, model=request.model.resolve(), calibration=calibration)


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

    @contextmanager
    def started(self) -> Iterator[_Job]:
        """Start the worker; errors of the worker itself name the backend."""
        self.who = describe(find_backend(self.backend))
        environment = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self.scratch) if self.scratch else {}
        client = WorkerClient(
            LocalDevice(), environment=environment, threads=self.threads, memory_mib=self.memory_mib
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
            raise type(lost)(f"{self.who}: {lost.message}", hint=lost.hint) from lost
