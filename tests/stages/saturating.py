"""A model whose int8 file overflows on x86 without VNNI, and one of the same that cannot, made in code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgekit.stages.compiling.isa import Built
from edgekit.values import ModelTable, RunSettings
from edgekit_runtime.goldens import Golden, write_goldens
from edgekit_runtime.values import Signature, TensorSpec, Tolerance

#: Pairs of weights of one sign, whose sum of two products passes 32767; and weights of the other sign, each
#: beside a zero, which never do. The pairs win unless they are cut off.
PAIRS, SINGLES = 32, 45
WIDTH, OUTPUTS, CASES = 2 * (PAIRS + SINGLES), 8, 4


def saturating(directory: Path, *, safe: bool, sparing: bool = False) -> Built:
    """An artifact and its goldens. safe: weights of 7 bits, so that no sum of two products is cut off;
    sparing: a zero in each pair of the recorded inputs, so that none is cut off for them either.
    """
    rng = np.random.default_rng(0)
    pattern = np.array([1.0, 1.0] * PAIRS + [-1.0, 0.0] * SINGLES, np.float32)
    signs = np.where(np.arange(OUTPUTS) % 2, 1.0, -1.0).astype(np.float32)
    weights = pattern[:, None] * signs * rng.uniform(0.95, 1.0, (WIDTH, OUTPUTS)).astype(np.float32)
    cases = rng.uniform(0.7, 1.0, (CASES, 1, WIDTH)).astype(np.float32)
    if sparing:
        cases[..., ::2] = 0
    _quantized(weights, directory, safe=safe)
    goldens = [
        Golden(name=f"case {number}", feeds={"x": case}, outputs={"y": case @ weights})
        for number, case in enumerate(cases)
    ]
    write_goldens(directory / "model" / "golden", goldens)
    return Built(
        directory=directory / "artifact",
        model=directory / "model",
        table=_table(),
        backend="onnxruntime",
        precision="int8",
        run=RunSettings(),
    )


def _quantized(weights: NDArray[np.float32], directory: Path, *, safe: bool) -> None:
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="multiply")],
        "saturating",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", OUTPUTS])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"edgekit.precision": "int8"})
    (directory / "artifact").mkdir(parents=True)
    made = directory / "artifact" / "model.onnx"
    quantize_dynamic(
        model,
        made,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        reduce_range=safe,
    )


def _table() -> ModelTable:
    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", WIDTH)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("batch", OUTPUTS)),),
    )
    return ModelTable(
        task="sentence-embedding",
        signature=signature,
        opset=17,
        source={},
        tolerance=Tolerance(atol=1e-4, rtol=1e-3),
        checks=(),
    )
