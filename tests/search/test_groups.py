"""Which nodes of a graph are tried in a higher precision, and how they are grouped."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from edgekit.files.graphs import Graph
from edgekit.search.groups import MOST_NODES, quantizable_groups
from edgekit_runtime.values import Signature

SIGNATURE = Signature(inputs=(), outputs=())


def _graph(directory: Path, layers: int, part: str = "") -> Graph:
    """Layers of one weight each, beside operators that are never quantized; a table at the start."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x0"], name="embeddings/Gather"),
        helper.make_node("Shape", ["ids"], ["size"], name="embeddings/Shape"),
    ]
    for layer in range(layers):
        nodes.append(
            helper.make_node("MatMul", [f"x{layer}", "w"], [f"y{layer}"], name=f"layer.{layer}.up/MatMul")
        )
        nodes.append(helper.make_node("Relu", [f"y{layer}"], [f"x{layer + 1}"], name=f"layer.{layer}/Relu"))
    nodes.append(helper.make_node("Gather", ["size", "zero"], ["first"], name="embeddings/Gather_2"))
    weights = [
        helper.make_tensor("table", TensorProto.FLOAT, [4, 2], [0.0] * 8),
        helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [0.0] * 4),
        helper.make_tensor("zero", TensorProto.INT64, [], [0]),
    ]
    graph = helper.make_graph(nodes, "g", [], [], weights)
    path = directory / part / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph), path)
    return Graph(part=part, path=path, signature=SIGNATURE)


def test_the_same_place_in_every_layer_is_one_group(tmp_path: Path) -> None:
    groups = {group.name: group.nodes for group in quantizable_groups([_graph(tmp_path, 3)])}
    assert groups == {
        "embeddings/Gather": ("embeddings/Gather",),
        "layer.#.up/MatMul": tuple(f"layer.{layer}.up/MatMul" for layer in range(3)),
    }


def test_many_layers_are_several_groups_of_neighbours(tmp_path: Path) -> None:
    groups = quantizable_groups([_graph(tmp_path, 2 * MOST_NODES + 1)])[1:]
    assert [group.name for group in groups] == [f"layer.#.up/MatMul ({at} of 3)" for at in (1, 2, 3)]
    assert [node for group in groups for node in group.nodes] == [
        f"layer.{layer}.up/MatMul" for layer in range(2 * MOST_NODES + 1)
    ]
    assert max(len(group.nodes) for group in groups) <= MOST_NODES


def test_nodes_of_parts_are_named_as_keep_high_takes_them(tmp_path: Path) -> None:
    graphs = [_graph(tmp_path, 1, "encoder"), _graph(tmp_path, 1, "decoder")]
    nodes = [node for group in quantizable_groups(graphs) for node in group.nodes]
    assert "encoder/layer.0.up/MatMul" in nodes and "decoder/layer.0.up/MatMul" in nodes
