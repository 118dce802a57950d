"""The compile half of a backend that claims every capability, and keeps every promise."""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.api import Compiled, CompileFailed, CompileRequest, PrecisionNotGiven, ProgressCallback
from edgekit_example.compiler import VERSIONS, load
from edgekit_example.compiler import Compiler as ExampleCompiler

WEIGHTED = ("MatMul", "Gemm", "Conv")


class Compiler(ExampleCompiler):
    """int8 means that the weights of matrix products and convolutions are rounded to int8."""

    def compile(self, request: CompileRequest, progress: ProgressCallback) -> Compiled:
        if request.precision not in ("fp32", "int8"):
            raise PrecisionNotGiven(f"no {request.precision} here")
        model = self.read(request)
        low = self.round_weights(model, request.keep_high) if request.precision == "int8" else 0
        onnx.save_model(model, request.workdir / "model.onnx")
        (request.workdir / "nodes.json").write_text(json.dumps({"int8": low, "nodes": len(model.graph.node)}))
        progress(1, 1, "written")
        return Compiled(
            files=("model.onnx", "nodes.json"), precision=request.precision, engine_versions=VERSIONS
        )

    def read(self, request: CompileRequest) -> onnx.ModelProto:
        model = load(request.model)
        if not model.graph.node:
            raise CompileFailed(f"{request.model} holds no graph")
        return model

    def round_weights(self, model: onnx.ModelProto, keep_high: tuple[str, ...]) -> int:
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        rounded = 0
        for node in model.graph.node:
            if node.op_type in WEIGHTED and node.input[1] in weights and node.name not in keep_high:
                tensor = weights[node.input[1]]
                value = numpy_helper.to_array(tensor)
                step = np.abs(value).max() / 127
                near = (np.round(value / step) * step).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(near, tensor.name))
                rounded += 1
        return rounded
