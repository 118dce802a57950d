"""Where a model's weights are, and so which way to quantize can gain anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import onnx

from edgekit.api import NothingLowered
from edgekit_onnxruntime.rewrite import is_plain, transposed_weights

#: Less than this share of the weights in the lower precision is no model of it.
MIN_SHARE = 0.5

CONVOLUTION = "Conv"
_HOLD_WEIGHTS = ("MatMul", "Gemm", CONVOLUTION, "ConvTranspose", "LSTM", "GRU", "RNN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Weights in elements, without those of nodes kept high.

    multiplied: those of MatMul and Gemm, by output; convolved: those of Conv, by output; left: by operator.
    """

    multiplied: dict[str, int]
    convolved: dict[str, int]
    left: Counter[str]

    def share(self, *, convolutions: bool = False) -> float:
        """Share of the weights that is in MatMul and Gemm, or in Conv too."""
        covered = sum(self.multiplied.values()) + (sum(self.convolved.values()) if convolutions else 0)
        total = sum(self.multiplied.values()) + sum(self.convolved.values()) + self.left.total()
        return covered / total if total else 0.0

    def method(self, asked: str, *, calibrated: bool) -> str:
        """ "dynamic" or "static": as asked, else by where the weights are, and by where most of the work is
        when there are rows to learn its ranges from: a convolution's few weights are used at every place."""
        if asked != "auto":
            return asked
        if calibrated and len(self.convolved) >= max(1, len(self.multiplied)):
            return "static"
        return "static" if self.share() < MIN_SHARE <= self.share(convolutions=True) else "dynamic"

    def check(self, precision: str, *, convolutions: bool) -> None:
        """Raise `NothingLowered` when too few weights would be covered."""
        if self.share(convolutions=convolutions) >= MIN_SHARE:
            return
        rest = self.left + Counter({} if convolutions else {CONVOLUTION: sum(self.convolved.values())})
        if not rest.total():
            raise NothingLowered(
                f"the model has no MatMul or Gemm with constant weights that {precision} could make quicker",
                hint="compile for fp32",
            )
        named = ", ".join(name for name, size in rest.most_common() if size)
        raise NothingLowered(
            f"{precision} would cover {self.share(convolutions=convolutions):.0%} of the weights; "
            f"the rest belong to {named}",
            hint="compile for fp32; int8 by method = static, with calibration rows, quantizes convolutions",
        )


def plan(model: onnx.ModelProto, keep_high: Sequence[str]) -> Plan:
    """Look at the weights."""
    sizes = {tensor.name: prod(tensor.dims) for tensor in model.graph.initializer}
    sizes |= {node.output[0]: sizes[node.input[0]] for node in transposed_weights(model.graph)}
    multiplied: dict[str, int] = {}
    convolved: dict[str, int] = {}
    left: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type not in _HOLD_WEIGHTS or (node.name and node.name in keep_high):
            continue
        weight = sizes.get(node.input[1], 0)
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and is_plain(node)):
            multiplied |= {node.output[0]: weight} if weight else {}
        elif node.op_type == CONVOLUTION:
            convolved |= {node.output[0]: weight} if weight else {}
        else:
            left[node.op_type] += sum(sizes.get(name, 0) for name in node.input[1:3])
    return Plan(multiplied=multiplied, convolved=convolved, left=left)
