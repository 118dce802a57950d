"""Small ONNX models built in code; weights repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.api import Signature, TensorSpec

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


def rows(count: int = 16) -> list[dict[str, np.ndarray]]:
    """Inputs for `two_layers`, of several batch sizes."""
    rng = np.random.default_rng(3)
    return [{"x": rng.normal(size=(1 + row % 3, 64)).astype(np.float32)} for row in range(count)]


def signature(model: onnx.ModelProto) -> Signature:
    """The signature that edgekit's export would have written for the model."""
    return Signature(
        inputs=tuple(_spec(value) for value in model.graph.input),
        outputs=tuple(_spec(value) for value in model.graph.output),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    return TensorSpec(
        name=value.name,
        dtype=np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name,
        shape=tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim),
    )


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


def norm_layer(size: int = 64) -> onnx.ModelProto:
    """Two MatMuls with an operator between them that keeps OpenVINO from fusing them into one."""
    return make(
        [
            helper.make_node("MatMul", ["x", "first"], ["hidden"], "layers/first"),
            helper.make_node("LayerNormalization", ["hidden", "gain"], ["normal"], "norm"),
            helper.make_node("MatMul", ["normal", "second"], ["y"], "layers/second"),
        ],
        [info("x", "batch", "sequence", size)],
        [info("y", "batch", "sequence", size)],
        [
            weights("first", size, size),
            weights("second", size, size),
            numpy_helper.from_array(np.ones(size, np.float32), "gain"),
        ],
    )


def sequences(count: int = 16, size: int = 64) -> list[dict[str, np.ndarray]]:
    """Inputs for `norm_layer`, of several lengths; channels are of unlike range."""
    rng = np.random.default_rng(4)
    spread = np.exp(rng.normal(size=size)).astype(np.float32)
    return [
        {"x": rng.normal(size=(1, 3 + row % 5, size)).astype(np.float32) * spread} for row in range(count)
    ]


def attention(*shape: int | str, heads: int = 4, size: int = 64) -> onnx.ModelProto:
    """Softmax of query times key and a mask, times value, as BERT does it. shape: batch and tokens of x."""
    parts = ("query", "key", "value")
    split = [numpy_helper.from_array(np.array([0, 0, heads, size // heads]), "split")]
    joined = [numpy_helper.from_array(np.array([0, 0, size]), "joined")]
    scale = [numpy_helper.from_array(np.float32((size // heads) ** -0.5), "scale")]
    nodes = []
    for part in parts:
        order = [0, 2, 3, 1] if part == "key" else [0, 2, 1, 3]
        nodes += [
            helper.make_node("MatMul", ["x", f"w.{part}"], [f"{part}.product"], part),
            helper.make_node("Add", [f"{part}.product", f"b.{part}"], [f"{part}.sum"]),
            helper.make_node("Reshape", [f"{part}.sum", "split"], [f"{part}.split"]),
            helper.make_node("Transpose", [f"{part}.split"], [f"{part}.heads"], perm=order),
        ]
    nodes += [
        helper.make_node("MatMul", ["query.heads", "key.heads"], ["likeness"], "likeness"),
        helper.make_node("Mul", ["likeness", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "value.heads"], ["mixed.heads"], "mixed"),
        helper.make_node("Transpose", ["mixed.heads"], ["mixed.split"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["mixed.split", "joined"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "last"], ["y"], "last"),
    ]
    constants = [weights(f"w.{part}", size, size) for part in parts]
    constants += [weights(f"b.{part}", size) for part in parts]
    constants += [weights("last", size, size), *split, *joined, *scale]
    mask = info("mask", shape[0], 1, 1, shape[1])
    return make(nodes, [info("x", *shape, size), mask], [info("y", *shape, size)], constants)
