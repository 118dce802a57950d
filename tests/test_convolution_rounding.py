"""Promises of how int8 weights of convolutions are chosen."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

from edgekit.api import Convolution, ConvolutionInputs
from edgekit.convolution_rounding import rounded


def smooth_rows(count: int, channels: int, size: int) -> list[np.ndarray]:
    """Maps whose neighbouring places are much alike."""
    draw = np.random.default_rng(3)
    return [
        np.kron(draw.uniform(0, 1, (1, channels, size // 4, size // 4)), np.ones((4, 4))).astype(np.float32)
        for _ in range(count)
    ]


def convolved(convolution: Convolution, weight: np.ndarray, value: np.ndarray) -> np.ndarray:
    node = helper.make_node(
        "Conv",
        ["x", "w"],
        ["y"],
        group=convolution.groups,
        strides=list(convolution.strides),
        dilations=list(convolution.dilations),
        pads=list(convolution.pads),
    )
    floats = onnx.TensorProto.FLOAT
    ports = [helper.make_tensor_value_info(name, floats, None) for name in "xwy"]
    graph = helper.make_graph([node], "one", ports[:2], ports[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    (found,) = ReferenceEvaluator(model).run(None, {"x": value, "w": weight.astype(np.float32)})
    return np.asarray(found)


def test_errors_of_weights_cancel_on_inputs_that_are_alike() -> None:
    draw = np.random.default_rng(2)
    weight = draw.normal(size=(2, 4, 9)).astype(np.float32)
    scale = np.abs(weight).max(axis=2) / 127
    alike = np.ones((9, 9)) + 0.05 * np.eye(9)
    covariance = np.stack([alike, alike]).astype(np.float32)
    nearest = np.rint(weight / scale[:, :, None])
    lost = []
    for found in (nearest, rounded(weight, scale, covariance, 127)):
        left = weight - found * scale[:, :, None]
        lost.append(float(np.einsum("goi,gij,goj->", left, covariance, left)))
        assert np.abs(found).max() <= 127
    assert lost[1] < 0.3 * lost[0]


@given(
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 1)] * 4),
)
def test_of_any_convolution_the_bias_that_is_lost_is_the_mean_error_of_its_output(
    groups: int,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> None:
    """The map is small enough that each place of the output is looked at."""
    draw = np.random.default_rng(5)
    convolution = Convolution(
        weight=draw.normal(size=(8, 4 // groups, *kernel)).astype(np.float32),
        groups=groups,
        strides=strides,
        dilations=dilations,
        pads=pads,
    )
    value = draw.uniform(0, 1, (2, 4, 5, 6)).astype(np.float32)
    inputs = ConvolutionInputs(convolution)
    inputs.take(value, 0)
    scale = (np.abs(convolution.weight).reshape(8, -1).max(axis=1) / 7).astype(np.float32)
    spread = scale[:, None, None, None]
    stored = np.rint(convolution.weight / spread).astype(np.int8)
    error = convolved(convolution, convolution.weight, value) - convolved(convolution, stored * spread, value)
    assert inputs.lost(stored, scale) == pytest.approx(error.mean(axis=(0, 2, 3)), abs=1e-4)


@pytest.mark.parametrize("groups", [1, 8])
def test_weights_answer_nearer_on_rows_to_come_than_those_rounded_to_nearest(groups: int) -> None:
    draw = np.random.default_rng(6)
    weight = draw.normal(size=(16, 8 // groups, 3, 3)).astype(np.float32)
    convolution = Convolution(weight=weight, groups=groups, pads=(1, 1, 1, 1))
    rows = smooth_rows(40, 8, 20)
    inputs = ConvolutionInputs(convolution)
    for number, value in enumerate(rows[:30]):
        inputs.take(value, number)
    scale = (np.abs(weight).reshape(16, -1).max(axis=1) / 127).astype(np.float32)
    spread = scale[:, None, None, None]
    nearest = np.rint(weight / spread).astype(np.int8)
    again = inputs.round_again(nearest, scale, 127)
    assert again.dtype == np.int8 and again.shape == weight.shape
    errors = []
    for stored in (nearest, again):
        shift = inputs.lost(stored, scale)[:, None, None]
        off = [
            convolved(convolution, stored * spread, row) + shift - convolved(convolution, weight, row)
            for row in rows[30:]
        ]
        errors.append(float(np.square(off).mean()))
    assert errors[1] < 0.7 * errors[0]


def test_too_few_places_change_no_weight() -> None:
    weight = np.random.default_rng(7).normal(size=(4, 8, 3, 3)).astype(np.float32)
    inputs = ConvolutionInputs(Convolution(weight=weight))
    inputs.take(np.ones((1, 8, 4, 4), np.float32), 0)
    scale = np.full(4, 0.05, np.float32)
    nearest = np.clip(np.rint(weight / 0.05), -127, 127).astype(np.int8)
    assert inputs.round_again(nearest, scale, 127) is nearest
