"""What every way of quantizing is told, and how the library is called."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgekit_onnxruntime.session import PRECISION_KEY

#: A model file of protobuf cannot be larger; beyond this the weights go to a file beside it.
MAX_SINGLE_FILE = 1_900_000_000

#: What onnxruntime's quantizers raise for graphs that they do not understand.
LIBRARY_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    RuntimeError,
    AttributeError,
    KeyError,
    IndexError,
    TypeError,
    AssertionError,
    onnx.shape_inference.InferenceError,
    onnx.checker.ValidationError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to quantize. output: the file to write; signed: int8 weights are right on the target."""

    output: Path
    signed: bool
    per_channel: bool
    embeddings: bool
    smooth: bool
    ranges: str
    block_size: int
    symmetric: bool
    algorithm: str
    keep_high: tuple[str, ...]


@contextlib.contextmanager
def library() -> Iterator[None]:
    """onnxruntime's quantizers print their progress and log advice that changes nothing here."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)


def is_large(model: onnx.ModelProto) -> bool:
    """Whether the weights need a file of their own."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer) > MAX_SINGLE_FILE


def mark(model: onnx.ModelProto, precision: str) -> None:
    """Write into the model which precision it is of, for the session to check."""
    kept = [entry for entry in model.metadata_props if entry.key != PRECISION_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend([*kept, onnx.StringStringEntryProto(key=PRECISION_KEY, value=precision)])


def written(output: Path) -> tuple[str, ...]:
    """The files beside `output`, itself among them."""
    return tuple(sorted(path.name for path in output.parent.iterdir()))
