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
from edgekit.errors import PrecisionNotGiven, WorkerError
from edgekit.host.client import WorkerClient
from edgekit.host.compiling import compile_model
from edgekit.host.sessions import RemoteSession, open_remote
from edgekit.testing.boxes import Box, House
from edgekit.testing.families import case
from edgekit.testing.models import ModelCase
from edgekit.testing.setting import Setting
from edgekit.testing.troubles import Docket, Trouble, named_for
from edgekit.values import (
    BackendSpec,
    Compiled,
    CompileRequest,
    Probe,
    RunSettings,
    Support,
)
from edgekit_runtime.calls import Reply
from edgekit_runtime.codec import from_json, to_json
from edgekit_runtime.errors import EdgekitError, HardwareMissing
from edgekit_runtime.feeds import pack_many, write_feeds
from edgekit_runtime.frames import JsonValue
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.values import OpenRequest

#: The model that the compile tests look at; its weights are in a file of their own.
SAMPLE = "large-constant"
PLAINEST = "matmul"
PLAIN_NUMBERS = f"test_right_numbers[{PLAINEST}]"
CALIBRATION_ROWS = 32
_INSIDE = "edgekit.testing.inside"
_JOBS = "edgekit.host.jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An artifact, and what compiling it did around it.

    changed: files of its input; opened_by: the test that reports when it cannot be opened.
    """

    model: ModelCase
    precision: str
    directory: Path
    compiled: Compiled
    files: tuple[str, ...]
    outside: tuple[str, ...]
    changed: tuple[str, ...]
    opened_by: str


class Bench:
    """One backend, one worker at a time. A worker that was lost is replaced at the next call."""

    def __init__(self, setting: Setting, house: House, docket: Docket) -> None:
        self._setting = setting
        self.house = house
        self.docket = docket
        self._worker: WorkerClient | None = None
        self._built: dict[tuple[str, str, tuple[str, ...]], Built | Trouble] = {}
        self._rehearsal: Trouble | None = None
        self._rehearsed = False
        self._no_device = False
        self._taken: dict[str, bool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop_worker()
        if kind is None:
            self.docket.close()

    # --- what it says of itself -------------------------------------------------------------------

    @cached_property
    def spec(self) -> BackendSpec:
        """The description; without a sound one there is nothing else to test."""
        try:
            return load_backend(self._setting.backend)
        except EdgekitError as error:
            self.docket.report(self.docket.trouble(error, "test_describes_itself"))

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
        params = {
            "model": str(model.write(box.models)),
            "target": to_json(self._setting.target_at(self.plain)),
        }
        return from_json(Support, self._job("check", params).value)

    # --- what stands between a test and its subject -----------------------------------------------

    def must_work(self) -> None:
        """Skip when the backend is not for this machine, or the plainest model does not run at all."""
        machine = platform.machine()
        if machine not in self.spec.arches:
            pytest.skip(f"not available here: it is for {', '.join(self.spec.arches)}; this is {machine}")
        if not self._rehearsed:
            self._rehearsed = True
            self._rehearsal = self._rehearse()
        if self._rehearsal is not None:
            self.docket.report(self._rehearsal)
        if not self.probe.available:
            pytest.skip(f"not available here: {self.probe.reason}")

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
            return self.docket.trouble(error, named_for(error) or "test_probe_answers")
        if not probe.available:
            return None
        found = self._obtain(case(PLAINEST), self.plain, ())
        if isinstance(found, Trouble):
            return self.docket.trouble(found.error, named_for(found.error) or PLAIN_NUMBERS)
        try:
            session = self._open(found, threads=1)
            session.run(case(PLAINEST).feeds())
            session.close()
        except HardwareMissing:
            self._no_device = True  # compiling can still be tested; whoever must open is skipped
        except EdgekitError as error:
            self._drop_lost_worker(error)
            return self.docket.trouble(error, named_for(error) or PLAIN_NUMBERS)
        return None

    def need_device(self, error: EdgekitError) -> None:
        """Skip when `error` says that hardware is missing, as it did for the plainest model."""
        if isinstance(error, HardwareMissing) and self._no_device:
            pytest.skip(f"needs the device: {error.message}")

    # --- compiling ----------------------------------------------------------------------------------

    def artifact(
        self, model: ModelCase, precision: str = "", *, keep_high: tuple[str, ...] = (), again: bool = False
    ) -> Built:
        """The compiled model; compiled once, and `again` when asked. A failure fails or blocks the test."""
        self.must_work()
        precision = precision or self.plain
        found = self._obtain(model, precision, keep_high, again=again)
        if isinstance(found, Trouble):
            self.docket.report(found)
        return found

    def artifact_if_given(self, model: ModelCase, precision: str) -> Built:
        """The same, but skip when the backend says with PrecisionNotGiven that it is not for this model."""
        self.must_work()
        found = self._obtain(model, precision, ())
        if isinstance(found, Trouble) and isinstance(found.error, PrecisionNotGiven):
            pytest.skip(f"not claimed: {precision} for {model.name}: {found.error.message}")
        return self.artifact(model, precision)

    def _obtain(
        self, model: ModelCase, precision: str, keep_high: tuple[str, ...], *, again: bool = False
    ) -> Built | Trouble:
        key = (model.name, precision, keep_high)
        if again or key not in self._built:
            try:
                self._built[key] = self._compile_watched(model, precision, keep_high)
            except EdgekitError as error:
                declined = isinstance(error, PrecisionNotGiven)
                named = "" if declined else self._test_of(model, precision, keep_high)
                self._built[key] = self.docket.trouble(error, named)
        return self._built[key]

    def _test_of(self, model: ModelCase, precision: str, keep_high: tuple[str, ...]) -> str:
        """The test that compiles and opens just this, and so reports when it cannot be done."""
        if keep_high:
            return ""
        if model.name == SAMPLE:
            return "test_compile_gives_the_precision_asked"
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
            opened_by="" if model.name == SAMPLE else self._test_of(model, precision, keep_high),
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
            target=self._setting.target_at(precision),
            options=self._setting.options_of(self.spec, "compile"),
            calibration=box.calibration if precision != "fp32" else None,
            keep_high=keep_high,
        )
        return request, box

    # --- running ------------------------------------------------------------------------------------

    @contextmanager
    def session(self, built: Built, *, threads: int = 1) -> Iterator[RemoteSession]:
        """An open session. What goes wrong in the block fails the running test in its own words."""
        try:
            session = self._open(built, threads=threads)
        except EdgekitError as error:
            self.need_device(error)
            self._drop_lost_worker(error)
            named = built.opened_by if threads == 1 else ""
            self.docket.report(self.docket.trouble(error, named))
        try:
            with self.docket.telling():
                try:
                    yield session
                except EdgekitError as error:
                    self._drop_lost_worker(error)
                    raise
                session.close()
        finally:
            with suppress(EdgekitError):
                session.close()

    def outputs(self, session: RemoteSession, rows: Sequence[Feeds]) -> list[dict[str, Array]]:
        """One run per row: what a run leaves behind for the next is another test's matter."""
        return [session.run(row) for row in rows]

    def inside(self, function: str, built: Built, rows: Sequence[Mapping[str, Array]]) -> Reply:
        """Call a function of `edgekit.testing.inside` on the artifact."""
        request = OpenRequest(
            directory=built.directory,
            precision=built.precision,
            device=self._setting.device_of(self.spec),
            options=self._setting.options_of(self.spec, "run"),
        )
        params = {"backend": self._setting.backend, "request": to_json(request)}
        with self.docket.telling():
            self._move_here()
            try:
                return self._call(f"{_INSIDE}:{function}", params, pack_many(rows))
            except HardwareMissing as error:
                self.need_device(error)
                raise

    def _run_settings(self, threads: int) -> RunSettings:
        options = self._setting.options_of(self.spec, "run")
        return RunSettings(threads=threads, device=self._setting.device_of(self.spec), options=options)

    def _open(self, built: Built, *, threads: int) -> RemoteSession:
        self._move_here()
        return open_remote(
            self._living(),
            built.directory,
            self._setting.backend,
            built.precision,
            self._run_settings(threads),
            timeout=self._setting.time_limit,
        )

    # --- the worker ---------------------------------------------------------------------------------

    def _move_here(self) -> None:
        self._call(f"{_INSIDE}:move_to", {"directory": str(self.house.here)})

    def _job(self, function: str, params: Mapping[str, JsonValue]) -> Reply:
        return self._call(f"{_JOBS}:{function}", {"backend": self.spec.name, **params})

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
