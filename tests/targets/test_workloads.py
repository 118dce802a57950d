"""A size for every symbolic axis of the model, and no size for an axis that it lacks."""

from __future__ import annotations

import pytest

from edgekit.errors import TargetFileError, UsageError
from edgekit.targets import apply_workload, load_target, refuse_beyond, shape_text, workload_shapes
from edgekit.values import Workload
from edgekit_runtime.values import Signature, TensorSpec
from tests.targets.conftest import Write


def _shape(workload: Workload, signature: Signature) -> dict[str, int]:
    return dict(workload_shapes(workload, signature).largest)


def signature(*shapes: tuple[int | str, ...]) -> Signature:
    inputs = tuple(TensorSpec(name=f"in{n}", dtype="int64", shape=shape) for n, shape in enumerate(shapes))
    return Signature(
        inputs=inputs, outputs=(TensorSpec(name="out", dtype="float32", shape=("batch", "other")),)
    )


def test_the_known_axes_take_their_own_keys_in_the_models_order() -> None:
    text = signature(("batch", "sequence"), ("batch", "sequence"))
    assert list(_shape(Workload(sequence=64), text).items()) == [("batch", 1), ("sequence", 64)]
    image = signature(("batch", 3, "height", "width"))
    assert _shape(Workload(batch=2), image) == {"batch": 2, "height": 224, "width": 224}
    assert _shape(Workload(), signature(("samples",))) == {"samples": 16000}


def test_a_model_of_fixed_shape_needs_no_size() -> None:
    assert _shape(Workload(), signature((1, 3, 224, 224))) == {}


def test_other_axes_take_their_size_from_the_table() -> None:
    assert _shape(Workload(axes={"frames": 7}), signature(("batch", "frames"))) == {
        "batch": 1,
        "frames": 7,
    }


def test_a_size_for_an_axis_that_the_model_lacks_is_refused_with_the_nearest() -> None:
    with pytest.raises(TargetFileError, match=r"`frame`.*\n.*did you mean 'frames'"):
        _shape(Workload(axes={"frame": 7}), signature(("batch", "frames")))
    with pytest.raises(TargetFileError, match="no symbolic axis"):
        _shape(Workload(axes={"frame": 7}), signature((1, 2)))


def test_an_axis_without_a_size_is_told_where_to_add_it() -> None:
    with pytest.raises(TargetFileError, match=r"`frames` of the model's input `in1`.*\n.*add `frames = "):
        _shape(Workload(), signature(("batch",), ("frames",)))
    with pytest.raises(TargetFileError, match=r'add `"past \+ 1" = '):
        _shape(Workload(), signature(("past + 1",)))


def test_an_axis_without_a_name_cannot_be_given_a_size() -> None:
    with pytest.raises(TargetFileError, match="without a name"):
        _shape(Workload(), signature(("?", 3)))


TEXT = signature(("batch", "sequence"), ("batch", "sequence"))


def test_a_mix_holds_each_shape_in_full_and_knows_the_largest() -> None:
    mix = workload_shapes(Workload(batch=2, shapes=({"sequence": 16}, {"sequence": 8, "batch": 9})), TEXT)
    assert mix.shapes == ({"batch": 2, "sequence": 16}, {"batch": 9, "sequence": 8})
    assert (mix.source, mix.largest) == ("shapes", {"batch": 9, "sequence": 8})
    assert _shape(Workload(shapes=({"sequence": 4}, {"sequence": 5})), TEXT)["sequence"] == 5


def test_one_shape_and_rows_are_told_apart() -> None:
    assert workload_shapes(Workload(), TEXT).source == "shape"
    assert workload_shapes(Workload(shapes=({"sequence": 7},)), TEXT).source == "shape"
    data = workload_shapes(Workload(from_data=True), TEXT)
    assert (data.source, data.shapes) == ("data", ({"batch": 1, "sequence": 128},))


def test_a_shape_of_a_mix_may_not_name_an_axis_that_the_model_lacks() -> None:
    with pytest.raises(TargetFileError, match=r"shape 2 .* `height`, an axis that the model lacks"):
        workload_shapes(Workload(shapes=({"sequence": 4}, {"height": 5})), TEXT)
    with pytest.raises(TargetFileError, match=r"`sequenze`.*\n.*did you mean 'sequence'"):
        workload_shapes(Workload(shapes=({"sequenze": 4},)), TEXT)
    with pytest.raises(TargetFileError, match="no symbolic axis"):
        workload_shapes(Workload(shapes=({"sequence": 4},)), signature((1, 2)))


def test_a_shape_that_comes_twice_in_a_mix_is_refused() -> None:
    with pytest.raises(TargetFileError, match="shapes 1 and 3 of the workload are both batch 1, sequence 4"):
        workload_shapes(
            Workload(shapes=({"sequence": 4}, {"sequence": 5}, {"batch": 1, "sequence": 4})), TEXT
        )


def test_inputs_that_no_launch_could_hold_are_refused_before_anything_runs() -> None:
    with pytest.raises(TargetFileError, match=r"`in0` has 100000 x 100000 elements"):
        workload_shapes(Workload(batch=100_000, sequence=100_000), TEXT)
    with pytest.raises(TargetFileError, match="elements"):
        workload_shapes(Workload(shapes=({"sequence": 4}, {"sequence": 2**30})), TEXT)


