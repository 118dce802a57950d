"""Finding the nodes that 16 bits would harm, by measuring every node alone on real inputs.

Beside each node of the fp32 graph stands a shadow: the same node with its inputs and its output rounded.
What the two give is compared inside ONNX Runtime, so that a row's activations need no more memory than a run.
A node is dangerous when its numbers come near the end of the range, or when the shadow is far from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.api import ProgressCallback
from edgekit_runtime.session import Array
from edgekit_tensorrt.calibration import Rows, open_engine, watch
from edgekit_tensorrt.graph import FLOAT, Source, WeightFile, key
from edgekit_tensorrt.narrowing import NEVER, Half, can_narrow, ports

#: The range a value may use up on the rows seen: other rows have larger ones.
_HEADROOM = 4.0
#: How far a shadow may be off, in units of the format's rounding, of the node's largest value.
_UNITS = 64.0
#: How often the nodes kept high are measured again.
_ROUNDS = 6
#: Operators that only move values: a rounding before them is felt behind them.
_MOVE = (
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Danger:
    """One dangerous node. why: what was measured."""

    name: str
    op_type: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} ({self.op_type}: {self.why})"


@dataclass(slots=True, kw_only=True)
class _Figures:
    """The worst that was seen of each node: largest magnitude, and the shadow's error over it."""

    largest: Array
    error: Array

    def see(self, row: int, values: Sequence[Array]) -> None:
        """Take in a row: difference, sum of differences (not finite when one is not), largest magnitude."""
        difference, total, largest = np.stack(values).astype(np.float64).T
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.where(difference > 0, difference / largest, 0.0)
        error = np.where(np.isfinite(total) & np.isfinite(error), error, np.inf)
        self.largest = np.maximum(self.largest, largest)
        self.error = np.maximum(self.error, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Dangerous nodes in the graph's order, and the keys of all that must stay in fp32 for their sake."""

    dangers: tuple[Danger, ...]
    high: frozenset[str]


def find_dangers(source: Source, half: Half, rows: Rows, progress: ProgressCallback) -> Found:
    """Measure every node that could be narrowed on these rows.

    The nodes kept high are measured again with each other's exact outputs, as long as what still reaches
    them rounded harms them: then what gives them that is kept high too.
    """
    shadows = _Measure(source=source, half=half, rows=rows, progress=progress)
    nodes = [node for node in source.model.graph.node if _measurable(node, source)]
    figures = shadows.figures(nodes, frozenset())
    dangers = {
        key(node): Danger(name=node.name, op_type=node.op_type, why=why)
        for node, largest, error in zip(nodes, figures.largest, figures.error, strict=True)
        if (why := _why(float(largest), float(error), half))
    }
    high = frozenset(_with_readers(source, dangers))
    makers = {name: node for node in source.model.graph.node for name in node.output}
    for _ in range(_ROUNDS):
        kept = [node for node in nodes if key(node) in high]
        error = shadows.figures(kept, high).error
        harmed = [node for node, off in zip(kept, error, strict=True) if off > _UNITS * half.unit]
        grown = high.union(*(_givers(node, makers, high) for node in harmed))
        if grown == high:
            break
        high = grown
    return Found(dangers=tuple(dangers.values()), high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """Runs graphs with shadows."""

    source: Source
    half: Half
    rows: Rows
    progress: ProgressCallback

    def figures(self, nodes: Sequence[onnx.NodeProto], high: frozenset[str]) -> _Figures:
        """The figures of these nodes, where those in `high` (by `key`) are not rounded."""
        figures = _Figures(largest=np.zeros(len(nodes)), error=np.zeros(len(nodes)))
        if not nodes:
            return figures
        work = self.source.work
        path = work / "shadows.onnx"
        masked = _masked(self.source)
        with WeightFile(work / "shadows.data") as file:
            shadows = _Shadows(source=self.source, half=self.half, masked=masked, file=file, high=high)
            outputs = [shadows.add(node) for node in nodes]
        path.write_bytes(shadows.model(outputs).SerializeToString())
        engine = open_engine(path, self.rows.request.threads)
        watch(engine, outputs, self.rows, figures.see, self.progress)
        del engine
        path.unlink()
        (work / "shadows.data").unlink(missing_ok=True)
        return figures


def _why(largest: float, error: float, half: Half) -> str:
    """What is dangerous about a node; "" when nothing is."""
    if not largest <= half.largest / _HEADROOM:
        return f"reaches {largest:.3g} of {half.largest:.3g}"
    if not np.isfinite(error):
        return "not finite after rounding"
    return f"off by {error:.0%}" if error > _UNITS * half.unit else ""


def _with_readers(source: Source, dangers: Mapping[str, Danger]) -> Iterator[str]:
    """The dangerous nodes, and those that read a value near the end of the range."""
    makers = {name: key(node) for node in source.model.graph.node for name in node.output}
    near_end = {name for name, danger in dangers.items() if danger.why.startswith("reaches")}
    for node in source.model.graph.node:
        if key(node) in dangers or any(makers.get(name) in near_end for name in node.input):
            yield key(node)


def _givers(node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], through: Collection[str]) -> set[str]:
    """Keys of what gives a node its inputs; beyond those in `through`, and those that only move values."""
    found: set[str] = set()
    waiting = list(node.input)
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is not None and key(maker) not in found:
            found.add(key(maker))
            if maker.op_type in _MOVE or key(maker) in through:
                waiting.extend(maker.input)
    return found


def _measurable(node: onnx.NodeProto, source: Source) -> bool:
    quantizer = node.op_type in ("QuantizeLinear", "DequantizeLinear")
    return not quantizer and can_narrow(node, source)


def _masked(source: Source) -> float:
    """Magnitude from which a value is taken for a mask: near the smallest constant that means "never"."""
    smallest = np.inf
    for tensor in source.model.graph.initializer:
        if tensor.data_type == FLOAT:
            array = np.abs(source.array(tensor))
            large = array[array > NEVER]
            smallest = min(smallest, float(large.min())) if large.size else smallest
    return smallest / 2


@dataclass(slots=True, kw_only=True)
class _Shadows:
    """The graph with shadows.

    masked: values from this magnitude on are left out of the comparison; high: nodes that are not rounded.
    """

    source: Source
    half: Half
    masked: float
    file: WeightFile
    high: frozenset[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    rounded: dict[str, str] = field(default_factory=dict)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    exact: dict[str, str] = field(default_factory=dict)
    weights: dict[str, onnx.TensorProto] = field(init=False)
    given: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.weights = self.source.weights()
        self.given = {port.name for port in self.source.model.graph.input}

    def add(self, node: onnx.NodeProto) -> str:
        """Add a node's shadow; return the name of its three figures."""
        inputs, _ = ports(node, self.source)
        high = key(node) in self.high
        shadow = onnx.NodeProto.FromString(node.SerializeToString())
        shadow.name = f"{node.name}.shadow"
        for index, (name, low) in enumerate(zip(node.input, inputs, strict=True)):
            shadow.input[index] = self._read(name, high) if low else name
        for index, name in enumerate(node.output):
            shadow.output[index] = f"{name}.shadow" if name else name
        self.nodes.append(shadow)
        given = key(shadow)
        if high:
            self.exact[key(node)] = given
        return self._compare(key(node), given if high else self.round(given))

    def _read(self, name: str, high: bool) -> str:
        """What a shadow reads: rounded, but for a node kept high what is there in fp32."""
        if high and (name in self.weights or name in self.given):
            return name
        return self.exact.get(name) or self.round(name)

    def round(self, name: str) -> str:
        """The tensor brought into the format's range and rounded to it, in fp32 again."""
        if name in self.weights and name not in self.rounded:
            array = self.half.read(self.half.stored(self.source.array(self.weights[name])))
            self.rounded[name] = f"{name}.shadow"
            self.tensors.append(self.file.add(f"{name}.shadow", FLOAT, array.shape, array.tobytes()))
        if name not in self.rounded:
            end = "shadows.never" if np.isfinite(self.masked) else "shadows.largest"
            inside = self._node("Max", self._node("Min", name, end), f"{end}.negative")
            slim = self._node("Cast", inside, to=self.half.code)
            self.rounded[name] = self._node("Cast", slim, to=FLOAT)
        return self.rounded[name]

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        """The whole graph, which gives the figures."""
        source = self.source.model
        made = onnx.ModelProto(ir_version=source.ir_version)
        made.opset_import.extend(source.opset_import)
        made.functions.extend(source.functions)
        made.graph.name = "shadows"
        made.graph.input.extend(source.graph.input)
        made.graph.initializer.extend((*source.graph.initializer, *self.tensors, *self._constants()))
        made.graph.node.extend((*source.graph.node, *self.nodes))
        made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        return made

    def _compare(self, name: str, shadow: str) -> str:
        """Largest difference, sum of differences and largest magnitude, of all values but masks."""
        size = self._node("Abs", name)
        counted = self._node("Less", size, "shadows.masked")
        gap = self._node("Where", counted, self._node("Sub", shadow, name), "shadows.zero")
        kept = self._node("Where", counted, size, "shadows.zero")
        figures = (
            self._most(self._node("Abs", gap)),
            self._node("ReduceSum", gap, keepdims=0),
            self._most(kept),
        )
        flat = [self._node("Reshape", figure, "shadows.one") for figure in figures]
        return self._node("Concat", *flat, axis=0)

    def _most(self, name: str) -> str:
        """The largest value of a tensor of no negative ones; 0 of an empty one."""
        flat = self._node("Reshape", name, "shadows.flat")
        return self._node("ReduceMax", self._node("Concat", flat, "shadows.zeros", axis=0), keepdims=0)

    def _node(self, op_type: str, *inputs: str, to: int = 0, axis: int = -1, keepdims: int = -1) -> str:
        name = f"shadows.{len(self.nodes)}"
        node = helper.make_node(op_type, inputs, [name], name)
        for word, value, unset in (("to", to, 0), ("axis", axis, -1), ("keepdims", keepdims, -1)):
            if value != unset:
                node.attribute.append(helper.make_attribute(word, value))
        self.nodes.append(node)
        return name

    def _constants(self) -> Iterator[onnx.TensorProto]:
        floats = {
            "largest": self.half.largest,
            "largest.negative": -self.half.largest,
            "never": self.half.never,
            "never.negative": -self.half.never,
            "masked": self.masked,
            "zero": 0.0,
        }
        for name, value in floats.items():
            yield numpy_helper.from_array(np.array(value, np.float32), f"shadows.{name}")
        yield numpy_helper.from_array(np.zeros(1, np.float32), "shadows.zeros")
        yield numpy_helper.from_array(np.array([1], np.int64), "shadows.one")
        yield numpy_helper.from_array(np.array([-1], np.int64), "shadows.flat")
