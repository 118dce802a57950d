"""What OpenVINO did: precisions from the graph it executes, times from its performance counters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from edgekit_openvino.engine import DEVICE, ov
from edgekit_runtime.session import Array
from edgekit_runtime.values import OperatorTime, Placement, PlacementRow

WARMUP_RUNS = 2
MEASURED_RUNS = 10

_FLOATS = {"f32": "fp32", "f64": "fp32", "f16": "fp16", "bf16": "bf16"}
_SMALL_INTEGERS = ("i8", "u8")
#: Weights that are stored so and multiplied with floats.
_COMPRESSED = {"i8": "int8-weights", "u8": "int8-weights", "i4": "int4-weights", "u4": "int4-weights"}
#: Where values enter and leave; no work is done there.
_BORDER = ("Input", "Output")
_CONSTANT = "Const"
#: A look-up with more inputs than data, indices and axis is one in compressed weights, with their scales.
_LOOK_UP, _PLAIN_LOOK_UP = "Gather", 3
#: What int8 is about. None of these ever works on flags.
_PRODUCTS = ("FullyConnected", "MatMul", "Convolution", "Deconvolution")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node that ran. microseconds: mean of the measured runs."""

    name: str
    op_type: str
    precision: str
    microseconds: float


@dataclass(frozen=True, slots=True)
class Execution:
    """The nodes that ran."""

    nodes: tuple[Node, ...]

    def placement(self) -> Placement:
        """Nodes and time by precision. There is one device: the session opens no other."""
        groups: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            groups[node.precision].append(node)
        total = sum(node.microseconds for node in self.nodes)
        rows = tuple(
            PlacementRow(
                precision=precision,
                device=DEVICE.lower(),
                nodes=len(nodes),
                time_share=sum(node.microseconds for node in nodes) / total if total else None,
            )
            for precision, nodes in sorted(groups.items())
        )
        return Placement(rows=rows, source=f"OpenVINO's executed graph, timed over {MEASURED_RUNS} runs")

    def operators(self) -> tuple[OperatorTime, ...]:
        """Each node's share of the time, costliest first."""
        total = sum(node.microseconds for node in self.nodes)
        if not total:
            return ()
        return tuple(
            OperatorTime(
                name=node.name,
                op_type=node.op_type,
                precision=node.precision,
                device=DEVICE.lower(),
                share=node.microseconds / total,
            )
            for node in sorted(self.nodes, key=lambda node: node.microseconds, reverse=True)
        )


def read_execution(compiled: ov.CompiledModel, model: ov.Model, feeds: Mapping[int, Array]) -> Execution:
    """Run `feeds` on a model compiled with performance counters. Counting slows it, shares stay true.

    The counters are averages since the model was compiled, in whole microseconds; so what the
    warm-up runs added is taken off again.
    """
    request = compiled.create_infer_request()
    warm: dict[str, float] = {}
    for run in range(WARMUP_RUNS + MEASURED_RUNS):
        if run == WARMUP_RUNS:
            warm = _averages(request)
        request.infer(dict(feeds))
    total = _averages(request)
    graph = _Graph(compiled, model)
    nodes = []
    for node in graph.working():
        name = node.get_friendly_name()
        spent = total.get(name, 0.0) * (WARMUP_RUNS + MEASURED_RUNS) - warm.get(name, 0.0) * WARMUP_RUNS
        nodes.append(
            Node(
                name=name,
                op_type=_text(node, "layerType"),
                precision=graph.precision(node),
                microseconds=max(0.0, spent) / MEASURED_RUNS,
            )
        )
    return Execution(tuple(nodes))


def executes(compiled: ov.CompiledModel, model: ov.Model, precision: str) -> bool:
    """Whether the graph that will be executed holds `precision`: for int8, a product or convolution in it.

    Part of every cold start, so it stops at the first one.
    """
    graph = _Graph(compiled, model)
    anywhere = precision in ("bf16", "fp16")
    nodes = (node for node in graph.working() if anywhere or _text(node, "layerType") in _PRODUCTS)
    return any(graph.precision(node) == precision for node in nodes)


