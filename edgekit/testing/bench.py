"""The backend under test: its worker, what was compiled, and the calls that the promises are about."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from edgekit.devices import open_device
from edgekit.discovery import load_backend
from edgekit.errors import WorkerError
from edgekit.host.client import WorkerClient
from edgekit.host.compiling import compile_model
from edgekit.host.sessions import RemoteSession, open_remote
from edgekit.testing.boxes import Box, House
from edgekit.testing.models import USUAL, ModelCase, case
from edgekit.testing.troubles import Docket, Trouble, telling
from edgekit.values import (
    BackendSpec,
    Compiled,
    CompileRequest,
    Probe,
    RunSettings,
    Support,
    Target,
    Workload,
)
from edgekit_runtime.calls import Reply
from edgekit_runtime.codec import from_json, to_json
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.feeds import pack_many, write_feeds
from edgekit_runtime.frames import JsonValue
from edgekit_runtime.session import Array
from edgekit_runtime.values import OpenRequest, OptionValue

#: The model that the compile tests look at; its weights are in a file of their own.
SAMPLE = "large-constant"
PLAINEST = "matmul"
CALIBRATION_ROWS = 32
_INSIDE = "edgekit.testing.inside"
_JOBS = "edgekit.host.jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the author's class says."""

    backend: str
    options: Mapping[str, OptionValue]
    device: str
    time_limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An artifact, and what compiling it did around it. changed: files of its input."""

    model: ModelCase
    precision: str
    directory: Path
    compiled: Compiled
    files: tuple[str, ...]
    outside: tuple[str, ...]
    changed: tuple[str, ...]


class Bench:
    """One backend, one worker at a time. A worker that was lost is replaced at the next call."""

    def __init__(self, setting: Setting, house: House, docket: Docket) -> None:
        self._setting = setting
        self.house = house
        self._docket = docket
        self._worker: WorkerClient | None = None
        self._built: dict[tuple[str, str, tuple[str, ...]], Built | Trouble] = {}
        self._rehearsal: Trouble | None = None
        self._rehearsed = False
        self._taken: dict[str, bool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop_worker()

    # --- what it says of itself -------------------------------------------------------------------

    @cached_property
    def spec(self) -> BackendSpec:
        """The description; a backend that cannot even describe itself fails the running test."""
        with telling():
            return load_backend(self._setting.backend)

    @property
    def plain(self) -> str:
        """The precision that most tests use: fp32, or the first that is declared."""
        return "fp32" if "fp32" in self.spec.precisions else self.spec.precisions[0]

    @cached_property
    def probe(self) -> Probe:
        """What `probe()` says; raises when it does."""
        return from_json(Probe, self._job("probe", {}).value)

    def check(self, model: ModelCase) -> Support:
        """What `check()` says of a model; raises when it does."""
        box = self.house.box()
        params = {"model": str(model.write(box.models)), "target": to_json(self._target(self.plain))}
        return from_json(Support, self._job("check", params).value)

    # --- what stands between a test and its subject -----------------------------------------------

    def must_work(self) -> None:
        """Skip when the backend is not for this machine, or the plainest model does not run at all."""
        machine = platform.machine()
        if machine not in self.spec.arches:
            pytest.skip(f"not claimed: {machine}")
        if not self._rehearsed:
            self._rehearsed = True
            self._rehearsal = self._rehearse()
        if self._rehearsal is not None:
            self._docket.report(self._rehearsal)

    def must_take(self, model: ModelCase) -> None:
        """Skip a model that the backend's own check() refuses."""
        self.must_work()
        if model.name != PLAINEST and not self._takes(model.name):
            pytest.skip(f"not claimed: {model.name} (refused by check())")

    def _takes(self, name: str) -> bool:
        if name not in self._taken:
            try:
                self._taken[name] = self.check(case(name)).supported
            except EdgekitError:
                self._taken[name] = True  # its own test tells; here compile() has the last word
        return self._taken[name]

    def _rehearse(self) -> Trouble | None:
        try:
            probe = self.probe
        except EdgekitError as error:
            return self._docket.trouble(error, "test_probe_answers")
        if not probe.available:
            pytest.skip(f"not available here: {probe.reason}")
        found = self._obtain(case(PLAINEST), self.plain, ())
        if isinstance(found, Trouble):
            return found
        try:
            session = self._open(found, threads=1)
            session.run(case(PLAINEST).feeds())
            session.close()
        except EdgekitError as error:
            self._drop_lost_worker(error)
            return self._docket.trouble(error, f"test_right_numbers[{PLAINEST}]")
        return None

    # --- compiling ----------------------------------------------------------------------------------

    def artifact(
        self, model: ModelCase, precision: str = "", *, keep_high: tuple[str, ...] = (), again: bool = False
    ) -> Built:
        """The compiled model; compiled once, and `again` when asked. A failure fails or blocks the test."""
        self.must_work()
        precision = precision or self.plain
        found = self._obtain(model, precision, keep_high, again=again)
        if isinstance(found, Trouble):
            self._docket.report(found)
        return found

    def _obtain(
        self, model: ModelCase, precision: str, keep_high: tuple[str, ...], *, again: bool = False
    ) -> Built | Trouble:
        key = (model.name, precision, keep_high)
        if again or key not in self._built:
            try:
                self._built[key] = self._compile_watched(model, precision, keep_high)
            except EdgekitError as error:
                self._built[key] = self._docket.trouble(error, self._test_of(model, precision))
        return self._built[key]

    def _test_of(self, model: ModelCase, precision: str) -> str:
        """The test that reports a model which cannot be compiled or opened."""
        if model.name == SAMPLE:
            return f"test_compile_gives_the_precision_asked[{precision}]"
        if precision == self.plain:
            return f"test_right_numbers[{model.name}]"
        return f"test_lower_precision_stays_near[{precision}-{model.name}]"

    def _compile_watched(self, model: ModelCase, precision: str, keep_high: tuple[str, ...]) -> Built:
        """Compile without the guard, so that everything a backend does can be looked at."""
        request, box = self._request(model, precision, keep_high)
        with self.house.watched(box.workdir) as found:
            reply = self._call(
                f"{_INSIDE}:compile_unguarded",
                {"backend": self._setting.backend, "request": to_json(request)},
            )
        inputs = f"boxes/{box.root.name}/{box.models.name}/"
        changed = tuple(word for word in found if word.startswith(inputs) and not word.endswith("(new)"))
        return Built(
            model=model,
            precision=precision,
            directory=box.workdir,
            compiled=from_json(Compiled, reply.value),
            files=box.files(),
            outside=tuple(word for word in found if word not in changed),
            changed=changed,
        )

    def compile_as_edgekit_does(self, model: ModelCase) -> None:
        """The host's own way: guard and all, in a worker of its own. Raises what it raises."""
        self.must_work()
        request, _box = self._request(model, self.plain, ())
        compile_model(self._setting.backend, request, timeout=self._setting.time_limit)

    def refusal_of_precision(self, precision: str) -> EdgekitError | None:
        """What asking for a precision raises."""
        request, _ = self._request(case(PLAINEST), precision, ())
        return self._refusal(request)

    def refusal_of_model(self, spoil: Callable[[Path], None]) -> EdgekitError | None:
        """What compiling a spoilt model file raises."""
        request, _ = self._request(case(PLAINEST), self.plain, ())
        spoil(request.model)
        return self._refusal(request)

    def refusal_of_artifact(self, built: Built, spoil: Callable[[Path], None]) -> EdgekitError | None:
        """What opening a copy of the artifact raises when its largest file is spoilt."""
        copy = self.house.box().root / "damaged"
        shutil.copytree(built.directory, copy)
        spoil(max((path for path in copy.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size))
        try:
            self._open(replace(built, directory=copy), threads=1).close()
        except EdgekitError as error:
            self._drop_lost_worker(error)
            return error
        return None

    def _refusal(self, request: CompileRequest) -> EdgekitError | None:
        try:
            self._job("compile_artifact", {"request": to_json(request)})
        except EdgekitError as error:
            return error
        return None

    def _request(
        self, model: ModelCase, precision: str, keep_high: tuple[str, ...]
    ) -> tuple[CompileRequest, Box]:
        box = self.house.box()
        if precision != "fp32":
            write_feeds(box.calibration, (model.feeds(seed) for seed in range(100, 100 + CALIBRATION_ROWS)))
        request = CompileRequest(
            model=model.write(box.models),
            signature=model.signature,
            workdir=box.workdir,
            precision=precision,
            target=self._target(precision),
            options=self._options("compile"),
            calibration=box.calibration if precision != "fp32" else None,
            keep_high=keep_high,
        )
        return request, box

    def _target(self, precision: str) -> Target:
        return Target(
            name="conformance",
            backend=self._setting.backend,
            precision=precision,
            workload=Workload(batch=USUAL["batch"], sequence=USUAL["sequence"]),
        )

    def _options(self, stage: str) -> dict[str, OptionValue]:
        declared = [option for option in self.spec.options if option.stage == stage]
        return {option.name: self._setting.options.get(option.name, option.default) for option in declared}

    # --- running ------------------------------------------------------------------------------------

    @contextmanager
    def session(self, built: Built, *, threads: int = 1) -> Iterator[RemoteSession]:
        """An open session. What goes wrong in the block fails the running test in its own words."""
        try:
            session = self._open(built, threads=threads)
        except EdgekitError as error:
            self._drop_lost_worker(error)
            self._docket.report(self._docket.trouble(error, self._test_of(built.model, built.precision)))
        try:
            with telling():
                try:
                    yield session
                except EdgekitError as error:
                    self._drop_lost_worker(error)
                    raise
                session.close()
        finally:
            with suppress(EdgekitError):
                session.close()

    def inside(self, function: str, built: Built, rows: Sequence[Mapping[str, Array]]) -> Reply:
        """Call a function of `edgekit.testing.inside` on the artifact."""
        request = OpenRequest(
            directory=built.directory,
            precision=built.precision,
            device=self._setting.device,
            options=self._options("run"),
        )
        params = {"backend": self._setting.backend, "request": to_json(request)}
        with telling():
            self._move_here()
            return self._call(f"{_INSIDE}:{function}", params, pack_many(rows))

    def _open(self, built: Built, *, threads: int) -> RemoteSession:
        self._move_here()
        return open_remote(
            self._living(),
            built.directory,
            self._setting.backend,
            built.precision,
            RunSettings(threads=threads, device=self._setting.device, options=self._options("run")),
            timeout=self._setting.time_limit,
        )

    # --- the worker ---------------------------------------------------------------------------------

    def _move_here(self) -> None:
        self._call(f"{_INSIDE}:move_to", {"directory": str(self.house.here)})

    def _job(self, function: str, params: Mapping[str, JsonValue]) -> Reply:
        return self._call(f"{_JOBS}:{function}", {"backend": self._setting.backend, **params})

    def _call(self, function: str, params: Mapping[str, JsonValue], body: bytes = b"") -> Reply:
        try:
            return self._living().call(function, params, body=body, timeout=self._setting.time_limit)
        except EdgekitError as error:
            self._drop_lost_worker(error)
            raise

    def _living(self) -> WorkerClient:
        if self._worker is None:
            self._worker = WorkerClient(open_device(), environment=self.house.environment(), threads=2)
            self._worker.__enter__()
        return self._worker

    def _drop_lost_worker(self, error: EdgekitError) -> None:
        if isinstance(error, WorkerError) or error.code == "protocol-error":
            self._drop_worker()

    def _drop_worker(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None
