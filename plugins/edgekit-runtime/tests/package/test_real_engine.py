"""A package runs and proves itself on a real engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit_runtime.errors import SelfTestFailed
from edgekit_runtime.openers import find_openers
from edgekit_runtime.reader import open_package

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.skipif(
    "onnxruntime" not in find_openers(), reason="edgekit-onnxruntime is not installed"
)


def graph(words) -> bytes:
    """The mean of the scores of a text's words, as an ONNX file."""
    helper, integers, floats = onnx.helper, onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["scores"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=floats),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["scores", "column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["logits"]),
    ]
    shape = ["batch", "sequence"]
    made = helper.make_graph(
        nodes,
        "words",
        [helper.make_tensor_value_info(name, integers, shape) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", floats, ["batch", 2])],
        [
            onnx.numpy_helper.from_array(words, "words"),
            helper.make_tensor("last", integers, [1], [2]),
            helper.make_tensor("middle", integers, [1], [1]),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def packed(parts, words) -> object:
    files = {path: data for path, data in parts.files.items() if not path.startswith("artifact/")}
    files["artifact/model.onnx"] = graph(words)
    return replace(parts, files=files, table=replace(parts.table, backend="onnxruntime"))


def test_a_package_predicts_and_proves_itself(parts, words, tmp_path: Path) -> None:
    with open_package(packed(parts, words).write(tmp_path / "p.edgekit")) as opened:
        assert opened.self_test().agreeing == 3
        found = opened.predict(["a fine film", "", "bad 😀"])
    assert [item.label for item in found] == ["positive", "negative", "negative"]
    assert found[0].score == pytest.approx(0.7685, abs=1e-4)


def test_a_model_with_one_wrong_weight_is_found_out(parts, words, tmp_path: Path) -> None:
    wrong = words.copy()
    wrong[5] *= 1.01
    opening = open_package(packed(parts, wrong).write(tmp_path / "p.edgekit"))
    with opening as opened, pytest.raises(SelfTestFailed, match="2 of 3 goldens agree: golden 'a fine film'"):
        opened.self_test()
