"""The session half. It runs on devices where edgekit is not installed: only edgekit_runtime is."""

from __future__ import annotations

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx.reference import ReferenceEvaluator

from edgekit_runtime.errors import OpenFailed, RunFailed, SessionClosed
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.signatures import check_feeds
from edgekit_runtime.values import OpenRequest, OperatorTime, Placement, PlacementRow, Signature, TensorSpec


def open_session(request: OpenRequest) -> ExampleSession:
    if request.device != "cpu" or request.precision != "fp32":
        raise OpenFailed(f"the example backend runs fp32 on cpu, not {request.precision} on {request.device}")
    path = request.directory / "model.onnx"
    try:
        return ExampleSession(onnx.load(path))
    except (OSError, ValueError, RuntimeError, DecodeError) as error:
        raise OpenFailed(f"{path} is damaged: {error}", hint="compile the model again") from error


class ExampleSession:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._engine: ReferenceEvaluator | None = ReferenceEvaluator(model)
        self._nodes = len(model.graph.node)
        weights = {tensor.name for tensor in model.graph.initializer}
        self._signature = Signature(
            inputs=tuple(spec(value) for value in model.graph.input if value.name not in weights),
            outputs=tuple(spec(value) for value in model.graph.output),
        )

    @property
    def signature(self) -> Signature:
        return self._signature

    def run(self, feeds: Feeds) -> dict[str, Array]:
        if self._engine is None:
            raise SessionClosed("this session is closed")
        check_feeds(self._signature, feeds)  # InputError in the words that every backend uses
        try:
            values = self._engine.run(None, dict(feeds))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise RunFailed(f"the reference implementation failed: {error}") from error
        names = [output.name for output in self._signature.outputs]
        # Copies: an output may be a feed or a constant of the graph, and both must stay as they are.
        return {name: np.array(value) for name, value in zip(names, values, strict=True)}

    def placement(self) -> Placement:
        if self._engine is None:
            raise SessionClosed("this session is closed")
        row = PlacementRow(precision="fp32", device="cpu", nodes=self._nodes)
        return Placement(rows=(row,), source="the reference runs every node of the file, in numpy")

    def profile(self) -> tuple[OperatorTime, ...]:
        return ()  # the engine cannot tell, so capability "profile" is not claimed

    def close(self) -> None:
        self._engine = None


def spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    shape = tuple(
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or f"{value.name}.{place}"
        for place, axis in enumerate(tensor.shape.dim)
    )
    return TensorSpec(name=value.name, dtype=dtype, shape=shape)
