"""The kit's own models: sound ONNX, the same every time, and truly of the sizes they claim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from edgekit.testing.families import ALL, case
from edgekit.testing.models import USUAL, ModelCase

every_model = pytest.mark.parametrize("model", ALL, ids=lambda model: model.name)


@every_model
def test_a_model_is_the_same_every_time(model: ModelCase) -> None:
    assert model.build().SerializeToString() == model.build().SerializeToString()
    first, again, other = model.feeds(1), model.feeds(1), model.feeds(2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


@every_model
def test_feeds_and_answers_fit_the_signature(model: ModelCase) -> None:
    for sizes in ({}, {"batch": 1, "sequence": 3}):
        feeds = model.feeds(3, sizes)
        answers = model.answers(feeds)
        for specs, arrays in ((model.inputs, feeds), (model.outputs, answers)):
            assert list(arrays) == [spec.name for spec in specs]
            for spec in specs:
                shape = [{**USUAL, **sizes}.get(str(axis), axis) for axis in spec.shape]
                assert (arrays[spec.name].dtype.name, list(arrays[spec.name].shape)) == (spec.dtype, shape)


@every_model
def test_the_file_holds_the_model(model: ModelCase, tmp_path: Path) -> None:
    path = model.write(tmp_path)
    onnx.checker.check_model(path)
    assert {found.name for found in tmp_path.iterdir()} == {"model.onnx"} | (
        {"model.onnx.data"} if model.external else set()
    )
    feeds = model.feeds(1)
    got = ReferenceEvaluator(onnx.load(path)).run(None, feeds)
    for value, right in zip(got, model.answers(feeds).values(), strict=True):
        np.testing.assert_array_equal(value, right)


def test_padding_matters_to_attention() -> None:
    model = case("attention")
    feeds = model.feeds(1)
    assert not feeds["mask"].all()
    whole = model.answers({**feeds, "mask": np.ones_like(feeds["mask"])})["y"]
    padded = model.answers(feeds)["y"]
    assert np.array_equal(whole[0], padded[0])
    assert not np.allclose(whole[1:], padded[1:], rtol=1e-2)


def test_the_models_hold_what_they_are_for() -> None:
    assert any("" in node.input for node in case("odd-names").build().graph.node)
    assert any(spec.shape == () for spec in case("several-inputs").inputs)
    assert not case("fixed").axes()
    assert {found.name for found in ALL if found.quantizable} == {"mlp", "conv", "attention"}
