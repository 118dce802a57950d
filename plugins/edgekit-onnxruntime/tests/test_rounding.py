"""Promises of how weights of convolutions are rounded and how their ranges are learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from edgekit import convolution_rounding
from edgekit.api import OpenRequest
from edgekit_onnxruntime.rounding import Patches
from edgekit_onnxruntime.session import open_session
from edgekit_onnxruntime.static import least_error

from .conftest import Build
from .models import images, info, make, network, weights


def pictures(count: int) -> list[dict[str, np.ndarray]]:
    """Images whose pixels are much like their neighbours."""
    rng = np.random.default_rng(3)
    coarse = (rng.uniform(0, 1, (1, 8, 5, 5)) for _ in range(count))
    return [{"image": np.kron(part, np.ones((4, 4))).astype(np.float32)} for part in coarse]


def convolutions() -> onnx.ModelProto:
    """A depthwise convolution without a bias, and one over all channels with strides, on [_, 8, 20, 20]."""
    return make(
        [
            helper.make_node("Conv", ["image", "deep"], ["a"], "deep", pads=[1, 1, 1, 1], group=8),
            helper.make_node("Conv", ["a", "wide", "shift"], ["y"], "wide", strides=[2, 1], dilations=[1, 2]),
        ],
        [info("image", "batch", 8, 20, 20)],
        [info("y", "batch", 6, None, None)],
        [weights("deep", 8, 1, 3, 3), weights("wide", 6, 8, 3, 3), weights("shift", 6)],
    )


def errors(artifact: Path, model: onnx.ModelProto, rows: list[dict[str, np.ndarray]]) -> np.ndarray:
    session = open_session(OpenRequest(directory=artifact, precision="int8"))
    right = ReferenceEvaluator(model)
    return np.concatenate([session.run(row)["y"] - right.run(None, row)[0] for row in rows])


@pytest.mark.parametrize("most", [convolution_rounding._MOST_INPUTS, 0])
def test_convolutions_answer_nearer_than_with_weights_rounded_to_nearest(
    compiled: Build, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """With no inputs allowed only biases are corrected."""
    monkeypatch.setattr(convolution_rounding, "_MOST_INPUTS", most)
    model, rows = convolutions(), pictures(30)
    ours, _ = compiled(model, "int8", rows=rows, ranges="minmax")
    monkeypatch.setattr(Patches, "round_again", lambda self, graph, largest: None)
    nearest, _ = compiled(model, "int8", rows=rows, ranges="minmax")
    near, far = (errors(path, model, rows) for path in (ours, nearest))
    assert np.abs(near.mean(axis=(0, 2, 3))).mean() < 0.5 * np.abs(far.mean(axis=(0, 2, 3))).mean()
    if most:
        assert (near**2).mean() < 0.8 * (far**2).mean()


def test_a_convolution_kept_high_keeps_its_weights_and_bias(compiled: Build) -> None:
    model = convolutions()
    artifact, _ = compiled(model, "int8", rows=pictures(10), keep_high=("wide",))
    stored = {item.name: item for item in onnx.load(artifact / "model.onnx").graph.initializer}
    given = {item.name: item for item in model.graph.initializer}
    for name in ("wide", "shift"):
        assert (
            onnx.numpy_helper.to_array(stored[name]).tobytes()
            == onnx.numpy_helper.to_array(given[name]).tobytes()
        )


def test_the_last_multiplication_answers_in_floats_and_is_int8_still(compiled: Build) -> None:
    artifact, _ = compiled(network(classes=200), "int8", rows=images(10))
    session = open_session(OpenRequest(directory=artifact, precision="int8"))
    answers = np.concatenate([session.run(row)["y"] for row in images(6)])
    assert len(np.unique(answers)) > 2 * 256, "rounded to 8 bits there are 256 numbers"
    rows = {row.precision: row.nodes for row in session.placement().rows}
    assert rows["int8"] >= 3


def test_an_output_that_the_model_reads_too_is_right_in_both_places(compiled: Build) -> None:
    model = network(classes=200)
    floats = onnx.TensorProto.FLOAT
    model.graph.node.append(helper.make_node("Relu", ["y"], ["z"], "again"))
    model.graph.output.append(helper.make_tensor_value_info("z", floats, ["batch", 200]))
    artifact, _ = compiled(model, "int8", rows=images(10))
    session = open_session(OpenRequest(directory=artifact, precision="int8"))
    for row in images(6):
        answers = session.run(row)
        (wanted, _) = ReferenceEvaluator(model).run(None, row)
        spread = np.abs(wanted).max()
        assert np.abs(answers["y"] - wanted).max() < 0.05 * spread
        assert np.abs(answers["z"] - np.maximum(answers["y"], 0)).max() < 0.01 * spread


def test_ranges_of_convolutions_leave_out_what_costs_more_than_it_gives(compiled: Build) -> None:
    _, said = compiled(network(), "int8", rows=images(10))
    assert "ranges by mse" in said.notes[0]
    values = np.append(np.random.default_rng(1).normal(size=100_000), 12.0)
    low, high = least_error(float(values.min()), 12.0, *np.histogram(values, 2048, range=(-12, 12)))
    assert high < 0.95 * 12 and low < 0
    even = np.random.default_rng(1).uniform(-1, 1, 100_000)
    assert least_error(-1.0, 1.0, *np.histogram(even, 2048, range=(-1, 1))) == (-1.0, 1.0)
