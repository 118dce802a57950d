"""The session half: opens `model.onnx` on onnxruntime's CPU provider. Runs where edgekit is not installed."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as native

from edgekit_onnxruntime.execution import Execution, read_execution
from edgekit_runtime.errors import OpenFailed, RunFailed, SessionClosed
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.signatures import check_feeds, example_feeds
from edgekit_runtime.values import OpenRequest, OperatorTime, Placement, Signature, TensorSpec

MODEL_FILE = "model.onnx"
#: Key of the model's own metadata that tells which precision the compiler gave it; absent means fp32.
PRECISION_KEY = "edgekit.precision"
PROVIDER = "CPUExecutionProvider"

#: Everything the engine raises; these classes share no base of their own.
ENGINE_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    *(value for value in vars(native).values() if isinstance(value, type) and issubclass(value, Exception)),
)

_OPTIMIZATION = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "off": "ORT_DISABLE_ALL",
}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
_ERRORS_ONLY = 3
#: The CPU kernel of this fusion takes four times as long as the two operators that it replaces.
_SLOWER = ["SkipLayerNormFusion"]


def open_session(request: OpenRequest) -> OrtSession:
    """Open the artifact in `request.directory`; raise `OpenFailed` rather than run it otherwise."""
    if request.device != "cpu":
        raise OpenFailed(
            f"backend onnxruntime runs on device 'cpu', not {request.device!r}",
            hint='set device = "cpu" in the target\'s [run]',
        )
    path = request.directory / MODEL_FILE
    if not path.is_file():
        raise OpenFailed(f"{path} is missing", hint="the artifact is incomplete: compile it again")
    session = OrtSession(path, request)
    if session.precision != request.precision:
        raise OpenFailed(
            f"{path} was compiled for {session.precision}, not {request.precision}",
            hint="compile the model for the precision that is wanted",
        )
    return session


class OrtSession:
    """An open model. Implements `edgekit_runtime.session.Session`."""

    def __init__(self, path: Path, request: OpenRequest) -> None:
        self._path = path
        self._request = request
        self._engine: ort.InferenceSession | None = _open_engine(path, session_options(request))
        self._signature = engine_signature(self._engine)
        self._outputs = [spec.name for spec in self._signature.outputs]
        self._last: Feeds | None = None
        metadata = self._engine.get_modelmeta().custom_metadata_map
        self.precision = str(metadata.get(PRECISION_KEY, "fp32"))

    @property
    def signature(self) -> Signature:
        """Inputs and outputs as onnxruntime sees them."""
        return self._signature

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """One inference."""
        if self._engine is None:
            raise SessionClosed(f"the session of {self._path} is closed")
        check_feeds(self._signature, feeds)
        try:
            values = self._engine.run(self._outputs, dict(feeds))
        except ENGINE_ERRORS as error:
            raise RunFailed(f"onnxruntime failed on {self._path}: {error}") from error
        self._last = feeds
        return dict(zip(self._outputs, values, strict=True))

    def placement(self) -> Placement:
        """Nodes that ran, by precision and device, from the profile of some runs."""
        return self._executed().placement()

    def profile(self) -> tuple[OperatorTime, ...]:
        """Share of time of each node that ran, costliest first."""
        return self._executed().operators()

    def close(self) -> None:
        """Free the engine."""
        self._engine = None
        self._last = None

    def _executed(self) -> Execution:
        """Profile the last feeds, or made-up ones, in a second engine with the same options."""
        if self._engine is None:
            raise SessionClosed(f"the session of {self._path} is closed")
        candidates = [self._last] if self._last is not None else list(example_feeds(self._signature))
        problem: Exception | None = None
        for feeds in candidates:
            try:
                return read_execution(
                    lambda options: _open_engine(self._path, options),
                    session_options(self._request),
                    feeds,
                    compiled_for=self.precision,
                )
            except ENGINE_ERRORS as error:
                problem = error
        raise RunFailed(
            f"onnxruntime cannot run made-up inputs on {self._path}: {problem}",
            hint="run the session once on real inputs before asking for its placement",
        ) from problem


def session_options(request: OpenRequest) -> ort.SessionOptions:
    """Session options for the request: its threads and run options, nothing that varies by itself."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = request.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    spinning = "1" if request.options.get("spinning", False) else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    level = str(request.options.get("optimization", "all"))
    if level not in _OPTIMIZATION:
        raise OpenFailed(f"run option optimization is {level!r}", hint=f"one of {', '.join(_OPTIMIZATION)}")
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _OPTIMIZATION[level])
    return options


def _open_engine(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    ort.disable_telemetry_events()
    try:
        engine = ort.InferenceSession(
            os.fspath(path), options, providers=[PROVIDER], disabled_optimizers=_SLOWER
        )
    except ENGINE_ERRORS as error:
        raise OpenFailed(
            f"onnxruntime {ort.__version__} cannot open {path}: {error}",
            hint="the file is damaged, or was made for another version: compile it again",
        ) from error
    engine.disable_fallback()
    return engine


def engine_signature(engine: ort.InferenceSession) -> Signature:
    return Signature(
        inputs=tuple(_tensor(node) for node in engine.get_inputs()),
        outputs=tuple(_tensor(node) for node in engine.get_outputs()),
    )


def _tensor(node: ort.NodeArg) -> TensorSpec:
    """An axis that has neither size nor name is called after its tensor and place: "input_ids.1"."""
    if node.type not in _DTYPES:
        raise OpenFailed(f"tensor {node.name!r} is a {node.type}, which edgekit does not feed")
    shape = tuple(
        size if isinstance(size, int | str) and size != "" else f"{node.name}.{axis}"
        for axis, size in enumerate(node.shape)
    )
    return TensorSpec(name=node.name, dtype=_DTYPES[node.type], shape=shape)
