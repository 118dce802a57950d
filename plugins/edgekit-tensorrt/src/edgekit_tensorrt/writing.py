"""Writing a strongly typed graph: it says at every tensor what it computes in.

A tensor keeps its name in fp32; beside it there may be a 16-bit one, named "NAME.fp16". Casts stand where
nodes of both kinds meet, so the graph's inputs and outputs stay as they were. Weights pass one at a time.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from edgekit_runtime.session import Array
from edgekit_tensorrt.graph import FLOAT, Source, WeightFile, captured, key, stored_bytes
from edgekit_tensorrt.narrowing import Half, can_narrow, ports
from edgekit_tensorrt.qdq import (
    SMALLEST_SCALE,
    Product,
    Quantized,
    blocked_scales,
    packed_weight,
    rounded_weight,
    weight_scales,
)

INT4 = onnx.TensorProto.INT4


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A typed graph. suffix: how the names of its 16-bit tensors end, and no others; low: nodes in them."""

    path: Path
    half: Half
    suffix: str
    low: int


def write_typed(
    source: Source, half: Half, high: Collection[str], path: Path, quantized: Quantized | None = None
) -> Written:
    """Write the model in 16 bits but for the nodes in `high` (by `key`), with products as in `quantized`."""
    with WeightFile(path.with_suffix(".data")) as file:
        writer = _Writer(
            source=source,
            half=half,
            suffix=_suffix(source, half),
            quantized=quantized or Quantized(),
            file=file,
        )
        low = sum(writer.add(node, low=key(node) not in high) for node in source.model.graph.node)
        model = writer.finished()
    path.write_bytes(model.SerializeToString())
    return Written(path=path, half=half, suffix=writer.suffix, low=low)


