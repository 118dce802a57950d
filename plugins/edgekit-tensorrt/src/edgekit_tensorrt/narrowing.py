"""Numbers of 16 bits: their formats, and which tensors and nodes of a graph may be in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import onnx

from edgekit_runtime.session import Array
from edgekit_tensorrt.graph import FLOAT, Source, half_ports

#: Constants this large stand for "never", as in attention masks, and not for a number.
NEVER = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """A 16-bit number format. unit: half the distance from 1 to the next number; largest: the last finite."""

    word: str
    code: int
    largest: float
    unit: float

    @property
    def never(self) -> float:
        """What a mask's constant becomes: half of the range, so that adding to it stays within."""
        return self.largest / 2

    def stored(self, array: Array) -> Array:
        """The numbers of an fp32 array in this format; bfloat16, which numpy lacks, as its bits in uint16."""
        plain = np.ascontiguousarray(saturated(array, self), dtype=np.float32)
        if self.code == onnx.TensorProto.FLOAT16:
            with np.errstate(over="ignore"):
                return plain.astype(np.float16)
        bits = plain.view(np.uint32)
        # To the nearest, and to the even one of two: the lower half decides.
        return ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype(np.uint16)

    def read(self, stored: Array) -> Array:
        """What `stored` gave, in fp32."""
        if self.code == onnx.TensorProto.FLOAT16:
            return stored.view(np.float16).astype(np.float32)
        return (stored.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


HALVES = {
    "fp16": Half(word="fp16", code=onnx.TensorProto.FLOAT16, largest=65504.0, unit=2.0**-11),
    "bf16": Half(word="bf16", code=onnx.TensorProto.BFLOAT16, largest=3.3895313892515355e38, unit=2.0**-8),
}


def saturated(array: Array, half: Half) -> Array:
    """The numbers, those that mean "never" brought into the format's range."""
    beyond = np.isfinite(array) & (np.abs(array) > max(NEVER, half.never))
    return np.where(beyond, np.copysign(np.float32(half.never), array), array) if beyond.any() else array


def ports(node: onnx.NodeProto, source: Source) -> tuple[list[bool], list[bool]]:
    """Which inputs and outputs of a node are fp32 now and may be 16 bits."""
    inputs, outputs, repeats = half_ports(node.op_type, node.domain, source.opset)
    if repeats:
        inputs += inputs[-1:] * (len(node.input) - len(inputs))
    return _floats(node.input, inputs, source), _floats(node.output, outputs, source)


def can_narrow(node: onnx.NodeProto, source: Source) -> bool:
    """Whether a node can compute in 16 bits: all that it gives can be, or it is a quantizer."""
    inputs, outputs = ports(node, source)
    if node.op_type == "QuantizeLinear":
        return inputs[:2] == [True, True]
    given = [half for half, name in zip(outputs, node.output, strict=True) if name]
    return bool(given) and all(given)


def _floats(names: Sequence[str], half: Sequence[bool], source: Source) -> list[bool]:
    pairs = zip_longest(names, half[: len(names)], fillvalue=False)
    return [bool(allowed and name and source.types.get(str(name)) == FLOAT) for name, allowed in pairs]
