"""Feeds that do not fit are refused with the input's name; made-up feeds always fit."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit_runtime.errors import InputError
from edgekit_runtime.signatures import check_feeds, example_feeds
from edgekit_runtime.values import Signature, TensorSpec

TEXT = Signature(
    inputs=(
        TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence")),
        TensorSpec(name="attention_mask", dtype="int64", shape=("batch", "sequence")),
        TensorSpec(name="scale", dtype="float32", shape=(2,)),
    ),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 2)),),
)


def feeds(**changed: object) -> dict[str, np.ndarray]:
    good: dict[str, object] = {
        "input_ids": np.ones((2, 5), np.int64),
        "attention_mask": np.ones((2, 5), np.int64),
        "scale": np.ones(2, np.float32),
    }
    return {name: value for name, value in (good | changed).items() if value is not None}  # type: ignore[misc]


def test_feeds_that_fit_are_taken() -> None:
    check_feeds(TEXT, feeds())
    check_feeds(TEXT, feeds(input_ids=np.ones((2, 10), np.int64)[:, ::2]))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"scale": None}, "input 'scale' is missing"),
        ({"input_id": np.ones(1)}, "no input 'input_id'"),
        ({"input_ids": [[1, 2]]}, "input 'input_ids' is a list"),
        (
            {"input_ids": np.ones((2, 5), np.int32)},
            "input 'input_ids' has dtype int32; the model takes int64",
        ),
        ({"input_ids": np.ones(5, np.int64)}, r"input 'input_ids' has shape \[5\]"),
        ({"scale": np.ones(3, np.float32)}, r"input 'scale' has shape \[3\]; the model takes \[2\]"),
        (
            {"attention_mask": np.ones((2, 4), np.int64)},
            "'attention_mask': axis 'sequence' is 4, but it is 5 in input 'input_ids'",
        ),
    ],
)
def test_feeds_that_do_not_fit_are_refused_by_name(changed: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        check_feeds(TEXT, feeds(**changed))


def test_a_misspelt_input_is_told_the_nearest_name() -> None:
    with pytest.raises(InputError) as caught:
        check_feeds(TEXT, feeds(input_id=np.ones(1)))
    assert caught.value.hint == "did you mean 'input_ids'?"


def test_made_up_feeds_fit_the_signature_and_agree_on_its_axes() -> None:
    candidates = list(example_feeds(TEXT))
    assert len(candidates) == 2
    for made in candidates:
        check_feeds(TEXT, made)
    assert (candidates[0]["input_ids"] == 1).all()
    assert (candidates[1]["input_ids"] == 0).all()
