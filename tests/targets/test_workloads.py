"""A size for every symbolic axis of the model, and no size for an axis that it lacks."""

from __future__ import annotations

import pytest

from edgekit.errors import TargetFileError
from edgekit.targets import workload_shape
from edgekit.values import Workload
from edgekit_runtime.values import Signature, TensorSpec


def signature(*shapes: tuple[int | str, ...]) -> Signature:
    inputs = tuple(TensorSpec(name=f"in{n}", dtype="int64", shape=shape) for n, shape in enumerate(shapes))
    return Signature(
        inputs=inputs, outputs=(TensorSpec(name="out", dtype="float32", shape=("batch", "other")),)
    )


def test_the_known_axes_take_their_own_keys_in_the_models_order() -> None:
    text = signature(("batch", "sequence"), ("batch", "sequence"))
    assert list(workload_shape(Workload(sequence=64), text).items()) == [("batch", 1), ("sequence", 64)]
    image = signature(("batch", 3, "height", "width"))
    assert workload_shape(Workload(batch=2), image) == {"batch": 2, "height": 224, "width": 224}
    assert workload_shape(Workload(), signature(("samples",))) == {"samples": 16000}


def test_a_model_of_fixed_shape_needs_no_size() -> None:
    assert workload_shape(Workload(), signature((1, 3, 224, 224))) == {}


def test_other_axes_take_their_size_from_the_table() -> None:
    assert workload_shape(Workload(axes={"frames": 7}), signature(("batch", "frames"))) == {
        "batch": 1,
        "frames": 7,
    }


def test_a_size_for_an_axis_that_the_model_lacks_is_refused_with_the_nearest() -> None:
    with pytest.raises(TargetFileError, match=r"`frame`.*\n.*did you mean 'frames'"):
        workload_shape(Workload(axes={"frame": 7}), signature(("batch", "frames")))
    with pytest.raises(TargetFileError, match="no symbolic axis"):
        workload_shape(Workload(axes={"frame": 7}), signature((1, 2)))


def test_an_axis_without_a_size_is_told_where_to_add_it() -> None:
    with pytest.raises(TargetFileError, match=r"`frames` of the model's input `in1`.*\n.*add `frames = "):
        workload_shape(Workload(), signature(("batch",), ("frames",)))
    with pytest.raises(TargetFileError, match=r'add `"past \+ 1" = '):
        workload_shape(Workload(), signature(("past + 1",)))


def test_an_axis_without_a_name_cannot_be_given_a_size() -> None:
    with pytest.raises(TargetFileError, match="without a name"):
        workload_shape(Workload(), signature(("?", 3)))
