"""Small ONNX models built in code; weights repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.api import Target
from edgekit.values import Hardware, Match

FLOAT = TensorProto.FLOAT


def weights(name: str, *shape: int, dtype: type = np.float32) -> onnx.TensorProto:
    """Repeatable weights of unit variance over the first axis."""
    value = np.random.default_rng(len(name)).normal(0.0, shape[0] ** -0.5, size=shape)
    return numpy_helper.from_array(value.astype(dtype), name)


def info(name: str, *shape: int | str | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def make(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(constants))
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(*pair) for pair in (domains or {}).items())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def two_layers() -> onnx.ModelProto:
    """A MatMul and a Gemm with a transposed weight, all shapes declared, as torch writes them."""
    model = make(
        [
            helper.make_node("MatMul", ["x", "first"], ["hidden"], "layers/first"),
            helper.make_node("Gemm", ["hidden", "second", "bias"], ["y"], "layers/second", transB=1),
        ],
        [info("x", "batch", 64)],
        [info("y", "batch", 8)],
        [weights("first", 64, 32), weights("second", 8, 32), weights("bias", 8)],
    )
    model.graph.value_info.extend([info("first", 64, 32), info("second", 8, 32), info("bias", 8)])
    return model


def target(arch: str = "", *isa: str) -> Target:
    """A target with these CPU features; without any, the features of this machine decide."""
    return Target(name="board", match=Match(arch=arch), hardware=Hardware(isa=isa))


def network(*, classes: int = 8) -> onnx.ModelProto:
    """Two convolutions, the first with its normalization apart, and a classifier, on images of 12x12."""
    positive = np.linspace(0.5, 1.5, 16, dtype=np.float32)
    return make(
        [
            helper.make_node("Conv", ["image", "kernel"], ["raw"], "first", pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["raw", "gain", "shift", "mean", "var"], ["even"], "norm"),
            helper.make_node("Relu", ["even"], ["a"], "relu"),
            helper.make_node("Conv", ["a", "second"], ["b"], "second", pads=[1, 1, 1, 1]),
            helper.make_node("GlobalAveragePool", ["b"], ["pooled"], "pool"),
            helper.make_node("Flatten", ["pooled"], ["flat"], "flat"),
            helper.make_node("Gemm", ["flat", "head"], ["y"], "head"),
        ],
        [info("image", "batch", 3, 12, 12)],
        [info("y", "batch", classes)],
        [
            numpy_helper.from_array(value, name)
            for name, value in (("gain", positive), ("shift", positive - 1), ("mean", 0 * positive))
        ]
        + [
            numpy_helper.from_array(positive, "var"),
            weights("kernel", 16, 3, 3, 3),
            weights("second", 16, 16, 3, 3),
            weights("head", 16, classes),
        ],
    )


def images(count: int) -> list[dict[str, np.ndarray]]:
    """Inputs of `network`, one image each."""
    rng = np.random.default_rng(5)
    return [{"image": rng.uniform(-1, 1, (1, 3, 12, 12)).astype(np.float32)} for _ in range(count)]


def vectors(count: int, *, outlier: float = 1.0) -> list[dict[str, np.ndarray]]:
    """Inputs of `two_layers`, four rows each; channel 7 is larger by `outlier`."""
    rng = np.random.default_rng(6)
    rows = [rng.normal(size=(4, 64)).astype(np.float32) for _ in range(count)]
    for row in rows:
        row[:, 7] *= outlier
    return [{"x": row} for row in rows]
