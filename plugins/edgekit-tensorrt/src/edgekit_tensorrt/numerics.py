"""Running a typed graph through ONNX Runtime before it is built, and comparing it with the fp32 graph.

ONNX Runtime's CPU computes 16-bit nodes in fp32 and does not round between them, so an overflow would not be
seen. Here every tensor that the typed graph has in 16 bits is rounded to them explicitly. Sums inside a node
are taken in fp32, as by tensor cores; a GPU kernel that sums in 16 bits is not foreseen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from edgekit.api import PrecisionNotGiven, ProgressCallback
from edgekit_runtime.session import Array, Feeds
from edgekit_tensorrt.calibration import Rows, open_engine, run_row, save_watching
from edgekit_tensorrt.graph import FLOAT, Source, WeightFile, key, stored_bytes
from edgekit_tensorrt.narrowing import NEVER
from edgekit_tensorrt.writing import Written

#: The largest error over all rows, as a share of the outputs' own size, with which a graph is built.
LIMITS: Mapping[str, float] = {
    "fp16": 0.1,
    "bf16": 0.3,
    "int8": 0.5,
    "fp8": 0.5,
    "int8-weights": 0.3,
    "int4-weights": 0.7,
}
_RANK_OF_CLASSES = 2
#: From this error on a node is blamed.
_FAR = 0.5
_RAISED = "emulated.data"


@dataclass(slots=True, kw_only=True)
class Agreement:
    """How close the typed graph's outputs are to those of fp32. Sums run over all rows and outputs.

    changed, choices: how many rows of classes have another largest one, and how many there are; broken: the
    first row with a number that is not finite; reshaped: outputs of another shape, which are not compared.
    """

    gap: float = 0.0
    size: float = 0.0
    changed: int = 0
    choices: int = 0
    broken: int | None = None
    reshaped: int = 0
    worst: tuple[float, int] = field(default=(-1.0, 0))

    @property
    def error(self) -> float:
        """Root of the summed squares of the differences, over that of the outputs."""
        return float(np.sqrt(self.gap / self.size)) if self.size else float(self.gap > 0)

    def see(self, row: int, exact: Sequence[Array], typed: Sequence[Array]) -> None:
        """Take in a row."""
        gap = 0.0
        for one, other in zip(exact, typed, strict=True):
            if one.shape != other.shape:
                self.reshaped += 1
                continue
            counted = np.isfinite(one)
            if not np.isfinite(other[counted]).all() and self.broken is None:
                self.broken = row
            difference = np.where(counted, other, 0).astype(np.float64) - np.where(counted, one, 0)
            gap += float(np.square(difference).sum())
            self.size += float(np.square(one[counted].astype(np.float64)).sum())
            if one.ndim == _RANK_OF_CLASSES and one.shape[1] > 1 and counted.all():
                self.changed += int((one.argmax(axis=1) != other.argmax(axis=1)).sum())
                self.choices += len(one)
        self.gap += gap
        self.worst = max(self.worst, (gap, row))

    def __str__(self) -> str:
        chosen = (
            f", the largest output is another in {self.changed} of {self.choices}" if self.choices else ""
        )
        other = f", {self.reshaped} have another shape" if self.reshaped else ""
        return f"off by {self.error:.2g} of their size{chosen}{other}"


def check_numerics(
    source: Source, written: Written, rows: Rows, precision: str, progress: ProgressCallback
) -> Agreement:
    """Compare the graphs on these rows.

    Raises `PrecisionNotGiven`, naming the first node at fault, where the typed graph gives numbers that are
    not finite or too far off.
    """
    outputs = [port.name for port in source.model.graph.output if source.types.get(port.name) == FLOAT]
    agreement = Agreement()
    with _watching(source.model, outputs, source.work / "exact.onnx") as path:
        exact = open_engine(path, rows.request.threads)
    imitation = emulated(written)
    with _watching(imitation, outputs, source.work / "emulated.onnx") as path:
        typed = open_engine(path, rows.request.threads)
    for index, feeds in enumerate(rows.feeds()):
        progress(index, rows.count, "checking numbers")
        agreement.see(index, run_row(exact, outputs, feeds, index), run_row(typed, outputs, feeds, index))
    del exact, typed
    problem = ""
    if agreement.broken is not None:
        problem = f"{precision} gives numbers that are not finite"
    elif not agreement.error <= LIMITS[precision]:
        problem = f"in {precision} the outputs are {agreement}"
    if problem:
        row = agreement.worst[1] if agreement.broken is None else agreement.broken
        culprit = _culprit(source, imitation, written, rows, row)
        blamed = f"; the first node that is far off is {culprit!r}" if culprit else ""
        raise PrecisionNotGiven(
            f"{problem} on row {row + 1} of {rows}{blamed}",
            hint=f"keep_high = [{culprit!r}]" if culprit else "compile for fp32",
        )
    (written.path.with_name(_RAISED)).unlink(missing_ok=True)
    return agreement


def emulated(written: Written) -> onnx.ModelProto:
    """The typed graph in fp32, with a rounding wherever it has a 16-bit tensor. Weights go beside it."""
    model = onnx.load(written.path, load_external_data=False)
    made = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    made.functions.extend(model.functions)
    made.graph.name = model.graph.name
    made.graph.input.extend(model.graph.input)
    made.graph.output.extend(model.graph.output)
    outputs = {port.name for port in model.graph.output}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    with WeightFile(written.path.with_name(_RAISED)) as file:
        for node in model.graph.node:
            if any(attribute.name == "block_size" for attribute in node.attribute):
                array = _raised(node, stored, written)
                raw = np.ascontiguousarray(array, np.float32).tobytes()
                made.graph.initializer.append(file.add(node.output[0], FLOAT, array.shape, raw))
            else:
                made.graph.node.extend(_rounded(node, written))
        read = {name for node in made.graph.node for name in node.input}
        for tensor in model.graph.initializer:
            if tensor.data_type == written.half.code and tensor.name in read:
                raw = written.half.read(_bits(tensor, written.path.parent)).tobytes()
                tensor = file.add(tensor.name, FLOAT, tensor.dims, raw)
            if tensor.data_type != onnx.TensorProto.INT4 and tensor.name in read | outputs:
                made.graph.initializer.append(tensor)
    return made


def _rounded(node: onnx.NodeProto, written: Written) -> Iterator[onnx.NodeProto]:
    """A node in fp32, and behind it the rounding of what it gives in 16 bits."""
    made = onnx.NodeProto.FromString(node.SerializeToString())
    for attribute in made.attribute:
        if node.op_type != "Cast" and attribute.name in ("to", "dtype") and attribute.i == written.half.code:
            attribute.i = FLOAT
        elif attribute.t.data_type == written.half.code:
            raised = written.half.read(np.frombuffer(attribute.t.raw_data, np.uint16))
            attribute.t.CopyFrom(numpy_helper.from_array(raised.reshape(list(attribute.t.dims))))
    slim = [(index, name) for index, name in enumerate(node.output) if name.endswith(written.suffix)]
    for index, name in slim:
        made.output[index] = f"{name}.exact"
    yield made
    for _, name in slim:
        if node.op_type == "Cast":
            yield helper.make_node("Cast", [f"{name}.exact"], [name], f"{name}.again", to=FLOAT)
            continue
        code = written.half.code
        yield helper.make_node("Cast", [f"{name}.exact"], [f"{name}.half"], f"{name}.rounding", to=code)
        yield helper.make_node("Cast", [f"{name}.half"], [name], f"{name}.again", to=FLOAT)


def _raised(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto], written: Written) -> Array:
    """What a DequantizeLinear of blocks of 4 bits gives: ONNX Runtime has it from operator set 21 on only."""
    weight, scales = (stored[name] for name in node.input[:2])
    raw = _bytes(weight, written.path.parent)
    pairs = np.frombuffer(raw, np.uint8)
    whole = np.stack([pairs & 0xF, pairs >> 4], axis=1).reshape(-1)[: int(np.prod(weight.dims))]
    numbers = (whole.astype(np.int8) ^ 8) - np.int8(8)
    axis, block = (
        next(item.i for item in node.attribute if item.name == name) for name in ("axis", "block_size")
    )
    slim = scales.data_type == written.half.code
    raw = _bytes(scales, written.path.parent)
    scale = written.half.read(np.frombuffer(raw, np.uint16)) if slim else np.frombuffer(raw, np.float32)
    wide = np.repeat(scale.reshape(list(scales.dims)), block, axis=axis)
    raised = numbers.reshape(list(weight.dims)).astype(np.float32) * wide
    return written.half.read(written.half.stored(raised)) if slim else raised


def _culprit(source: Source, imitation: onnx.ModelProto, written: Written, rows: Rows, row: int) -> str:
    """The first node, in the graph's order, whose output is far off or not finite on a row; "" if none is."""
    given = {name for node in imitation.graph.node for name in node.output}
    pairs: list[tuple[str, str, str]] = []
    for node in source.model.graph.node:
        name = key(node)
        other = name + written.suffix if name + written.suffix in given else name
        if source.types.get(name) == FLOAT and other in given:
            pairs.append((node.name, name, other))
    feeds = next(feeds for index, feeds in enumerate(rows.feeds()) if index == row)
    exact = _tensors(source.model, source.work, [name for _, name, _ in pairs], rows, feeds)
    work = written.path.parent
    typed = _tensors(imitation, work, [name for _, _, name in pairs], rows, feeds)
    for (name, _, _), one, two in zip(pairs, exact, typed, strict=True):
        if _far(one, two, written.half.largest / 2):
            return name
    return ""