@dataclass(slots=True, kw_only=True)
class _Writer:
    """The graph being written. wide, slim: tensors that exist so far as they were, and in 16 bits."""

    source: Source
    half: Half
    suffix: str
    quantized: Quantized
    file: WeightFile
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    wide: set[str] = field(default_factory=set)
    slim: set[str] = field(default_factory=set)
    weights: dict[str, onnx.TensorProto] = field(init=False)

    def __post_init__(self) -> None:
        self.wide.update(port.name for port in self.source.model.graph.input)
        # Before version 4 of the format an input could have a stored default.
        self.weights = {
            name: tensor for name, tensor in self.source.weights().items() if name not in self.wide
        }
        for tensor in self.source.model.graph.initializer:
            if tensor.name in self.wide:
                self.tensors.append(tensor)

    def add(self, node: onnx.NodeProto, *, low: bool) -> bool:
        """Add a node; return whether it computes in 16 bits."""
        narrowed = low and can_narrow(node, self.source)
        inputs, outputs = ports(node, self.source)
        made = onnx.NodeProto.FromString(node.SerializeToString())
        product = self.quantized.products.get(key(node))
        for index, name in enumerate(node.input):
            slim = narrowed and inputs[index]
            if product is not None and (index == 1 or (index == 0 and self.quantized.scales)):
                made.input[index] = self._quantized(product, index, slim)
            else:
                made.input[index] = self.in_half(name) if slim else self.in_full(name)
        for name in captured(node):
            self.in_full(name)
        for index, name in enumerate(node.output):
            made.output[index] = self._new(name, narrowed and outputs[index])
        if narrowed:
            self._retype(made)
        self.nodes.append(made)
        return narrowed

    def in_full(self, name: str) -> str:
        """The tensor as the model has it, cast back if it exists in 16 bits only."""
        if name not in self.wide and name in self.weights:
            self._store(self.weights[name])
            self.wide.add(name)
        elif name not in self.wide and name in self.slim:
            self._cast(name + self.suffix, name, FLOAT)
            self.wide.add(name)
        return name

    def in_half(self, name: str) -> str:
        """The tensor in 16 bits; a stored one is rounded here, another by a cast."""
        slim = name + self.suffix
        if name not in self.slim and name in self.weights:
            self._constant(slim, self.source.array(self.weights[name]), self.half)
            self.slim.add(name)
        elif name not in self.slim:
            self._cast(self.in_full(name), slim, self.half.code)
            self.slim.add(name)
        return slim

    def finished(self) -> onnx.ModelProto:
        """The model, with outputs in the dtypes they had."""
        source = self.source.model
        for port in source.graph.output:
            self.in_full(port.name)
        made = onnx.ModelProto(ir_version=source.ir_version, opset_import=source.opset_import)
        made.functions.extend(source.functions)
        made.graph.name = source.graph.name
        made.graph.input.extend(source.graph.input)
        made.graph.output.extend(source.graph.output)
        made.graph.node.extend(self.nodes)
        made.graph.initializer.extend(self.tensors)
        return made

    def _quantized(self, product: Product, index: int, slim: bool) -> str:
        """The product's activation (0) or weight (1) after rounding to 8 bits."""
        name = product.weight if index else product.activation
        end = self.suffix if slim else ""
        raised = f"{name}.{self.quantized.eight.word}.{product.axis if index else 'in'}{end}"
        if raised not in self.made:
            self.made.add(raised)
            if index and self.quantized.block and product.summed is not None:
                self._quantize_blocks(product, product.summed, raised, slim)
            elif index:
                self._quantize_weight(product, raised, slim)
            else:
                self._quantize_activation(name, raised, slim)
        return raised

    def _quantize_weight(self, product: Product, raised: str, slim: bool) -> None:
        array, eight = self.quantized.weight(self.source, product), self.quantized.eight
        scales = weight_scales(array, product.axis, eight)
        scales = np.maximum(scales, SMALLEST_SCALE) if slim else scales
        stored = rounded_weight(array, scales, product.axis, eight)
        self.tensors.append(self.file.add(f"{raised}.stored", eight.code, array.shape, stored.tobytes()))
        given = [f"{raised}.stored", *self._scale(raised, scales, slim)]
        node = helper.make_node("DequantizeLinear", given, [raised], f"{raised}.node", axis=product.axis)
        self.nodes.append(node)

    def _quantize_blocks(self, product: Product, axis: int, raised: str, slim: bool) -> None:
        array, block = self.quantized.weight(self.source, product), self.quantized.block
        scales = blocked_scales(array, axis, block)
        scales = np.maximum(scales, SMALLEST_SCALE) if slim else scales
        raw = packed_weight(array, scales, axis, block)
        self.tensors.append(self.file.add(f"{raised}.stored", INT4, array.shape, raw))
        scale = f"{raised}.scale{self.suffix if slim else ''}"
        self._constant(scale, scales, self.half if slim else None)
        given = [f"{raised}.stored", scale]
        node = helper.make_node("DequantizeLinear", given, [raised], f"{raised}.node")
        node.attribute.extend(
            (helper.make_attribute("axis", axis), helper.make_attribute("block_size", block))
        )
        self.nodes.append(node)

    def _quantize_activation(self, name: str, raised: str, slim: bool) -> None:
        exact = self.in_half(name) if slim else self.in_full(name)
        if name in self.quantized.factors:
            exact = self._evened(name, exact, slim)
        given = self._scale(raised, np.array(self.quantized.scales[name], np.float32), slim)
        rounded = f"{raised}.stored"
        self.nodes.append(helper.make_node("QuantizeLinear", [exact, *given], [rounded], f"{rounded}.node"))
        self.nodes.append(helper.make_node("DequantizeLinear", [rounded, *given], [raised], f"{raised}.node"))

    def _evened(self, name: str, exact: str, slim: bool) -> str:
        """The activation with its large channels divided."""
        end = self.suffix if slim else ""
        factor, even = f"{name}.evening{end}", f"{name}.even{end}"
        self._constant(factor, 1 / self.quantized.factors[name], self.half if slim else None)
        self.nodes.append(helper.make_node("Mul", [exact, factor], [even], f"{even}.node"))
        return even

    def _scale(self, name: str, scales: Array, slim: bool) -> list[str]:
        """Store scales and zero points of zero; return their names."""
        scale, zero = f"{name}.scale{self.suffix if slim else ''}", f"{name}.zero"
        self._constant(scale, scales, self.half if slim else None)
        # In both formats zero is a byte of zeros.
        self.tensors.append(self.file.add(zero, self.quantized.eight.code, scales.shape, bytes(scales.size)))
        return [scale, zero]

    def _constant(self, name: str, array: Array, half: Half | None) -> None:
        code = half.code if half is not None else FLOAT
        raw = (half.stored(array) if half is not None else np.asarray(array, np.float32)).tobytes()
        self.tensors.append(self.file.add(name, code, array.shape, raw))

    def _store(self, tensor: onnx.TensorProto) -> None:
        """Take a stored tensor over as it is."""
        if uses_external_data(tensor):
            tensor = self.file.add(
                tensor.name, tensor.data_type, tensor.dims, stored_bytes(tensor, self.source.work)
            )
        self.tensors.append(tensor)

    def _new(self, name: str, slim: bool) -> str:
        (self.slim if slim else self.wide).add(name)
        return name + self.suffix if slim else name

    def _cast(self, name: str, to: str, code: int) -> None:
        self.nodes.append(helper.make_node("Cast", [name], [to], f"{to}.cast", to=code))

    def _retype(self, node: onnx.NodeProto) -> None:
        """Attributes that say the output's type."""
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == FLOAT:
                attribute.i = self.half.code
            elif node.op_type == "ConstantOfShape" and attribute.t.data_type == FLOAT:
                stored = self.half.stored(numpy_helper.to_array(attribute.t))
                attribute.t.CopyFrom(
                    onnx.TensorProto(
                        data_type=self.half.code, dims=attribute.t.dims, raw_data=stored.tobytes()
                    )
                )


def _suffix(source: Source, half: Half) -> str:
    """An ending that no tensor of the model has yet."""
    suffix = f".{half.word}"
    while any(name.endswith(suffix) for name in source.types):
        suffix += "_"
    return suffix
