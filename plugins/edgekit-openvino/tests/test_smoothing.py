"""What int8 does for transformers: channels that stick out, small tables, attention of fixed shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgekit_openvino.engine import ov
from edgekit_openvino.session import open_session
from edgekit_runtime.values import OpenRequest

from .conftest import Build
from .models import attention, info, make, norm_layer, sequences, weights


def error(model: onnx.ModelProto, artifact: Path, feeds: list[dict[str, np.ndarray]]) -> float:
    """Distance from the reference, as a share of the values."""
    session = open_session(OpenRequest(directory=artifact, precision="int8"))
    pairs = [(session.run(row)["y"], ReferenceEvaluator(model).run(None, row)[0]) for row in feeds]
    distance = sum(float(np.square(got - wanted).mean()) for got, wanted in pairs)
    return float(np.sqrt(distance / sum(float(np.square(wanted).mean()) for _, wanted in pairs)))


def sticking_out(dtype: type = np.float32) -> onnx.ModelProto:
    """`norm_layer`, three of whose channels are forty times the others between the layers."""
    model = norm_layer()
    gain = np.ones(64, np.float32)
    gain[[3, 17, 40]] = 40
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(gain, "gain"))
    second = numpy_helper.to_array(model.graph.initializer[1]) / gain[:, None]
    if dtype is np.float16:
        model.graph.initializer[1].CopyFrom(numpy_helper.from_array(second.astype(dtype), "packed"))
        model.graph.node.insert(
            0, helper.make_node("Cast", ["packed"], ["second"], "unpack", to=onnx.TensorProto.FLOAT)
        )
    else:
        model.graph.initializer[1].CopyFrom(numpy_helper.from_array(second, "second"))
    return model


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_channels_that_stick_out_do_not_round_the_others_away(compiled: Build, dtype: type) -> None:
    model, feeds = sticking_out(dtype), sequences(24)
    plain, _ = compiled(model, "int8", calibration=feeds[:16], model_type="none")
    even, said = compiled(model, "int8", calibration=feeds[:16], model_type="transformer")
    assert "2 of 2" in said.notes[0]
    assert error(model, even, feeds[16:]) < error(model, plain, feeds[16:]) / 4


def test_a_node_kept_high_keeps_its_weights_as_they_are(compiled: Build) -> None:
    model, feeds = sticking_out(), sequences()
    kept = ("layers/second",)
    artifact, _ = compiled(model, "int8", calibration=feeds, model_type="transformer", keep_high=kept)
    wanted = numpy_helper.to_array(model.graph.initializer[1])
    found = [node.get_data() for node in stored(artifact) if node.get_output_element_type(0) == ov.Type.f32]
    assert any(np.array_equal(value, wanted) for value in found if value.shape == wanted.shape)


def stored(artifact: Path) -> list[ov.Node]:
    model = ov.Core().read_model(artifact / "model.xml")
    return [node for node in model.get_ops() if node.get_type_name() == "Constant"]


def test_a_table_of_few_rows_stays_in_floats_and_a_large_one_does_not(compiled: Build) -> None:
    model = make(
        [
            helper.make_node("Gather", ["words", "ids"], ["word"], "word"),
            helper.make_node("Gather", ["kinds", "types"], ["kind"], "kind"),
            helper.make_node("Add", ["word", "kind"], ["sum"], "sum"),
            helper.make_node("MatMul", ["sum", "weight"], ["y"], "product"),
        ],
        [info(name, "batch", "tokens", kind=onnx.TensorProto.INT64) for name in ("ids", "types")],
        [info("y", "batch", "tokens", 64)],
        [weights("words", 500, 64), weights("kinds", 2, 64), weights("weight", 64, 64)],
    )
    rng = np.random.default_rng(5)
    feeds = [
        {"ids": rng.integers(0, 500, (1, 3 + row % 4)), "types": np.zeros((1, 3 + row % 4), np.int64)}
        for row in range(16)
    ]
    artifact, _ = compiled(model, "int8", calibration=feeds)
    types = {tuple(node.get_output_shape(0)): node.get_output_element_type(0) for node in stored(artifact)}
    assert types[(500, 64)] == ov.Type.i8
    assert types[(2, 64)] == ov.Type.f32


@pytest.mark.parametrize("shape", [(1, 32), ("batch", "tokens")])
def test_attention_is_right_in_int8_whether_its_shape_is_fixed_or_free(
    compiled: Build, shape: tuple[int | str, ...]
) -> None:
    model, rng = attention(*shape), np.random.default_rng(6)
    feeds = [
        {
            "x": 2 * rng.normal(size=(1, 32, 64)).astype(np.float32),
            "mask": np.where(np.arange(32) < 8 + row, 0, -1e4).astype(np.float32).reshape(1, 1, 1, 32),
        }
        for row in range(24)
    ]
    artifact, _ = compiled(model, "int8", calibration=feeds[:16])
    assert error(model, artifact, feeds[16:]) < 0.05
