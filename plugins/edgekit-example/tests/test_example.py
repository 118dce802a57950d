"""Promises of the tutorial backend beyond the kit's."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.api import Target
from edgekit_example.compiler import Compiler
from edgekit_example.session import open_session
from edgekit_runtime.errors import OpenFailed
from edgekit_runtime.values import OpenRequest


def save(directory: Path, *nodes: onnx.NodeProto) -> Path:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    graph = helper.make_graph(list(nodes), "test", tensors[:1], tensors[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.acme", 1)]
    path = directory / "model.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_check_blames_the_operator_that_is_unknown_and_no_other(tmp_path: Path) -> None:
    relu = helper.make_node("Relu", ["x"], ["h"])
    path = save(tmp_path, relu, helper.make_node("Frobnicate", ["h"], ["y"], domain="com.acme"))
    support = Compiler().check(path, Target(name="t"))
    assert not support.supported
    assert {row.op_type: row.supported for row in support.operators} == {"Relu": True, "Frobnicate": False}


@pytest.mark.parametrize(("precision", "device"), [("int8", "cpu"), ("fp32", "gpu")])
def test_another_precision_or_device_is_refused(tmp_path: Path, precision: str, device: str) -> None:
    save(tmp_path, helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(OpenFailed, match=f"not {precision} on {device}"):
        open_session(OpenRequest(directory=tmp_path, precision=precision, device=device))