@pytest.mark.parametrize(
    ("lines", "key", "told"),
    [
        ("shapes = [{sequence = 0}]", "workload.shapes[0].sequence", "1 to 2147483647"),
        ("shapes = [{sequence = 4}, {}]", "workload.shapes[1]", "is empty"),
        ("shapes = [{' ' = 4}]", "workload.shapes[0]", "no name of an axis"),
        (
            f"shapes = [{', '.join(f'{{sequence = {n}}}' for n in range(1, 18))}]",
            "workload.shapes",
            "at most 16",
        ),
        ("from_data = true\nshapes = [{sequence = 4}]", "workload.from_data", "gives shapes too"),
        ("from_data = true\nbatch = 2", "workload.batch", "one by one"),
        ("streams = 0", "workload.streams", "1 to 64"),
        ("streams = 65", "workload.streams", "1 to 64"),
        ("heat_seconds = -1", "workload.heat_seconds", "0 to 3600"),
        ("heat_seconds = nan", "workload.heat_seconds", "0 to 3600"),
        ("heat_seconds = 1e9", "workload.heat_seconds", "0 to 3600"),
        ("shapes = 4", "workload.shapes", "array"),
        ("shapes = [{sequence = 'long'}]", "workload.shapes[0]", "int"),
        ("streams = 1.5", "workload.streams", "int"),
        ("stream = 2", "workload.stream", "did you mean 'streams'"),
    ],
)
def test_a_use_that_makes_no_sense_is_refused_by_its_key(
    write: Write, lines: str, key: str, told: str
) -> None:
    path = write(f"[workload]\n{lines}")
    with pytest.raises(TargetFileError) as caught:
        load_target(path)
    assert key in str(caught.value) and told in str(caught.value)


def test_a_target_file_holds_a_mix_streams_and_heat(write: Write) -> None:
    path = write("[workload]\nshapes = [{sequence = 16}, {sequence = 128}]\nstreams = 4\nheat_seconds = 60")
    workload = load_target(path).workload
    assert workload == Workload(shapes=({"sequence": 16}, {"sequence": 128}), streams=4, heat_seconds=60.0)
    child = write(f'extends = "{path}"\n[workload]\nshapes = []\nfrom_data = true', "child")
    assert load_target(child).workload == Workload(from_data=True, streams=4, heat_seconds=60.0)


def test_the_command_line_goes_before_the_target_and_keeps_what_it_leaves_open() -> None:
    given = Workload(batch=3, sequence=9, streams=2, heat_seconds=5.0)
    assert apply_workload(given, ()) == given
    one = apply_workload(given, ["sequence=128"])
    assert workload_shapes(one, TEXT).shapes == ({"batch": 3, "sequence": 128},)
    assert (one.streams, one.heat_seconds) == (2, 5.0)
    mix = apply_workload(given, ["sequence=16, batch=1", "sequence=128", "streams=4,heat_seconds=0.5"])
    assert workload_shapes(mix, TEXT).shapes == (
        {"batch": 1, "sequence": 16},
        {"batch": 3, "sequence": 128},
    )
    assert (mix.streams, mix.heat_seconds) == (4, 0.5)
    assert apply_workload(mix, ["data"]) == Workload(
        batch=1, sequence=9, from_data=True, streams=4, heat_seconds=0.5
    )
    assert not apply_workload(Workload(from_data=True), ["sequence=4"]).from_data
    assert apply_workload(Workload(from_data=True), ["streams=2"]) == Workload(from_data=True, streams=2)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["sequence"], "not name=number"),
        (["sequence="], "not name=number"),
        ([""], "not name=number"),
        (["=4"], "not name=number"),
        (["sequence=4,,batch=2"], "not name=number"),
        (["sequence=four"], "not a whole number"),
        (["sequence=1.5"], "not a whole number"),
        (["sequence=٤"], "not a whole number"),
        (["sequence=" + "9" * 5000], "not a whole number"),
        (["sequence=99999999999"], "1 to 2147483647"),
        (["sequence=0"], "1 to 2147483647"),
        (["sequence=-4"], "1 to 2147483647"),
        (["sequence=4,sequence=5"], "given twice"),
        (["streams=2", "streams=3"], "given twice"),
        (["streams=two"], "not a whole number"),
        (["streams=0"], "1 to 64"),
        (["heat_seconds=hot"], "not a number"),
        (["heat_seconds=inf"], "0 to 3600"),
        (["data", "sequence=4"], "both a shape and `data`"),
        (["data,sequence=4"], "both a shape and `data`"),
    ],
)
def test_a_workload_that_cannot_be_read_is_a_usage_error_with_a_hint(given: list[str], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        apply_workload(Workload(), given)
    assert told in str(caught.value) and "--workload" in caught.value.message and caught.value.hint


def test_a_shape_reads_as_words() -> None:
    assert shape_text({"batch": 1, "sequence": 16}) == "batch 1, sequence 16"


def test_a_size_that_the_model_cannot_take_is_refused_with_the_nearest_it_can() -> None:
    found = workload_shapes(Workload(sequence=128), TEXT)
    refuse_beyond(found, {"batch": (1, None), "sequence": (1, 128)})
    with pytest.raises(TargetFileError, match=r"sequence 128, and the model takes 1 to 66") as refused:
        refuse_beyond(found, {"sequence": (1, 66)})
    assert "--workload sequence=66" in refused.value.hint
    with pytest.raises(TargetFileError, match="takes 200 to any"):
        refuse_beyond(found, {"sequence": (200, None)})
