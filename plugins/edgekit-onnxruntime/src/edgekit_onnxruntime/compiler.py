"""The compile half: fp32 is the model as exported; lower precisions are made by `quantize`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import onnxruntime as ort

from edgekit.api import (
    Compiled,
    CompileFailed,
    CompileRequest,
    LearntRanges,
    OpenFailed,
    OpenRequest,
    OperatorSupport,
    PrecisionNotGiven,
    Probe,
    ProgressCallback,
    Support,
    Target,
    check_keep_high,
    operator_counts,
    operator_name,
    passed_through,
)
from edgekit_onnxruntime import quantize
from edgekit_onnxruntime.graph import data_files, is_half, load_graph
from edgekit_onnxruntime.session import ENGINE_ERRORS, MODEL_FILE, PROVIDER, open_session
from edgekit_onnxruntime.settings import mark

PRECISIONS = ("fp32", "int8", "int8-weights", "int4-weights")
_SMALL = 1024


class Compiler:
    """Implements `edgekit.backend.Compiler`."""

    def probe(self) -> Probe:
        """Whether the CPU provider is in this build of onnxruntime."""
        there = PROVIDER in ort.get_available_providers()
        reason = "" if there else f"onnxruntime {ort.__version__} was built without its CPU provider"
        return Probe(available=there, reason=reason, versions=versions())

    def check(self, model: Path, target: Target) -> Support:
        """Let onnxruntime load the model; when it refuses, try one node of each operator alone."""
        graph = load_graph(model)
        counts = operator_counts(graph.graph)
        problem = _refusal(str(model))
        refused = _refused_operators(graph) if problem else {}
        operators = tuple(
            OperatorSupport(
                op_type=name, count=count, supported=name not in refused, reason=refused.get(name, "")
            )
            for name, count in sorted(counts.items())
        )
        notes = (problem,) if problem and not refused else ()
        return Support(supported=not problem, operators=operators, notes=notes)

    def compile(self, request: CompileRequest, progress: ProgressCallback) -> Compiled:
        """Write `model.onnx`, and its data files if it has any; then open it once as a device would."""
        progress(0, 3, "reading the model")
        given = _check(request)
        files, notes, ranges = _written(request, given, progress)
        progress(2, 3, "opening the result")
        _open_once(request)
        progress(3, 3, "done")
        return Compiled(
            files=files,
            precision=request.precision,
            engine_versions=versions(),
            notes=notes,
            ranges=ranges,
        )


def _written(
    request: CompileRequest, given: str, progress: ProgressCallback
) -> tuple[tuple[str, ...], tuple[str, ...], LearntRanges | None]:
    """Files, notes and learnt ranges. given: what to note of a model that is quantized already."""
    if request.precision != "fp32" and not given:
        progress(1, 3, "quantizing")
        return quantize.quantize(request, progress)
    progress(1, 3, "copying")
    return (_marked(request), (given,), None) if given else (_copied(request), (), None)


def versions() -> dict[str, str]:
    """Versions of what makes the artifact."""
    return {"onnxruntime": ort.__version__, "onnx": onnx.__version__}


def _check(request: CompileRequest) -> str:
    """What to note of a model that is quantized already, "" for one that is not.

    The model is held no longer than this: what follows needs its memory.
    """
    model = load_graph(request.model)
    check_keep_high(model.graph, request.keep_high)
    return _check_precision(request, model)


def _check_precision(request: CompileRequest, model: onnx.ModelProto) -> str:
    if request.precision not in PRECISIONS:
        raise PrecisionNotGiven(
            f"onnxruntime's CPU provider has no {request.precision}: it would convert to fp32 and back",
            hint=f"compile for {', '.join(PRECISIONS)}, or use another backend",
        )
    if is_half(model):
        raise PrecisionNotGiven(
            f"{request.model} holds 16-bit weights: onnxruntime's CPU provider would compute partly in 16, "
            f"partly in 32 bits, not in {request.precision}",
            hint="export the model in float32",
        )
    return passed_through(model, request)


def _marked(request: CompileRequest) -> tuple[str, ...]:
    """The model as it is, with the precision that it has by itself written into it."""
    files = _copied(request)
    model = onnx.load(request.workdir / MODEL_FILE, load_external_data=False)
    mark(model, request.precision)
    onnx.save_model(model, request.workdir / MODEL_FILE)
    return files


def _copied(request: CompileRequest) -> tuple[str, ...]:
    """The model as it is: saving the graph that onnxruntime optimized was measured to gain nothing."""
    names = data_files(load_graph(request.model), request.model)
    for name in names:
        destination = request.workdir / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(request.model.parent / name, destination)
    shutil.copyfile(request.model, request.workdir / MODEL_FILE)
    return (MODEL_FILE, *names)


def _open_once(request: CompileRequest) -> None:
    wish = OpenRequest(directory=request.workdir, precision=request.precision, threads=request.threads)
    try:
        open_session(wish).close()
    except OpenFailed as error:
        raise CompileFailed(
            f"{request.model}: {error.message}",
            hint="the backend's check says which operators it refuses; another opset may help",
        ) from error


def _refusal(model: str | bytes) -> str:
    """Why onnxruntime does not load this model; "" when it does. Nothing is optimized, nothing is run."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    try:
        ort.InferenceSession(model, options, providers=[PROVIDER])
    except ENGINE_ERRORS as error:
        return str(error).splitlines()[0]
    return ""


def _refused_operators(model: onnx.ModelProto) -> dict[str, str]:
    """Operators of which a node, cut out of the graph, is refused; with onnxruntime's reason."""
    types = _tensor_types(model)
    refused: dict[str, str] = {}
    for node in model.graph.node:
        name = operator_name(node)
        if name not in refused and not any(attribute.HasField("g") for attribute in node.attribute):
            reason = _refusal(_alone(node, model, types))
            if reason:
                refused[name] = reason
    return refused


def _tensor_types(model: onnx.ModelProto) -> Mapping[str, onnx.TypeProto]:
    """Types by tensor name, as far as ONNX can infer them; shapes are left out."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types: dict[str, onnx.TypeProto] = {}
    for info in (*inferred.value_info, *inferred.input, *inferred.output):
        types[info.name] = onnx.helper.make_tensor_type_proto(info.type.tensor_type.elem_type, None)
    for tensor in inferred.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, None)
    return types


def _alone(node: onnx.NodeProto, model: onnx.ModelProto, types: Mapping[str, onnx.TypeProto]) -> bytes:
    """A model of this one node. Small constants stay constants; a type nobody knows is taken as float."""
    unknown = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    constants = [
        tensor for tensor in model.graph.initializer if tensor.name in node.input and _is_small(tensor)
    ]
    fixed = {tensor.name for tensor in constants}
    graph = onnx.helper.make_graph(
        [node],
        "alone",
        [onnx.helper.make_value_info(name, types.get(name, unknown)) for name in _fed(node, fixed)],
        [onnx.ValueInfoProto(name=name) for name in node.output if name],
        constants,
    )
    made = onnx.helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    data: bytes = made.SerializeToString()
    return data


def _fed(node: onnx.NodeProto, fixed: set[str]) -> Iterator[str]:
    yield from dict.fromkeys(name for name in node.input if name and name not in fixed)


def _is_small(tensor: onnx.TensorProto) -> bool:
    external = onnx.external_data_helper.uses_external_data(tensor)
    return not external and len(tensor.raw_data) <= _SMALL
