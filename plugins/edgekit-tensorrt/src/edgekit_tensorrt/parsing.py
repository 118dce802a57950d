"""What TensorRT's own ONNX parser says of a model, node by node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from edgekit.api import (
    CompileFailed,
    OperatorSupport,
    Signature,
    Support,
    all_nodes,
    operator_counts,
    operator_name,
)
from edgekit_tensorrt.library import Library
from edgekit_tensorrt.log import Log, cleaned, make_log

#: What the parser says, and what may be done about it.
_MENDS = (
    (
        r"Plugin not found",
        "TensorRT has no such operator, and no plugin of this name is loaded: export the model without it",
    ),
    (
        r"input has type Int32 but must have type",
        "a quantized bias: quantize again and leave biases alone (ONNX Runtime: QuantizeBias=False)",
    ),
    (
        r"[Nn]on-zero zero point",
        "quantize symmetrically: signed bytes with zero points of 0 (ONNX Runtime: ActivationSymmetric=True)",
    ),
    (
        r"unsupported input type of (INT64|INT32|BOOL|UINT8|INT8)",
        "this operator takes floating point only: cast its input before it",
    ),
    (
        r"Failed to convert ONNX dat[ea] type",
        "TensorRT takes float32, float16, bfloat16, int64, int32, int8, uint8 and bool",
    ),
    (r"plugin creator version", "this library brings no plugin for it; standard TensorRT does"),
    (r"Failed to import initializer", "the weights beside the file must be there, complete and unchanged"),
)
#: TensorRT's words for dtypes by those of numpy. It has no float64, and makes 32 bits of it without a word.
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
    "BF16": "bfloat16",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One thing that the parser will not take. node, operator: "" when it is about the whole file."""

    node: str
    operator: str
    reason: str

    def told(self) -> str:
        """For people: "MatMul node 'layer/3': reason"."""
        if not self.operator:
            return self.reason
        return (
            f"{self.operator} node {self.node!r}: {self.reason}"
            if self.node
            else f"{self.operator}: {self.reason}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the parser says. runs: the sub-graphs, as numbers of nodes, that hold none it refuses."""

    refusals: tuple[Refusal, ...]
    runs: tuple[tuple[int, ...], ...]
    warnings: tuple[str, ...] = ()


def invalid(path: Path) -> str:
    """What ONNX's own checker finds wrong with a file; "" when nothing.

    The parser must not see a file before: it crashes on nodes without outputs or with too few inputs.
    """
    try:
        onnx.checker.check_model(str(path))
    except UnicodeDecodeError:
        return "it holds names that are no UTF-8"
    except onnx.checker.ValidationError as error:
        return next(iter(cleaned([str(error)])), "ONNX's checker refuses it")
    return ""


def parser_report(library: Library, path: Path) -> Report:
    """Ask the parser about every node. Builds nothing."""
    problem = invalid(path)
    if problem:
        return Report(refusals=(_of_checker(problem),), runs=())
    trt, log = library.module, make_log(library)
    builder = make_builder(library, log)
    network = make_network(library, builder)
    parser = trt.OnnxParser(network, log)
    fine = parser.supports_model_v2(path.read_bytes(), str(path))
    refusals = _refusals(trt, parser, log)
    if not fine and not refusals:
        refusals = (
            Refusal(node="", operator="", reason=_reason(log.errors()) or "the parser gives no reason"),
        )
    runs = tuple(tuple(parser.get_subgraph_nodes(place)) for place in range(parser.num_subgraphs))
    warnings = tuple(line for line in cleaned(log.warnings()) if not line.startswith("Make sure "))
    return Report(refusals=() if fine else refusals, runs=runs, warnings=warnings)


def to_support(report: Report, source: onnx.ModelProto) -> Support:
    """The report operator by operator: how many nodes of each are taken, and why others are not."""
    names = _names(source)
    refused = [names.get((row.node, row.operator), row.operator) for row in report.refusals]
    counts = operator_counts(source.graph)
    counts.subtract(word for word in refused if word)
    rows = [
        OperatorSupport(op_type=word, count=count, supported=True)
        for word, count in sorted(counts.items())
        if count > 0
    ]
    grouped: dict[tuple[str, str], list[str]] = {}
    for word, row in zip(refused, report.refusals, strict=True):
        grouped.setdefault((word, row.reason), []).append(row.node)
    bad = [
        OperatorSupport(op_type=word, count=len(where), supported=False, reason=_at(where, reason))
        for (word, reason), where in grouped.items()
        if word
    ]
    whole = (*(reason for word, reason in grouped if not word), *_wide_tensors(source))
    return Support(
        supported=not report.refusals and not whole,
        operators=(*bad, *rows),
        notes=(*whole, *_notes(report, source), *report.warnings),
    )


def parse(library: Library, builder: Any, log: Log, path: Path) -> tuple[Any, Any]:
    """The network of an ONNX file, with the parser that keeps its weights. Raises `CompileFailed` in the
    checker's or the parser's words."""
    problem = invalid(path)
    if problem:
        raise CompileFailed(f"it is no valid ONNX: {problem}", hint="export the model again")
    trt = library.module
    network = make_network(library, builder)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        told = [row.told() for row in _refusals(trt, parser, log)] or [_reason(log.errors())]
        raise CompileFailed(
            f"the parser of {library.name} {library.version} refuses it: {'; '.join(told[:3])}",
            hint="the backend's check names every operator that is refused",
        )
    return network, parser


def make_builder(library: Library, log: Log) -> Any:
    """A builder. Raises `CompileFailed` when the library gives none, as without a driver it may not."""
    try:
        builder = library.module.Builder(log)
    except (TypeError, RuntimeError) as error:  # pybind11's word for a null pointer is a TypeError
        builder, said = None, str(error)
    else:
        said = ""
    if builder is None:
        reason = _reason(log.errors()) or said
        raise CompileFailed(f"{library.name} {library.version} makes no builder here: {reason}")
    return builder


def make_network(library: Library, builder: Any) -> Any:
    """An empty network that is strongly typed: TensorRT 10 has to be asked, the others are so always."""
    flags = library.module.NetworkDefinitionCreationFlag
    wanted = 1 << int(flags.STRONGLY_TYPED) if library.version.startswith("10.") else 0
    return builder.create_network(wanted)


def network_mismatch(trt: ModuleType, network: Any, signature: Signature) -> str:
    """In what the network's tensors differ from the signature; "" when they fit."""
    inputs = [network.get_input(place) for place in range(network.num_inputs)]
    outputs = [network.get_output(place) for place in range(network.num_outputs)]
    for found, specs in ((inputs, signature.inputs), (outputs, signature.outputs)):
        by_name = {tensor.name: tensor for tensor in found}
        for spec in specs:
            tensor = by_name.get(spec.name)
            if tensor is None:
                return f"it has no tensor {spec.name!r}"
            dtype = _DTYPES.get(tensor.dtype.name, tensor.dtype.name)
            if dtype != spec.dtype:
                return f"tensor {spec.name!r} is {dtype} in TensorRT, not {spec.dtype}"
            if not _fits(tuple(tensor.shape), spec.shape):
                return f"tensor {spec.name!r} is {list(tensor.shape)}, not {list(spec.shape)}"
        if len(found) != len(specs):
            return f"it has {len(found)} tensors where its signature has {len(specs)}"
    return ""


def _fits(found: tuple[int, ...], wanted: Sequence[int | str]) -> bool:
    if len(found) != len(wanted):
        return False
    return all(
        size == -1 or isinstance(said, str) or size == said for size, said in zip(found, wanted, strict=True)
    )


def _of_checker(problem: str) -> Refusal:
    """An operator that ONNX does not know is told as one; anything else is about the whole file."""
    unknown = re.match(r"No Op registered for (\w+)", problem)
    if unknown:
        return Refusal(
            node="", operator=unknown[1], reason=f"ONNX {onnx.__version__} does not know it: {problem}"
        )
    return Refusal(node="", operator="", reason=f"it is no valid ONNX: {problem}")


def _refusals(trt: ModuleType, parser: Any, log: Log) -> tuple[Refusal, ...]:
    found = []
    for place in range(parser.num_errors):
        error = parser.get_error(place)
        lines = [error.desc()]
        if "import initializer" in lines[0]:  # which file it missed is in the log only
            lines = [line for line in log.errors() if line.startswith("WeightsContext")] + lines
        found.append(
            Refusal(node=str(error.node_name()), operator=str(error.node_operator()), reason=_reason(lines))
        )
    return tuple(found)


def _reason(lines: Sequence[str]) -> str:
    """The parser's words without its own source lines, and the mend where one is known."""
    words = next((word for word in map(_plain, cleaned(lines)) if word), "")
    whole = " ".join(lines)
    mend = next((mend for pattern, mend in _MENDS if re.search(pattern, whole)), "")
    if not words and not mend:
        return "it is not valid as it stands in this graph"
    return f"{words} ({mend})" if mend and words else mend or words


def _plain(text: str) -> str:
    """One message of the parser, which begins with a condition of its source, for a person."""
    if text == "false":
        return "it is not supported"
    if text.startswith(("Invalid Node - ", "Plugin not found")):
        return ""
    quoted = re.search(r'&& "(.*)"', text)
    if quoted:
        return _plain(quoted[1])
    inner = re.search(r"Error Code \d+: [\w ]+ \((.*)\)$", text)
    if inner:
        return inner[1]
    # Of "Assertion failed: status.is_success(): Found ..." the last part; the condition may hold "::".
    return re.split(r"(?<!:): (?=[A-Z])", text)[-1]


def _names(source: onnx.ModelProto) -> dict[tuple[str, str], str]:
    """Names of operators with their domains, by node and type as the parser gives them."""
    found: dict[tuple[str, str], str] = {}
    for node in all_nodes(source.graph):
        found.setdefault((node.name, node.op_type), operator_name(node))
        found.setdefault(("", node.op_type), operator_name(node))
    return found


def _at(where: Sequence[str], reason: str) -> str:
    named = [repr(name) for name in where if name]
    if not named:
        return reason
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return f"{reason}; at {', '.join(named[:3])}{more}"


def _wide_tensors(source: onnx.ModelProto) -> tuple[str, ...]:
    """Inputs and outputs that TensorRT would make narrower without a word."""
    return tuple(
        f"{value.name!r} is float64, which TensorRT does not have (export the model with float32)"
        for value in (*source.graph.input, *source.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
    )


def _notes(report: Report, source: onnx.ModelProto) -> tuple[str, ...]:
    if not report.refusals or not all(row.operator for row in report.refusals):
        return ()
    total, taken = len(source.graph.node), sum(len(run) for run in report.runs)
    if not report.runs:
        return ("reading stops at the first node that cannot be taken, so there may be more of them",)
    parts = len(report.runs)
    return (f"{taken} of {total} nodes would run, in {parts} sub-graph{'' if parts == 1 else 's'}",)
