"""What onnxruntime did, read from its own profile of some runs: the optimized graph, node by node."""

from __future__ import annotations

import json
import tempfile
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, TypedDict

from edgekit_runtime.session import Feeds
from edgekit_runtime.values import OperatorTime, Placement, PlacementRow

if TYPE_CHECKING:
    import onnxruntime as ort

WARMUP_RUNS = 2
MEASURED_RUNS = 5

#: Operators that compute with integers in place of floats. Their inputs may still be float.
_INT8_OPERATORS = (
    "MatMulInteger",
    "ConvInteger",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
    "QAttention",
    "QGemm",
    "QLinear",
    "QEmbedLayerNormalization",
)
#: The operator that reads weights of fewer bits and multiplies in fp32.
_SMALL_WEIGHTS = "MatMulNBits"
#: Operators on the border: they round floats to integers or back, which is float arithmetic.
_BORDER = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast")
#: Operators whose time is that of the nodes inside them.
_CONTAINERS = ("If", "Loop", "Scan", "SequenceMap")
_FLOATS = {"bfloat16": "bf16", "float16": "fp16", "float": "fp32", "double": "fp32"}
_PROVIDER_SUFFIX = "ExecutionProvider"


#: Name, place and operator of a node: two nodes may share a name.
_Key = tuple[str, str, str]


class _Args(TypedDict, total=False):
    op_name: str
    provider: str
    node_index: str
    input_type_shape: list[dict[str, list[int]]]
    output_type_shape: list[dict[str, list[int]]]


class _Event(TypedDict, total=False):
    cat: str
    name: str
    ts: int
    dur: int
    args: _Args


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node that ran. microseconds: in the median of the measured runs."""

    name: str
    op_type: str
    precision: str
    device: str
    microseconds: float


@dataclass(frozen=True, slots=True)
class Execution:
    """The nodes that ran."""

    nodes: tuple[Node, ...]

    def placement(self) -> Placement:
        """Nodes and time by precision and device."""
        groups: dict[tuple[str, str], list[Node]] = defaultdict(list)
        for node in self.nodes:
            groups[node.precision, node.device].append(node)
        total = self._microseconds()
        rows = tuple(
            PlacementRow(
                precision=precision,
                device=device,
                nodes=len(nodes),
                time_share=sum(node.microseconds for node in nodes) / total if total else None,
            )
            for (precision, device), nodes in sorted(groups.items())
        )
        return Placement(
            rows=rows, source=f"onnxruntime's profile of {MEASURED_RUNS} runs of the optimized graph"
        )

    def operators(self) -> tuple[OperatorTime, ...]:
        """Each node's share of the time, costliest first."""
        total = self._microseconds()
        if not total:
            return ()
        ordered = sorted(self.nodes, key=lambda node: node.microseconds, reverse=True)
        return tuple(
            OperatorTime(
                name=node.name,
                op_type=node.op_type,
                precision=node.precision,
                device=node.device,
                share=node.microseconds / total,
            )
            for node in ordered
        )

    def _microseconds(self) -> float:
        return sum(node.microseconds for node in self.nodes)


def read_execution(
    open_engine: Callable[[ort.SessionOptions], ort.InferenceSession],
    options: ort.SessionOptions,
    feeds: Feeds,
    *,
    compiled_for: str,
) -> Execution:
    """Run `feeds` in a profiled engine and read what it did. Profiling slows it, shares stay true.

    compiled_for: the artifact's precision. At int8 small integers stand for floats, elsewhere for pixels.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-profile-") as scratch:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "runs")
        engine = open_engine(options)
        try:
            for _ in range(WARMUP_RUNS + MEASURED_RUNS):
                engine.run(None, dict(feeds))
        finally:
            written = Path(engine.end_profiling())
        events: list[_Event] = json.loads(written.read_text(encoding="utf-8"))
    return Execution(tuple(_nodes(events, compiled_for)))


def _nodes(events: list[_Event], compiled_for: str) -> Iterator[Node]:
    """Nodes of the runs after the warm-up, each once, in the order of their first run."""
    starts = sorted(event["ts"] for event in events if event.get("name") == "model_run")
    times: dict[_Key, list[int]] = defaultdict(lambda: [0] * MEASURED_RUNS)
    seen: dict[_Key, _Event] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        run = bisect_right(starts, event["ts"]) - 1 - WARMUP_RUNS
        args = event["args"]
        if run < 0 or args["op_name"] in _CONTAINERS:
            continue
        key = (event["name"], args.get("node_index", ""), args["op_name"])
        times[key][run] += event["dur"]
        seen.setdefault(key, event)
    for key, event in seen.items():
        args = event["args"]
        yield Node(
            name=event["name"].removesuffix("_kernel_time")
            or f"{args['op_name']}_{args.get('node_index', '')}",
            op_type=args["op_name"],
            precision=_precision(args, compiled_for),
            device=args["provider"].removesuffix(_PROVIDER_SUFFIX).lower(),
            microseconds=median(times[key]),
        )


def _precision(args: _Args, compiled_for: str) -> str:
    """The precision a node computes in. One that only moves whole numbers or flags counts as fp32."""
    operator = args["op_name"]
    if operator == _SMALL_WEIGHTS:
        return compiled_for
    if operator.startswith(_INT8_OPERATORS):
        return "int8"
    given = _types(args.get("input_type_shape", []))
    made = _types(args.get("output_type_shape", []))
    if compiled_for == "int8" and operator not in _BORDER and {"int8", "uint8"} & (given | made):
        return "int8"
    for types in (given, made):
        for name, precision in _FLOATS.items():
            if name in types:
                return precision
    return "fp32"


def _types(tensors: list[dict[str, list[int]]]) -> set[str]:
    names: set[str] = set()
    for tensor in tensors:
        keys: Mapping[str, list[int]] = tensor
        names.update(keys)
    return names
