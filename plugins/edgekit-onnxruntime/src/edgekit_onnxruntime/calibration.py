"""Looking at activations, one calibration row in memory at a time."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from edgekit.api import CompileFailed, CompileRequest, InputError, ProgressCallback, read_feeds
from edgekit_onnxruntime.beside import save_beside
from edgekit_onnxruntime.session import ENGINE_ERRORS, PROVIDER, engine_signature
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.signatures import check_feeds

#: Called with the name of a tensor, the number of a run from 0, and its value there.
See = Callable[[str, int, Array], None]


def observe(
    request: CompileRequest,
    model: onnx.ModelProto,
    tensors: Sequence[str],
    see: See,
    progress: ProgressCallback,
) -> int:
    """Run every calibration row through `model` and show the float `tensors`, in the graph's order, to `see`.

    `model` is the graph of the file `request.model`, or made of it.
    Returns the number of rows. Raises `CompileFailed` for rows that do not fit, that are all the same, or
    whose activations are not finite: it names the row and the node.
    """
    if request.calibration is None:
        raise CompileFailed("there are no calibration rows", hint="--calibration FILE")
    total = count_rows(request)
    engine = _watching(model, tensors, request)
    makers = {output: node.name or node.op_type for node in model.graph.node for output in node.output}
    seen: set[bytes] = set()
    count = 0
    for feeds in read_feeds(request.calibration):
        progress(count, total, "calibrating")
        count += 1
        seen.add(_digest(feeds))
        for name, value in zip(tensors, _run(engine, tensors, feeds, count), strict=True):
            _check_finite(name, value, makers, count)
            if value.size:
                see(name, count - 1, value)
    if count > 1 and len(seen) == 1:
        raise CompileFailed(
            f"all {count} calibration rows are the same: ranges learnt from them hold for nothing else",
            hint="give rows like those that the model will see",
        )
    return count


def count_rows(request: CompileRequest) -> int:
    """Calibration rows that the request brings."""
    return 0 if request.calibration is None else sum(1 for _ in request.calibration.glob("*.safetensors"))


def _watching(
    model: onnx.ModelProto, tensors: Sequence[str], request: CompileRequest
) -> ort.InferenceSession:
    """An engine that hands out `tensors`. Its graph is not optimized, so that each of them exists."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = request.threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        # The engine may have the weights' file open still, which Windows does not delete.
        with tempfile.TemporaryDirectory(prefix="edgekit-watching-", ignore_cleanup_errors=True) as scratch:
            path = Path(scratch) / "watching.onnx"
            there = save_beside(model, [onnx.ValueInfoProto(name=name) for name in tensors], path)
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path",
                str(request.model.parent if there else path.parent),
            )
            return ort.InferenceSession(str(path), options, providers=[PROVIDER])
    except ENGINE_ERRORS as error:
        raise CompileFailed(f"onnxruntime cannot calibrate {request.model}: {error}") from error


def _run(engine: ort.InferenceSession, tensors: Sequence[str], feeds: Feeds, row: int) -> list[Array]:
    try:
        check_feeds(engine_signature(engine), feeds)
        values: list[Array] = engine.run(list(tensors), dict(feeds))
    except InputError as error:
        raise CompileFailed(
            f"calibration row {row} does not fit the model: {error.message}", hint=error.hint
        ) from error
    except ENGINE_ERRORS as error:
        raise CompileFailed(
            f"onnxruntime cannot run calibration row {row}: {error}",
            hint="the rows must have the shapes that the model was exported for",
        ) from error
    return values


def _check_finite(name: str, value: Array, makers: dict[str, str], row: int) -> None:
    if np.isfinite(value).all():
        return
    kind = "NaN" if np.isnan(value).any() else "infinity"
    where = f"node {makers[name]!r}" if name in makers else f"input {name!r}"
    raise CompileFailed(
        f"{where} gives {kind} on calibration row {row}, which no range can hold",
        hint="look at that row and at the model in fp32; a node named in keep_high is not quantized",
    )


def _digest(feeds: Feeds) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(feeds):
        value = np.asarray(feeds[name])
        digest.update(f"{name}{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.digest()