def _far(one: Array, other: Array, end: float) -> bool:
    """Whether a tensor is not finite where fp32's is, or off by half its size; masks are left out."""
    if one.shape != other.shape:
        return True
    counted = np.isfinite(one) & (np.abs(one) < max(NEVER, end))
    if not np.isfinite(other[counted]).all():
        return True
    gap = np.square(other[counted].astype(np.float64) - one[counted]).sum()
    return bool(gap > _FAR**2 * np.square(one[counted].astype(np.float64)).sum())


def _tensors(
    model: onnx.ModelProto, work: Path, names: Sequence[str], rows: Rows, feeds: Feeds
) -> list[Array]:
    with _watching(model, names, work / "culprit.onnx") as path:
        engine = open_engine(path, rows.request.threads)
    return run_row(engine, names, feeds, 0)


@contextlib.contextmanager
def _watching(model: onnx.ModelProto, names: Sequence[str], path: Path) -> Iterator[Path]:
    save_watching(model, names, path)
    try:
        yield path
    finally:
        path.unlink()


def _bits(tensor: onnx.TensorProto, work: Path) -> Array:
    """A 16-bit stored tensor as it is, in its own shape."""
    return np.frombuffer(_bytes(tensor, work), np.uint16).reshape(list(tensor.dims))


def _bytes(tensor: onnx.TensorProto, work: Path) -> bytes:
    return stored_bytes(tensor, work) if uses_external_data(tensor) else bytes(tensor.raw_data)
