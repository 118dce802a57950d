"""int8 by dynamic quantization: weights ahead of time, activations at run time, no calibration rows.

Only MatMul and Gemm gain from it. Conv is left alone: onnxruntime's dynamic int8 convolution is
several times slower than its fp32 one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgekit.api import CompileFailed, PrecisionNotGiven
from edgekit_onnxruntime.graph import nodes
from edgekit_onnxruntime.session import PRECISION_KEY

#: A model file of protobuf cannot be larger; beyond this the weights go to a file beside it.
MAX_SINGLE_FILE = 1_900_000_000
#: Less than this share of the weights in int8 is no int8 model.
MIN_SHARE = 0.5

_CONVOLUTION = "Conv"
_HOLD_WEIGHTS = ("MatMul", "Gemm", _CONVOLUTION, "ConvTranspose", "LSTM", "GRU", "RNN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where the weights are, in elements. wanted: to be int8, by output; left: staying high, by operator."""

    wanted: dict[str, int]
    left: Counter[str]

    def share(self) -> float:
        """Share of the weights, without the nodes kept high, that becomes int8."""
        total = sum(self.wanted.values()) + self.left.total()
        return sum(self.wanted.values()) / total if total else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to quantize. signed: int8 weights, else uint8."""

    signed: bool
    per_channel: bool
    embeddings: bool
    keep_high: tuple[str, ...]


def plan(model: onnx.ModelProto, keep_high: Sequence[str]) -> Plan:
    """Look at the weights; raise `PrecisionNotGiven` when int8 has too little to gain here."""
    sizes = {tensor.name: prod(tensor.dims) for tensor in model.graph.initializer}
    sizes |= {node.output[0]: sizes[node.input[0]] for node in _transposed_weights(model.graph)}
    wanted: dict[str, int] = {}
    left: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type not in _HOLD_WEIGHTS or (node.name and node.name in keep_high):
            continue
        size = sum(sizes.get(name, 0) for name in node.input[1:3])
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and _is_plain(node)):
            size = sizes.get(node.input[1], 0)
            wanted.update({node.output[0]: size} if size else {})
        else:
            left[node.op_type] += size
    made = Plan(wanted=wanted, left=left)
    if made.share() < MIN_SHARE:
        raise PrecisionNotGiven(
            _too_little(made), hint="compile for fp32, or use a backend that quantizes Conv"
        )
    return made


def quantize(model: onnx.ModelProto, output: Path, settings: Settings) -> tuple[str, ...]:
    """Write the quantized model to `output`; return its files. `model` holds its data and is used up."""
    _forget_shapes_of_weights(model.graph)
    _fold_transposes(model)
    _split_shared_weights(model.graph)
    model.metadata_props.append(onnx.StringStringEntryProto(key=PRECISION_KEY, value="int8"))
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > MAX_SINGLE_FILE
    types = ["MatMul", "Gemm", "Gather"] if settings.embeddings else ["MatMul", "Gemm"]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a pre-processing that was measured to change nothing here
    try:
        quantize_dynamic(
            model,
            output,
            op_types_to_quantize=types,
            per_channel=settings.per_channel,
            weight_type=QuantType.QInt8 if settings.signed else QuantType.QUInt8,
            nodes_to_exclude=[name for kept in settings.keep_high for name in (kept, f"{kept}_MatMul")],
            use_external_data_format=large,
        )
    except (ValueError, RuntimeError, AttributeError, KeyError, onnx.shape_inference.InferenceError) as error:
        raise CompileFailed(
            f"onnxruntime could not quantize the model: {type(error).__name__}: {error}",
            hint="name the troubled nodes in keep_high, or compile for fp32",
        ) from error
    finally:
        root.setLevel(level)
    return tuple(sorted(path.name for path in output.parent.iterdir()))


def verify(output: Path, wanted: Plan, keep_high: Sequence[str]) -> int:
    """Count the int8 multiplications that were really built; raise `PrecisionNotGiven` for none."""
    model = onnx.load(output, load_external_data=False)
    built: int = sum(node.op_type == "MatMulInteger" for node in nodes(model))
    if not built:
        raise PrecisionNotGiven(
            f"onnxruntime quantized none of {len(wanted.wanted)} multiplications", hint="compile for fp32"
        )
    names = {node.name for node in nodes(model)}
    lost = [name for name in keep_high if name not in names and f"{name}_MatMul" not in names]
    if lost:
        raise PrecisionNotGiven(
            f"{lost[0]!r} was to be kept high and was quantized", hint="report this to edgekit-onnxruntime"
        )
    return built


def _is_plain(gemm: onnx.NodeProto) -> bool:
    """Whether the quantizer can turn this Gemm into a MatMul."""
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in gemm.attribute}
    return bool(
        values.get("alpha", 1.0) == 1.0 and values.get("beta", 1.0) == 1.0 and not values.get("transA", 0)
    )


def _too_little(made: Plan) -> str:
    if not made.left.total():
        return "the model has no MatMul or Gemm with constant weights that int8 could make quicker"
    rest = ", ".join(name for name, _ in made.left.most_common())
    slower = ", whose dynamic int8 is slower than fp32 on onnxruntime" if _CONVOLUTION in made.left else ""
    return f"int8 would cover {made.share():.0%} of the weights; the rest belong to {rest}{slower}"


def _forget_shapes_of_weights(graph: onnx.GraphProto) -> None:
    """The quantizer transposes Gemm weights but not their declared shapes, and then trips over them."""
    weights = {tensor.name for tensor in graph.initializer}
    kept = [info for info in graph.value_info if info.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _fold_transposes(model: onnx.ModelProto) -> None:
    """Give each reader of a transposed weight, as an output head tied to the embedding is, one of its own.

    The quantizer leaves a MatMul of it in fp32, and the embedding's int8 would be raised and transposed
    in every run.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    folded = _transposed_weights(graph)
    for node in folded:
        array = onnx.numpy_helper.to_array(weights[node.input[0]])
        graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array.T), node.output[0]))
        graph.node.remove(node)
    read = {name for node in nodes(model) for name in node.input} | {port.name for port in graph.output}
    for name in {node.input[0] for node in folded} - read:
        graph.initializer.remove(weights[name])


def _transposed_weights(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that transpose a weight of two axes for other nodes."""
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    outputs = {port.name for port in graph.output}
    found = [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in matrices]
    return [node for node in found if node.output[0] not in outputs and list(_permutation(node)) == [1, 0]]


def _permutation(transpose: onnx.NodeProto) -> Sequence[int]:
    """Where the axes go; by default they are reversed."""
    values = [attribute.ints for attribute in transpose.attribute if attribute.name == "perm"]
    return values[0] if values else (1, 0)


def _split_shared_weights(graph: onnx.GraphProto) -> None:
    """Give each Gemm its own weight where another node reads it too: the quantizer transposes it in place."""
    readers = Counter(name for node in graph.node for name in node.input)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for index, node in _gemms(graph):
        name = node.input[1]
        if name in weights and readers[name] > 1:
            copy = graph.initializer.add()
            copy.CopyFrom(weights[name])
            copy.name = f"{name}.gemm{index}"
            node.input[1] = copy.name


def _gemms(graph: onnx.GraphProto) -> Iterator[tuple[int, onnx.NodeProto]]:
    for index, node in enumerate(graph.node):
        if node.op_type == "Gemm" and len(node.input) > 1:
            yield index, node
