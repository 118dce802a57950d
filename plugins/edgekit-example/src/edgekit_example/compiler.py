"""The compile half. The engine runs ONNX itself, so compiling is checking and copying."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx.reference import ReferenceEvaluator

from edgekit.api import (
    Compiled,
    CompileFailed,
    CompileRequest,
    OperatorSupport,
    PrecisionNotGiven,
    Probe,
    ProgressCallback,
    Support,
    Target,
)

VERSIONS = {"onnx": onnx.__version__}
DAMAGED = (OSError, ValueError, DecodeError, EncodeError, onnx.checker.ValidationError)


class Compiler:
    def probe(self) -> Probe:
        return Probe(available=True, versions=VERSIONS)

    def check(self, model: Path, target: Target) -> Support:
        loaded = load(model)
        problem = refusal(loaded)
        alone = {
            node.op_type: refusal(one_node(node, loaded)) if problem else "" for node in loaded.graph.node
        }
        counts = Counter(node.op_type for node in loaded.graph.node)
        operators = tuple(
            OperatorSupport(op_type=name, count=counts[name], supported=not reason, reason=reason)
            for name, reason in alone.items()
        )
        return Support(supported=not problem, operators=operators, notes=(problem,) if problem else ())

    def compile(self, request: CompileRequest, progress: ProgressCallback) -> Compiled:
        if request.precision != "fp32":
            raise PrecisionNotGiven(f"the example backend computes in fp32, not {request.precision}")
        model = load(request.model)
        problem = refusal(model)
        if problem:
            raise CompileFailed(f"{request.model}: {problem}")
        onnx.save_model(model, request.workdir / "model.onnx")  # and nowhere else
        progress(1, 1, "copied")
        return Compiled(files=("model.onnx",), precision="fp32", engine_versions=VERSIONS)


def load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)  # with the weights that may lie beside it
        onnx.checker.check_model(model)
    except DAMAGED as error:
        raise CompileFailed(f"{path} is damaged: {error}", hint="export the model again") from error
    return model


def refusal(model: onnx.ModelProto) -> str:
    try:
        ReferenceEvaluator(model)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        return str(error).splitlines()[0]
    return ""


def one_node(node: onnx.NodeProto, model: onnx.ModelProto) -> onnx.ModelProto:
    graph = onnx.helper.make_graph([node], "one", [], [])
    return onnx.helper.make_model(graph, opset_imports=list(model.opset_import))
