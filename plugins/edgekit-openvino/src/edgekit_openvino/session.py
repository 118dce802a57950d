"""The session half: opens `model.xml` on OpenVINO's CPU plugin. Runs where edgekit is not installed."""

from __future__ import annotations

from pathlib import Path

from edgekit_openvino.description import fix_shapes, place_of, read_description
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


class _Engine:
    """The graph compiled, for one shape or for free ones."""

    def __init__(self, compiled: ov.CompiledModel, signature: Signature) -> None:
        self._infer = compiled.create_infer_request()
        self._inputs = {place_of(compiled.inputs, spec): spec.name for spec in signature.inputs}
        self._outputs = {
            spec.name: compiled.outputs[place_of(compiled.outputs, spec)] for spec in signature.outputs
        }

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """OpenVINO copies feeds in and outputs out, so nobody shares memory with it."""
        results = self._infer.infer({place: feeds[name] for place, name in self._inputs.items()})
        return {name: results[port] for name, port in self._outputs.items()}


class OpenVinoSession:
    """An open model. Implements `edgekit_runtime.session.Session`.

    An artifact with a workload's shape is compiled for it when it is opened: with fixed shapes OpenVINO
    fuses more. Other shapes run on the same graph with free shapes, compiled when the first one comes.
    """

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
        fixed = self._description.fixed()
        self._fixed_shapes = {spec.name: spec.shape for spec in fixed.inputs}
        self._engines: dict[bool, _Engine] | None = {}
        self._last: Feeds | None = None
        self._add_engine(core, model, fixed=bool(self._description.sizes))

    @property
    def signature(self) -> Signature:
        """Inputs and outputs; OpenVINO knows the tensors, the artifact the names of their axes."""
        return self._description.signature

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """One inference."""
        self._opened()
        check_feeds(self.signature, feeds)
        engine = self._engine(fixed=self._is_fixed(feeds))
        try:
            outputs = engine.run(feeds)
        except RuntimeError as error:
            raise RunFailed(f"OpenVINO failed on {self._path}: {error}") from error
        self._last = feeds
        return outputs

    def placement(self) -> Placement:
        """Nodes that ran, by precision, from the executed graph and the times of some runs."""
        return self._executed().placement()

    def profile(self) -> tuple[OperatorTime, ...]:
        """Share of time of each node that ran, costliest first."""
        return self._executed().operators()

    def close(self) -> None:
        """Free the engine."""
        self._engines = None
        self._last = None

    def _opened(self) -> dict[bool, _Engine]:
        if self._engines is None:
            raise SessionClosed(f"the session of {self._path} is closed")
        return self._engines

    def _is_fixed(self, feeds: Feeds) -> bool:
        """Whether these feeds have the shape that the artifact is compiled for."""
        if not self._description.sizes:
            return False
        return all(feeds[name].shape == shape for name, shape in self._fixed_shapes.items())

    def _engine(self, *, fixed: bool) -> _Engine:
        engines = self._opened()
        if fixed not in engines:
            core = ov.Core()
            self._add_engine(core, _read(core, self._path), fixed=fixed)
        return engines[fixed]

    def _add_engine(self, core: ov.Core, model: ov.Model, *, fixed: bool) -> None:
        compiled = self._compile(core, model, fixed=fixed, profiled=False)
        _check_executed(compiled, model, self._path, self._request.precision)
        self._opened()[fixed] = _Engine(compiled, self.signature)

    def _compile(self, core: ov.Core, model: ov.Model, *, fixed: bool, profiled: bool) -> ov.CompiledModel:
        request, rest = self._request, self._description.rest
        try:
            if fixed:
                fix_shapes(model, self._description)
            return compile_for(core, model, request.precision, request.threads, profiled=profiled, rest=rest)
        except RuntimeError as error:
            raise OpenFailed(f"OpenVINO {version()} cannot compile {self._path}: {error}") from error

    def _executed(self) -> Execution:
        """Time the last feeds, or made-up ones, in a second compiled model with the same settings."""
        self._opened()
        made_up = example_feeds(self._description.fixed())
        candidates = [self._last] if self._last is not None else list(made_up)
        core = ov.Core()
        model = _read(core, self._path)
        compiled = self._compile(core, model, fixed=self._is_fixed(candidates[0]), profiled=True)
        places = {place_of(compiled.inputs, spec): spec.name for spec in self.signature.inputs}
        problem: RuntimeError | None = None
        for feeds in candidates:
            try:
                return read_execution(compiled, model, {place: feeds[name] for place, name in places.items()})
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