class _Graph:
    """The executed graph beside the one it was compiled from."""

    def __init__(self, compiled: ov.CompiledModel, model: ov.Model) -> None:
        self._nodes = compiled.get_runtime_model().get_ordered_ops()
        self._model = model

    @cached_property
    def _quantized(self) -> bool:
        return any(node.get_type_name() == "FakeQuantize" for node in self._model.get_ops())

    @cached_property
    def _real(self) -> dict[str, bool]:
        """Whether the nodes of the original graph give floats, by name."""
        return {
            node.get_friendly_name(): any(output.get_element_type().is_real() for output in node.outputs())
            for node in self._model.get_ops()
        }

    def working(self) -> Iterator[ov.Node]:
        """Nodes that depend on an input, in order of execution; the rest ran when the model was compiled."""
        settled: set[str] = set()
        for node in self._nodes:
            sources = node.inputs()
            kind = _text(node, "layerType")
            if kind == _CONSTANT or (sources and all(_fed_by(source) in settled for source in sources)):
                settled.add(node.get_friendly_name())
            elif kind not in _BORDER:
                yield node

    def precision(self, node: ov.Node) -> str:
        """The precision a node computes in. One that only moves whole numbers or flags counts as fp32.

        OpenVINO calls a product by the type of its weights; floats times compressed weights are no int8.
        """
        compressed = _compressed_weights(node)
        if compressed:
            return compressed
        runtime = _text(node, "runtimePrecision")
        if runtime in _SMALL_INTEGERS and self._quantized and not self._is_flag(node):
            return "int8"
        return _FLOATS.get(runtime, "fp32")

    def _is_flag(self, node: ov.Node) -> bool:
        """Whether small integers are flags here rather than quantized floats.

        Told by the node's own name in the original graph, else by the names of what was fused into
        it; a node that OpenVINO put in by itself has neither and goes by what feeds it.
        """
        if _text(node, "layerType") in _PRODUCTS:
            return False
        own = self._real.get(node.get_friendly_name())
        if own is not None:
            return not own
        fused = [
            self._real[name] for name in _text(node, "originalLayersNames").split(",") if name in self._real
        ]
        if fused:
            return not any(fused)
        fed_by = [source.get_source_output().get_node() for source in node.inputs()]
        moved = [source for source in fed_by if _text(source, "layerType") != _CONSTANT]
        return len(moved) == 1 and _text(moved[0], "runtimePrecision") != "f32" and self._is_flag(moved[0])


def _compressed_weights(node: ov.Node) -> str:
    """The word for a product of floats with compressed weights, or a look-up in compressed ones; else ""."""
    kind = _text(node, "layerType")
    if kind == _LOOK_UP and len(node.inputs()) > _PLAIN_LOOK_UP:
        return _COMPRESSED.get(_type_of(node, 0), "")
    if kind == "FullyConnected" and _type_of(node, 0) in _FLOATS:
        return _COMPRESSED.get(_type_of(node, 1), "")
    return ""


def _type_of(node: ov.Node, place: int) -> str:
    """The type of what comes into a node of the executed graph."""
    source = node.input(place).get_source_output()
    types = _text(source.get_node(), "outputPrecisions").split(",")
    return types[source.get_index()] if source.get_index() < len(types) else ""


def _averages(request: ov.InferRequest) -> dict[str, float]:
    """Microseconds per run since the model was compiled, of every node that took any."""
    executed = ov.ProfilingInfo.Status.EXECUTED
    counters = request.get_profiling_info()
    return {
        info.node_name: info.real_time.total_seconds() * 1e6 for info in counters if info.status == executed
    }


def _fed_by(source: ov.Input) -> str:
    return str(source.get_source_output().get_node().get_friendly_name())


def _text(node: ov.Node, key: str) -> str:
    info = node.get_rt_info()
    return str(info[key].astype(str)) if key in info else ""
