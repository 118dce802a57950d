"""The session half: opens `model.xml` on OpenVINO's CPU plugin. Runs where edgekit is not installed."""

from __future__ import annotations

from pathlib import Path

from edgekit_openvino.description import place_of, read_description
from edgekit_openvino.engine import HINTS, compile_for, missing_capability, ov, version
from edgekit_openvino.execution import Execution, executes, read_execution
from edgekit_runtime.errors import OpenFailed, RunFailed, SessionClosed
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.signatures import check_feeds, example_feeds
from edgekit_runtime.values import OpenRequest, OperatorTime, Placement, Signature

MODEL_FILE = "model.xml"
WEIGHTS_FILE = "model.bin"


def open_session(request: OpenRequest) -> OpenVinoSession:
    """Open the artifact in `request.directory`; raise `OpenFailed` rather than run it otherwise."""
    if request.device != "cpu":
        raise OpenFailed(
            f"backend openvino runs on device 'cpu', not {request.device!r}",
            hint='set device = "cpu" in the target\'s [run]',
        )
    if request.precision not in HINTS:
        raise OpenFailed(
            f"backend openvino has no precision {request.precision!r}", hint=f"one of {', '.join(HINTS)}"
        )
    for name in (MODEL_FILE, WEIGHTS_FILE):
        if not (request.directory / name).is_file():
            raise OpenFailed(
                f"{request.directory / name} is missing", hint="the artifact is incomplete: compile it again"
            )
    return OpenVinoSession(request)


class OpenVinoSession:
    """An open model. Implements `edgekit_runtime.session.Session`."""

    def __init__(self, request: OpenRequest) -> None:
        self._path = request.directory / MODEL_FILE
        self._request = request
        core = ov.Core()
        _require(core, request.precision)
        model = _read(core, self._path)
        self._description = read_description(model, self._path)
        made = self._description.precision
        if made != request.precision:
            raise OpenFailed(
                f"{self._path} was compiled for {made}, not {request.precision}",
                hint="compile the model for the precision that is wanted",
            )
        _require(core, self._description.rest)
        compiled = self._compile(core, model, profiled=False)
        _check_executed(compiled, model, self._path, request.precision)
        self._infer: ov.InferRequest | None = compiled.create_infer_request()
        self._inputs = {place_of(compiled.inputs, spec): spec.name for spec in self.signature.inputs}
        self._outputs = {
            spec.name: compiled.outputs[place_of(compiled.outputs, spec)] for spec in self.signature.outputs
        }
        self._last: Feeds | None = None

    @property
    def signature(self) -> Signature:
        """Inputs and outputs; OpenVINO knows the tensors, the artifact the names of their axes."""
        return self._description.signature

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """One inference. OpenVINO copies feeds in and outputs out, so nobody shares memory with it."""
        if self._infer is None:
            raise SessionClosed(f"the session of {self._path} is closed")
        check_feeds(self.signature, feeds)
        try:
            results = self._infer.infer({place: feeds[name] for place, name in self._inputs.items()})
        except RuntimeError as error:
            raise RunFailed(f"OpenVINO failed on {self._path}: {error}") from error
        self._last = feeds
        return {name: results[port] for name, port in self._outputs.items()}

    def placement(self) -> Placement:
        """Nodes that ran, by precision, from the executed graph and the times of some runs."""
        return self._executed().placement()

    def profile(self) -> tuple[OperatorTime, ...]:
        """Share of time of each node that ran, costliest first."""
        return self._executed().operators()

    def close(self) -> None:
        """Free the engine."""
        self._infer = None
        self._outputs = {}
        self._last = None

    def _compile(self, core: ov.Core, model: ov.Model, *, profiled: bool) -> ov.CompiledModel:
        request, rest = self._request, self._description.rest
        try:
            return compile_for(core, model, request.precision, request.threads, profiled=profiled, rest=rest)
        except RuntimeError as error:
            raise OpenFailed(f"OpenVINO {version()} cannot compile {self._path}: {error}") from error

    def _executed(self) -> Execution:
        """Time the last feeds, or made-up ones, in a second compiled model with the same settings."""
        if self._infer is None:
            raise SessionClosed(f"the session of {self._path} is closed")
        core = ov.Core()
        model = _read(core, self._path)
        compiled = self._compile(core, model, profiled=True)
        candidates = [self._last] if self._last is not None else list(example_feeds(self.signature))
        problem: RuntimeError | None = None
        for feeds in candidates:
            try:
                return read_execution(
                    compiled, model, {place: feeds[name] for place, name in self._inputs.items()}
                )
            except RuntimeError as error:
                problem = error
        raise RunFailed(
            f"OpenVINO cannot run made-up inputs on {self._path}: {problem}",
            hint="run the session once on real inputs before asking for its placement",
        ) from problem


def _require(core: ov.Core, precision: str) -> None:
    problem = missing_capability(core, precision)
    if problem:
        raise OpenFailed(problem, hint="choose another precision for this machine")


def _read(core: ov.Core, path: Path) -> ov.Model:
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise OpenFailed(
            f"OpenVINO {version()} cannot read {path}: {error}",
            hint="the file is damaged, or was made by a newer version: compile it again",
        ) from error


def _check_executed(compiled: ov.CompiledModel, model: ov.Model, path: Path, precision: str) -> None:
    """A lower precision must be in the graph that will be executed, not only in the wish."""
    if precision != "fp32" and not executes(compiled, model, precision):
        raise OpenFailed(
            f"OpenVINO executes no node of {path} in {precision} on this CPU",
            hint="choose another precision for this machine",
        )
