"""The session half: opens `model.xml` on OpenVINO's CPU plugin. Runs where edgekit is not installed."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit_openvino.engine import HINTS, compile_for, missing_capability, ov, version
from edgekit_openvino.execution import Execution, executes, read_execution
from edgekit_runtime.codec import signature_from_json, to_json
from edgekit_runtime.errors import OpenFailed, ProtocolError, RunFailed, SessionClosed
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.signatures import check_feeds, example_feeds
from edgekit_runtime.values import OpenRequest, OperatorTime, Placement, Signature, TensorSpec

MODEL_FILE = "model.xml"
WEIGHTS_FILE = "model.bin"

#: Where the model file keeps what OpenVINO's format has no place for: names of axes, the precision.
_SIGNATURE = ["edgekit", "signature"]
_PRECISION = ["edgekit", "precision"]

_DTYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "u8": "uint8",
    "boolean": "bool",
}


def describe(model: ov.Model, signature: Signature, precision: str) -> None:
    """Write into the model what `open_session` reads back."""
    model.set_rt_info(json.dumps(to_json(signature), sort_keys=True), _SIGNATURE)
    model.set_rt_info(precision, _PRECISION)


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
        problem = missing_capability(core, request.precision)
        if problem:
            raise OpenFailed(problem, hint="choose another precision for this machine")
        model = _read(core, self._path)
        self._signature = _signature(model, self._path, request.precision)
        compiled = self._compile(core, model, profiled=False)
        _check_executed(compiled, model, self._path, request.precision)
        self._infer: ov.InferRequest | None = compiled.create_infer_request()
        self._inputs = {_place(compiled.inputs, spec): spec.name for spec in self._signature.inputs}
        self._outputs = {
            spec.name: compiled.outputs[_place(compiled.outputs, spec)] for spec in self._signature.outputs
        }
        self._last: Feeds | None = None

    @property
    def signature(self) -> Signature:
        """Inputs and outputs; OpenVINO knows the tensors, the artifact the names of their axes."""
        return self._signature

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """One inference. OpenVINO copies feeds in and outputs out, so nobody shares memory with it."""
        if self._infer is None:
            raise SessionClosed(f"the session of {self._path} is closed")
        check_feeds(self._signature, feeds)
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
        try:
            return compile_for(core, model, self._request.precision, self._request.threads, profiled=profiled)
        except RuntimeError as error:
            raise OpenFailed(f"OpenVINO {version()} cannot compile {self._path}: {error}") from error

    def _executed(self) -> Execution:
        """Time the last feeds, or made-up ones, in a second compiled model with the same settings."""
        if self._infer is None:
            raise SessionClosed(f"the session of {self._path} is closed")
        core = ov.Core()
        model = _read(core, self._path)
        compiled = self._compile(core, model, profiled=True)
        candidates = [self._last] if self._last is not None else list(example_feeds(self._signature))
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


def _read(core: ov.Core, path: Path) -> ov.Model:
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise OpenFailed(
            f"OpenVINO {version()} cannot read {path}: {error}",
            hint="the file is damaged, or was made by a newer version: compile it again",
        ) from error


def _signature(model: ov.Model, path: Path, precision: str) -> Signature:
    """The signature that the compiler wrote, checked against the tensors that are really there."""
    if not model.has_rt_info(_SIGNATURE) or not model.has_rt_info(_PRECISION):
        raise OpenFailed(f"{path} was not made by edgekit-openvino", hint="compile the model with edgekit")
    made = str(model.get_rt_info(_PRECISION).value)
    if made != precision:
        raise OpenFailed(
            f"{path} was compiled for {made}, not {precision}",
            hint="compile the model for the precision that is wanted",
        )
    try:
        signature = signature_from_json(json.loads(str(model.get_rt_info(_SIGNATURE).value)))
    except (json.JSONDecodeError, ProtocolError) as error:
        raise OpenFailed(f"{path} describes itself wrongly: {error}", hint="compile it again") from error
    mismatch = signature_mismatch(model, signature)
    if mismatch:
        raise OpenFailed(f"{path}: {mismatch}", hint="compile it again")
    return signature


def signature_mismatch(model: ov.Model, signature: Signature) -> str:
    """In what the model's tensors differ from `signature`; "" when they fit."""
    for ports, specs in ((model.inputs, signature.inputs), (model.outputs, signature.outputs)):
        if len(ports) != len(specs):
            return f"it has {len(ports)} tensors where its signature has {len(specs)}"
        for spec in specs:
            place = _place(ports, spec)
            if place < 0:
                return f"it has no tensor {spec.name!r}"
            found = _DTYPES.get(ports[place].element_type.to_string(), "?")
            if found != spec.dtype or not _fits(ports[place].partial_shape, spec):
                wanted = f"{spec.dtype}{list(spec.shape)}"
                return f"tensor {spec.name!r} is {found}{ports[place].partial_shape}, not {wanted}"
    return ""


def _place(ports: list[ov.Output], spec: TensorSpec) -> int:
    """Which of the ports carries the tensor's name; -1 when none does."""
    return next((place for place, port in enumerate(ports) if spec.name in port.get_names()), -1)


def _fits(shape: ov.PartialShape, spec: TensorSpec) -> bool:
    if shape.rank.is_dynamic:
        return True
    if len(shape) != len(spec.shape):
        return False
    return all(
        dimension.is_dynamic or isinstance(size, str) or dimension.get_length() == size
        for dimension, size in zip(shape, spec.shape, strict=True)
    )


def _check_executed(compiled: ov.CompiledModel, model: ov.Model, path: Path, precision: str) -> None:
    """A lower precision must be in the graph that will be executed, not only in the wish."""
    if precision != "fp32" and not executes(compiled, model, precision):
        raise OpenFailed(
            f"OpenVINO executes no node of {path} in {precision} on this CPU",
            hint="choose another precision for this machine",
        )
