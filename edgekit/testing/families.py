"""The graphs themselves: one function per model, one entry per model in `ALL`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.testing.models import Graph, ModelCase, tensor
from edgekit_runtime.session import Array

Sizes = Mapping[str, int]
Generator = np.random.Generator


def _even(rng: Generator, *shape: int) -> Array:
    """Values of unit variance within fixed bounds, so that a range learnt from few rows holds for all."""
    return rng.uniform(-(3.0**0.5), 3.0**0.5, size=shape).astype(np.float32)


# --- matmul: the plainest model; what every backend must take ---------------------------------------

MATMUL_IN = (tensor("x", "batch", 16),)
MATMUL_OUT = (tensor("y", "batch", 8),)


def _matmul() -> Any:
    graph = Graph(seed=1)
    graph.linear("x", "y", 16, 8)
    return graph.finish(MATMUL_IN, MATMUL_OUT)


# --- mlp: wide enough that lower precisions are worth an engine's while -----------------------------

MLP_IN = (tensor("features", "batch", 64),)
MLP_OUT = (tensor("logits", "batch", 16),)


def _mlp() -> Any:
    graph = Graph(seed=2)
    graph.node("Relu", [graph.linear("features", "first", 64, 128)], "first.relu")
    graph.node("Relu", [graph.linear("first.relu", "second", 128, 64)], "second.relu")
    graph.linear("second.relu", "logits", 64, 16)
    return graph.finish(MLP_IN, MLP_OUT)


# --- two outputs, one of them only an Identity of an input (tempts engines to hand out their buffer) -

TWO_IN = (tensor("x", "batch", 12),)
TWO_OUT = (tensor("zeta", "batch", 4), tensor("alpha", "batch", 12))


def _two_outputs() -> Any:
    graph = Graph(seed=3)
    graph.linear("x", "hidden", 12, 4)
    graph.node("Tanh", ["hidden"], "zeta")
    graph.node("Identity", ["x"], "alpha")
    return graph.finish(TWO_IN, TWO_OUT)


# --- several inputs, one of them a scalar ------------------------------------------------------------

SEVERAL_IN = (tensor("left", "batch", 8), tensor("scale"), tensor("right", "batch", 8))
SEVERAL_OUT = (tensor("y", "batch", 8),)


def _several_inputs() -> Any:
    graph = Graph(seed=4)
    graph.node("Mul", ["right", "scale"], "scaled")
    graph.node("Sub", ["left", "scaled"], "y")
    return graph.finish(SEVERAL_IN, SEVERAL_OUT)


def _several_feeds(rng: Generator, sizes: Sizes) -> dict[str, Array]:
    batch = sizes["batch"]
    return {
        "left": _even(rng, batch, 8),
        "scale": np.asarray(rng.uniform(0.5, 2.0), dtype=np.float32),
        "right": _even(rng, batch, 8),
    }


# --- gather: int64 ids in, an embedding out, and int64 back ------------------------------------------

GATHER_IN = (tensor("ids", "batch", "sequence", dtype="int64"),)
GATHER_OUT = (tensor("pooled", "batch", 16), tensor("best", "batch", dtype="int64"))


def _gather() -> Any:
    graph = Graph(seed=5)
    table = graph.weight("embedding", 50, 16, fan_in=1)
    graph.node("Gather", [table, "ids"], "embedded", {"axis": 0})
    graph.node("ReduceMean", ["embedded"], "pooled", {"axes": [1], "keepdims": 0})
    graph.node("ArgMax", ["pooled"], "best", {"axis": 1, "keepdims": 0})
    return graph.finish(GATHER_IN, GATHER_OUT)


# --- conv: padding, pooling, and a classifier behind it ----------------------------------------------

CONV_IN = (tensor("image", "batch", 3, 12, 12),)
CONV_OUT = (tensor("logits", "batch", 8),)


def _conv() -> Any:
    graph = Graph(seed=6)
    first = graph.weight("first.weight", 16, 3, 3, 3, fan_in=27)
    graph.node("Conv", ["image", first, graph.bias("first.bias", 16)], "first", {"pads": [1, 1, 1, 1]})
    graph.node("Relu", ["first"], "first.relu")
    graph.node("MaxPool", ["first.relu"], "pooled", {"kernel_shape": [2, 2], "strides": [2, 2]})
    second = graph.weight("second.weight", 16, 16, 3, 3, fan_in=144)
    graph.node("Conv", ["pooled", second, graph.bias("second.bias", 16)], "second", {"pads": [1, 1, 1, 1]})
    graph.node("Relu", ["second"], "second.relu")
    graph.node("GlobalAveragePool", ["second.relu"], "average")
    graph.node("Flatten", ["average"], "flat", {"axis": 1})
    head = graph.weight("head.weight", 16, 8, fan_in=16)
    graph.node("Gemm", ["flat", head, graph.bias("head.bias", 8)], "logits")
    return graph.finish(CONV_IN, CONV_OUT)


# --- layer norm and gelu, spelled as exporters spell them --------------------------------------------

NORM_IN = (tensor("hidden", "batch", "sequence", 32),)
NORM_OUT = (tensor("y", "batch", "sequence", 32),)


def _gelu(graph: Graph, source: str, output: str) -> str:
    scaled = graph.node("Div", [source, graph.number(f"{output}.root", 2.0**0.5)], f"{output}.scaled")
    error = graph.node("Erf", [scaled], f"{output}.erf")
    shifted = graph.node("Add", [error, graph.number(f"{output}.one", 1.0)], f"{output}.shifted")
    product = graph.node("Mul", [source, shifted], f"{output}.product")
    return graph.node("Mul", [product, graph.number(f"{output}.half", 0.5)], output)


def _layer_norm(graph: Graph, source: str, output: str, size: int) -> str:
    gain = graph.constant(f"{output}.gain", np.linspace(0.5, 1.5, size, dtype=np.float32))
    shift = graph.bias(f"{output}.shift", size)
    return graph.node("LayerNormalization", [source, gain, shift], output, {"axis": -1, "epsilon": 1e-5})


def _norm_gelu() -> Any:
    graph = Graph(seed=7)
    _layer_norm(graph, "hidden", "normal", 32)
    _gelu(graph, graph.linear("normal", "wide", 32, 64), "gelu")
    graph.linear("gelu", "narrow", 64, 32)
    graph.node("Add", ["narrow", "hidden"], "y")
    return graph.finish(NORM_IN, NORM_OUT)


# --- attention: four heads, a padding mask, shapes computed in the graph ------------------------------

ATTENTION_IN = (
    tensor("hidden", "batch", "sequence", 32),
    tensor("mask", "batch", "sequence", dtype="int64"),
)
ATTENTION_OUT = (tensor("y", "batch", "sequence", 32),)


def _heads(graph: Graph, source: str, output: str, order: list[int]) -> str:
    shape = graph.constant(f"{output}.shape", np.array([0, 0, 4, 8], dtype=np.int64))
    return graph.node(
        "Transpose", [graph.node("Reshape", [source, shape], f"{output}.split")], output, {"perm": order}
    )


def _attention() -> Any:
    graph = Graph(seed=8)
    query = _heads(graph, graph.linear("hidden", "query", 32, 32), "query.heads", [0, 2, 1, 3])
    key = _heads(graph, graph.linear("hidden", "key", 32, 32), "key.heads", [0, 2, 3, 1])
    value = _heads(graph, graph.linear("hidden", "value", 32, 32), "value.heads", [0, 2, 1, 3])
    product = graph.node("MatMul", [query, key], "scores.product")
    scores = graph.node("Div", [product, graph.number("root", 8.0**0.5)], "scores")
    graph.node("Cast", ["mask"], "mask.float", {"to": 1})
    graph.node(
        "Unsqueeze",
        ["mask.float", graph.constant("mask.axes", np.array([1, 2], dtype=np.int64))],
        "mask.wide",
    )
    graph.node("Sub", [graph.number("one", 1.0), "mask.wide"], "mask.inverse")
    graph.node("Mul", ["mask.inverse", graph.number("lowest", -10_000.0)], "mask.bias")
    graph.node("Add", [scores, "mask.bias"], "scores.masked")
    graph.node("Softmax", ["scores.masked"], "weights", {"axis": -1})
    graph.node("MatMul", ["weights", value], "context")
    graph.node("Transpose", ["context"], "context.merged", {"perm": [0, 2, 1, 3]})
    _join_heads(graph, "context.merged", "joined")
    graph.node("Add", [graph.linear("joined", "out", 32, 32), "hidden"], "residual")
    _layer_norm(graph, "residual", "y", 32)
    return graph.finish(ATTENTION_IN, ATTENTION_OUT)


def _join_heads(graph: Graph, source: str, output: str) -> None:
    """Reshape to [batch, sequence, 32] by sizes read from the graph, as exporters write it."""
    graph.node("Shape", ["hidden"], "sizes")
    graph.node(
        "Slice",
        ["sizes", *(graph.constant(f"slice.{i}", np.array([i * 2], np.int64)) for i in range(2))],
        "two",
    )
    graph.node("Concat", ["two", graph.constant("width", np.array([32], np.int64))], "target", {"axis": 0})
    graph.node("Reshape", [source, "target"], output)


def _attention_feeds(rng: Generator, sizes: Sizes) -> dict[str, Array]:
    batch, sequence = sizes["batch"], sizes["sequence"]
    mask = np.ones((batch, sequence), dtype=np.int64)
    mask[1:, sequence - sequence // 3 :] = 0  # every row but the first is padded
    return {"hidden": _even(rng, batch, sequence, 32), "mask": mask}


# --- a large constant in a file beside the model -------------------------------------------------------

LARGE_IN = (tensor("x", "batch", 256),)
LARGE_OUT = (tensor("y", "batch", 256),)


def _large_constant() -> Any:
    graph = Graph(seed=9)
    graph.linear("x", "inner", 256, 512)
    graph.node("Relu", ["inner"], "inner.relu")
    graph.linear("inner.relu", "y", 512, 256)
    return graph.finish(LARGE_IN, LARGE_OUT)


# --- names: nodes without one, optional inputs left out, characters that paths and parsers dislike -----

NAMES_IN = (tensor("input.1", "batch", 6),)
NAMES_OUT = (tensor("/out/Concat_1:0", "batch", 12),)


def _odd_names() -> Any:
    graph = Graph(seed=10)
    ceiling = graph.number("/clip/Constant output", 0.8)
    graph.node("Clip", ["input.1", "", ceiling], "/clip/Clip_0", name="")
    graph.node("Neg", ["/clip/Clip_0"], "/neg/négatif", name="")
    graph.node("Concat", ["/clip/Clip_0", "/neg/négatif"], "/out/Concat_1:0", {"axis": 1}, name="")
    return graph.finish(NAMES_IN, NAMES_OUT)


# --- fixed: no symbolic axis at all; other kinds of numbers in ------------------------------------------

FIXED_IN = (tensor("values", 3, 4), tensor("keep", 3, 4, dtype="bool"), tensor("shift", 4, dtype="int32"))
FIXED_OUT = (tensor("y", 3, 4),)


def _fixed() -> Any:
    graph = Graph(seed=11)
    graph.node("Cast", ["shift"], "shift.float", {"to": 1})
    graph.node("Add", ["values", "shift.float"], "shifted")
    graph.node("Where", ["keep", "shifted", graph.number("nothing", -1.0)], "y")
    return graph.finish(FIXED_IN, FIXED_OUT)


def _fixed_feeds(rng: Generator, sizes: Sizes) -> dict[str, Array]:
    return {
        "values": _even(rng, 3, 4),
        "keep": rng.integers(0, 2, size=(3, 4)).astype(np.bool_),
        "shift": rng.integers(-3, 4, size=4).astype(np.int32),
    }


ALL = (
    ModelCase(
        name="matmul",
        build=_matmul,
        draw=lambda rng, sizes: {"x": _even(rng, sizes["batch"], 16)},
        inputs=MATMUL_IN,
        outputs=MATMUL_OUT,
    ),
    ModelCase(
        name="mlp",
        build=_mlp,
        draw=lambda rng, sizes: {"features": _even(rng, sizes["batch"], 64)},
        inputs=MLP_IN,
        outputs=MLP_OUT,
        quantizable=True,
    ),
    ModelCase(
        name="two-outputs",
        build=_two_outputs,
        draw=lambda rng, sizes: {"x": _even(rng, sizes["batch"], 12)},
        inputs=TWO_IN,
        outputs=TWO_OUT,
    ),
    ModelCase(
        name="several-inputs",
        build=_several_inputs,
        draw=_several_feeds,
        inputs=SEVERAL_IN,
        outputs=SEVERAL_OUT,
    ),
    ModelCase(
        name="gather",
        build=_gather,
        draw=lambda rng, sizes: {"ids": rng.integers(0, 50, size=(sizes["batch"], sizes["sequence"]))},
        inputs=GATHER_IN,
        outputs=GATHER_OUT,
    ),
    ModelCase(
        name="conv",
        build=_conv,
        draw=lambda rng, sizes: {"image": _even(rng, sizes["batch"], 3, 12, 12)},
        inputs=CONV_IN,
        outputs=CONV_OUT,
        quantizable=True,
    ),
    ModelCase(
        name="norm-gelu",
        build=_norm_gelu,
        draw=lambda rng, sizes: {"hidden": _even(rng, sizes["batch"], sizes["sequence"], 32)},
        inputs=NORM_IN,
        outputs=NORM_OUT,
    ),
    ModelCase(
        name="attention",
        build=_attention,
        draw=_attention_feeds,
        inputs=ATTENTION_IN,
        outputs=ATTENTION_OUT,
        quantizable=True,
    ),
    ModelCase(
        name="large-constant",
        build=_large_constant,
        draw=lambda rng, sizes: {"x": _even(rng, sizes["batch"], 256)},
        inputs=LARGE_IN,
        outputs=LARGE_OUT,
        external=True,
    ),
    ModelCase(
        name="odd-names",
        build=_odd_names,
        draw=lambda rng, sizes: {"input.1": _even(rng, sizes["batch"], 6)},
        inputs=NAMES_IN,
        outputs=NAMES_OUT,
    ),
    ModelCase(name="fixed", build=_fixed, draw=_fixed_feeds, inputs=FIXED_IN, outputs=FIXED_OUT),
)


def case(name: str) -> ModelCase:
    """The model called `name`."""
    return next(found for found in ALL if found.name == name)
