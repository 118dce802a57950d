"""Small ONNX models built in code, of the kinds that are put on GPUs; weights repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.api import Signature, TensorSpec

FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
HIDDEN, HEADS, WORDS, LONGEST = 128, 4, 500, 64


def info(name: str, *shape: int | str, kind: int = FLOAT) -> onnx.ValueInfoProto:
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


def weights(name: str, *shape: int) -> onnx.TensorProto:
    """Repeatable weights of unit variance over all axes but the last."""
    fan = int(np.prod(shape[:-1])) or 1
    value = np.random.default_rng(len(name)).normal(0.0, fan**-0.5, size=shape)
    return numpy_helper.from_array(value.astype(np.float32), name)


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


class _Drawing:
    """A graph that is being drawn: each call adds a node and gives the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, to: str = "", **attributes: object) -> str:
        name = to or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], f"/{name}", **attributes))
        return name

    def weight(self, name: str, *shape: int) -> str:
        self.constants.append(weights(name, *shape))
        return name

    def constant(self, value: object, dtype: type = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def linear(self, x: str, name: str, size: int, out: int) -> str:
        product = self.op("MatMul", x, self.weight(f"{name}.weight", size, out), to=f"{name}.matmul")
        return self.op("Add", product, self.weight(f"{name}.bias", out))

    def norm(self, x: str) -> str:
        gain = self.constant(np.ones(HIDDEN))
        return self.op("LayerNormalization", x, gain, self.constant(np.zeros(HIDDEN)), axis=-1)

    def heads(self, x: str) -> str:
        shape = self.constant([0, 0, HEADS, HIDDEN // HEADS], np.int64)
        return self.op("Transpose", self.op("Reshape", x, shape), perm=[0, 2, 1, 3])

    def layer(self, x: str, name: str, mask: str) -> str:
        """One layer of a transformer. mask: added to the scores, "" for none."""
        query, key, value = (
            self.heads(self.linear(x, f"{name}.{part}", HIDDEN, HIDDEN)) for part in ("query", "key", "value")
        )
        turned = self.op("Transpose", key, perm=[0, 1, 3, 2])
        scores = self.op("Mul", self.op("MatMul", query, turned), self.constant((HIDDEN / HEADS) ** -0.5))
        if mask:
            scores = self.op("Add", scores, mask)
        context = self.op("MatMul", self.op("Softmax", scores, axis=-1), value)
        flat = self.constant([0, 0, HIDDEN], np.int64)
        joined = self.op("Reshape", self.op("Transpose", context, perm=[0, 2, 1, 3]), flat)
        x = self.norm(self.op("Add", x, self.linear(joined, f"{name}.joined", HIDDEN, HIDDEN)))
        wide = self.linear(x, f"{name}.wide", HIDDEN, 4 * HIDDEN)
        erf = self.op("Erf", self.op("Div", wide, self.constant(2**0.5)))
        gelu = self.op(
            "Mul", self.op("Mul", wide, self.op("Add", erf, self.constant(1.0))), self.constant(0.5)
        )
        return self.norm(self.op("Add", x, self.linear(gelu, f"{name}.narrow", 4 * HIDDEN, HIDDEN)))


def minilm_like(layers: int = 2) -> onnx.ModelProto:
    """A text classifier of the kind of MiniLM: embeddings, masked attention, exact GELU; 64 positions."""
    draw = _Drawing()
    words = draw.op("Gather", draw.weight("words", WORDS, HIDDEN), "input_ids")
    length = draw.op("Gather", draw.op("Shape", "input_ids"), draw.constant([1], np.int64))
    start, axis = draw.constant([0], np.int64), draw.constant([1], np.int64)
    places = draw.op("Slice", draw.weight("places", 1, LONGEST, HIDDEN), start, length, axis)
    x = draw.norm(draw.op("Add", words, places))
    draw.nodes.append(helper.make_node("Cast", ["attention_mask"], ["seen"], "/seen", to=FLOAT))
    away = draw.op("Sub", draw.constant(1.0), "seen")
    wide = draw.op(
        "Unsqueeze", draw.op("Mul", away, draw.constant(-10000.0)), draw.constant([1, 2], np.int64)
    )
    for number in range(layers):
        x = draw.layer(x, f"layer.{number}", wide)
    first = draw.op("Gather", x, draw.constant(0, np.int64), axis=1)
    draw.op("Gemm", first, draw.weight("head", HIDDEN, 2), to="logits")
    return make(
        draw.nodes,
        [info(name, "batch", "sequence", kind=INT64) for name in ("input_ids", "attention_mask")],
        [info("logits", "batch", 2)],
        draw.constants,
    )


def cnn() -> onnx.ModelProto:
    """Convolutions with a residual, as a small ResNet without its normalisation."""
    draw = _Drawing()

    def conv(x: str, name: str, inside: int, out: int, stride: int) -> str:
        kernel = draw.weight(name, out, inside, 3, 3)
        return draw.op("Conv", x, kernel, to=f"{name}.conv", pads=[1, 1, 1, 1], strides=[stride, stride])

    x = draw.op("Relu", conv("image", "stem", 3, 64, 2))
    inner = draw.op("Relu", conv(x, "block.first", 64, 128, 1))
    x = draw.op("Relu", draw.op("Add", conv(inner, "block.second", 128, 64, 1), x))
    x = draw.op("Relu", conv(x, "last", 64, 256, 2))
    flat = draw.op("Flatten", draw.op("GlobalAveragePool", x))
    draw.op("Gemm", flat, draw.weight("head", 256, 10), to="logits")
    return make(
        draw.nodes, [info("image", "batch", 3, 32, 32)], [info("logits", "batch", 10)], draw.constants
    )


def vit_like(layers: int = 2) -> onnx.ModelProto:
    """An image classifier of the kind of ViT: patches by a convolution, then layers of a transformer."""
    draw = _Drawing()
    patches = draw.op("Conv", "image", draw.weight("patch", HIDDEN, 3, 8, 8), to="patches", strides=[8, 8])
    rows = draw.op("Reshape", patches, draw.constant([0, HIDDEN, 16], np.int64))
    x = draw.op("Add", draw.op("Transpose", rows, perm=[0, 2, 1]), draw.weight("places", 16, HIDDEN))
    for number in range(layers):
        x = draw.layer(x, f"layer.{number}", "")
    pooled = draw.op("ReduceMean", x, draw.constant([1], np.int64), keepdims=0)
    draw.op("Gemm", pooled, draw.weight("head", HIDDEN, 10), to="logits")
    return make(
        draw.nodes, [info("image", "batch", 3, 32, 32)], [info("logits", "batch", 10)], draw.constants
    )


def rows(model: onnx.ModelProto, count: int = 8) -> list[dict[str, np.ndarray]]:
    """Inputs for one of the models above."""
    drawn = np.random.default_rng(3)
    if model.graph.input[0].name == "image":
        return [{"image": drawn.normal(size=(1, 3, 32, 32)).astype(np.float32)} for _ in range(count)]
    found = []
    for number in range(count):
        shape = (1, 6 + number)
        found.append(
            {
                "input_ids": drawn.integers(0, WORDS, size=shape, dtype=np.int64),
                "attention_mask": np.ones(shape, np.int64),
            }
        )
    return found


def gemm() -> onnx.ModelProto:
    """One product of matrices."""
    return make(
        [helper.make_node("Gemm", ["x", "w"], ["y"], "layers/product")],
        [info("x", "batch", 16)],
        [info("y", "batch", 8)],
        [weights("w", 16, 8)],
    )
