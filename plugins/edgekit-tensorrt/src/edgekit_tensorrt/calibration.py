"""The rows that a graph is looked at with, and running them through ONNX Runtime, one in memory at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as native

from edgekit.api import CompileFailed, CompileRequest, InputError, ProgressCallback, read_feeds
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.signatures import check_feeds, example_feeds

ENGINE_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(value for value in vars(native).values() if isinstance(value, type) and issubclass(value, Exception)),
)
#: Called with the values of one row, in the order they were asked for.
See = Callable[[int, list[Array]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Calibration rows, or made-up feeds where there are none. count: how many are used."""

    request: CompileRequest
    count: int

    @property
    def real(self) -> bool:
        """Whether they are rows of data."""
        return self.request.calibration is not None

    def __str__(self) -> str:
        rows = "row" if self.count == 1 else "rows"
        return f"{self.count} calibration {rows}" if self.real else "made-up inputs"

    def feeds(self) -> Iterator[Feeds]:
        """The rows in order. Raises `CompileFailed` for one that does not fit the model."""
        if self.request.calibration is None:
            yield next(example_feeds(self.request.signature))
            return
        for index, feeds in enumerate(read_feeds(self.request.calibration)):
            if index >= self.count:
                return
            try:
                check_feeds(self.request.signature, feeds)
            except InputError as error:
                raise CompileFailed(
                    f"calibration row {index + 1} does not fit the model: {error.message}", hint=error.hint
                ) from error
            yield feeds


def rows_of(request: CompileRequest, most: int = 0) -> Rows:
    """The rows that a request brings, at most `most` of them (0: all)."""
    if request.calibration is None:
        return Rows(request=request, count=1)
    found = sum(1 for path in request.calibration.glob("*.safetensors") if path.stem.isdecimal())
    return Rows(request=request, count=min(found, most) if most else found)


def check_different(rows: Rows) -> None:
    """Raise `CompileFailed` when all rows are one and the same: ranges of them hold for nothing else."""
    seen: set[bytes] = set()
    for feeds in rows.feeds():
        seen.add(_digest(feeds))
        if len(seen) > 1:
            return
    if rows.count > 1:
        raise CompileFailed(
            f"all {rows.count} calibration rows are the same: ranges learnt from them hold for nothing else",
            hint="give rows like those that the model will see",
        )


def open_engine(path: Path, threads: int) -> ort.InferenceSession:
    """ONNX Runtime on a graph as it is written: nothing is fused, no weight is copied.

    Raises `CompileFailed` for a graph that it does not take.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    # Planning which buffers can be used again took 20 s for a graph of 9,000 nodes and all else 0.3 s;
    # without an arena the peak of memory was the same (1.4 GiB).
    options.enable_mem_reuse = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except ENGINE_ERRORS as error:
        raise CompileFailed(
            f"ONNX Runtime, which checks the graph before it is built, does not take it: {error}",
            hint="export the model again with another opset, or compile for fp32",
        ) from error


def run_row(engine: ort.InferenceSession, names: Sequence[str], feeds: Feeds, row: int) -> list[Array]:
    """The named tensors for one row. Raises `CompileFailed` naming the row."""
    try:
        values: list[Array] = engine.run(list(names), dict(feeds))
    except ENGINE_ERRORS as error:
        raise CompileFailed(
            f"ONNX Runtime cannot run row {row + 1} of the inputs that precisions are checked with: {error}",
            hint="rows must have the shapes that the model was exported for; give some by --calibration",
        ) from error
    return values


def watch(
    engine: ort.InferenceSession, names: Sequence[str], rows: Rows, see: See, progress: ProgressCallback
) -> None:
    """Show `see` the named tensors of every row."""
    for index, feeds in enumerate(rows.feeds()):
        progress(index, rows.count, "looking at activations")
        see(index, run_row(engine, names, feeds, index))


def save_watching(model: onnx.ModelProto, names: Sequence[str], path: Path) -> None:
    """Write a graph whose outputs are the named tensors; the model is left as it was."""
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        path.write_bytes(model.SerializeToString())
    finally:
        del model.graph.output[:]
        model.graph.output.extend(outputs)


def _digest(feeds: Feeds) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(feeds):
        value = np.asarray(feeds[name])
        digest.update(f"{name}{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.digest()
