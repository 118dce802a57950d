"""Which sizes an engine takes: from the option, the workload and the model's own axes."""

from __future__ import annotations

import pytest
from onnx import helper

from edgekit.api import CompileFailed, Signature, TensorSpec
from edgekit.values import Workload
from edgekit_tensorrt.description import InputRange, read_description
from edgekit_tensorrt.profiles import AxisRange, narrowed, of_inputs, plan_profiles, shown, unsized_axes

from .conftest import Build, target
from .models import cnn, info, make, minilm_like, weights

TEXT = Signature(
    inputs=tuple(
        TensorSpec(name=name, dtype="int64", shape=("batch", "sequence")) for name in ("ids", "mask")
    ),
    outputs=(),
)


def ranges(*axes: tuple[int, int, int]) -> list[AxisRange]:
    return [AxisRange(least=least, best=best, most=most) for least, best, most in axes]


def test_the_usual_profile_is_wide_and_best_at_the_workload() -> None:
    (only,) = plan_profiles("auto", TEXT, target(workload=Workload(sequence=128)))
    assert list(only.values()) == ranges((1, 1, 8), (1, 128, 512))
    assert shown(only) == "batch 1 to 8, best at 1; sequence 1 to 512, best at 128"


def test_a_workload_beyond_the_usual_is_within_the_profile() -> None:
    (only,) = plan_profiles("auto", TEXT, target(workload=Workload(batch=32, sequence=2048)))
    assert list(only.values()) == ranges((1, 32, 32), (1, 2048, 2048))


def test_each_shape_of_a_mix_has_a_profile_of_its_own_before_the_wide_one() -> None:
    mix = Workload(shapes=({"sequence": 16}, {"sequence": 256, "batch": 4}, {"sequence": 16}))
    first, second, wide = plan_profiles("auto", TEXT, target(workload=mix))
    assert list(first.values()) == ranges((1, 1, 1), (16, 16, 16))
    assert list(second.values()) == ranges((4, 4, 4), (256, 256, 256))
    assert list(wide.values()) == ranges((1, 4, 8), (1, 256, 512))


def test_what_is_known_of_the_model_limits_the_wide_profile() -> None:
    known = {"batch": (1, None), "sequence": (2, 96)}
    (only,) = plan_profiles("auto", TEXT, target(), known)
    assert list(only.values()) == ranges((1, 1, 8), (2, 32, 96))
    (only,) = plan_profiles("auto", TEXT, target(), {"sequence": (1, 8192)})
    assert only["sequence"].most == 512


def test_a_workload_that_the_model_does_not_take_is_refused_in_the_librarys_words(compiled: Build) -> None:
    with pytest.raises(CompileFailed, match="violate shape constraints") as caught:
        compiled(minilm_like(layers=1), workload=Workload(sequence=128))
    assert "[workload]" in caught.value.hint


def test_workload_takes_its_sizes_alone() -> None:
    (only,) = plan_profiles("workload", TEXT, target(workload=Workload(sequence=128)))
    assert list(only.values()) == ranges((1, 1, 1), (128, 128, 128))
    assert shown(only) == "batch 1; sequence 128"


def test_profiles_that_are_given_are_taken_as_they_are() -> None:
    text = "batch=1:1:1,sequence=1:16:32; sequence = 33:128:512 , batch=1:2:4"
    first, second = plan_profiles(text, TEXT, target())
    assert [first["batch"], first["sequence"]] == ranges((1, 1, 1), (1, 16, 32))
    assert [second["batch"], second["sequence"]] == ranges((1, 2, 4), (33, 128, 512))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("many", "'many' is not AXIS=MIN:BEST:MAX"),
        ("batch=1:1", "'batch=1:1' is not"),
        ("batch=1:1:8", "no sizes for sequence"),
        ("batch=1:1:8,sequence=9:8:7", "'sequence=9:8:7' is not in order"),
        ("batch=1:1:8,lenght=1:2:3", "'lenght' is no axis of the model"),
        ("batch=1:1:8,batch=1:1:8", "'batch' is given twice"),
        ("", "'' is not AXIS=MIN:BEST:MAX"),
    ],
)
def test_words_that_are_no_profile_are_refused(text: str, words: str) -> None:
    with pytest.raises(CompileFailed, match=words):
        plan_profiles(text, TEXT, target())


def test_an_axis_that_the_workload_does_not_know_is_told() -> None:
    decoder = Signature(
        inputs=(
            TensorSpec(name="ids", dtype="int64", shape=("batch", "tokens")),
            TensorSpec(name="past.0.key", dtype="float32", shape=("batch", 6, "past", 64)),
        ),
        outputs=(),
    )
    assert unsized_axes(decoder, target()) == ("tokens", "past")
    (only,) = plan_profiles("auto", decoder, target())
    # Nothing is cached before the first token.
    assert only["past"] == AxisRange(least=0, best=16, most=512)
    sized = target(workload=Workload(axes={"tokens": 1, "past": 100}))
    assert unsized_axes(decoder, sized) == ()
    assert of_inputs(plan_profiles("workload", decoder, sized)[0], decoder).ranges == (
        InputRange(name="ids", smallest=(1, 1), usual=(1, 1), largest=(1, 1)),
        InputRange(
            name="past.0.key", smallest=(1, 6, 100, 64), usual=(1, 6, 100, 64), largest=(1, 6, 100, 64)
        ),
    )


def test_a_model_of_one_shape_has_no_profile_and_takes_none() -> None:
    fixed = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=(1, 3)),), outputs=())
    assert plan_profiles("auto", fixed, target()) == ()
    with pytest.raises(CompileFailed, match="no symbolic axis"):
        plan_profiles("batch=1:1:8", fixed, target())


def test_ranges_are_halved_and_doubled_towards_the_best_and_no_further() -> None:
    found = {"batch": AxisRange(least=1, best=1, most=8), "samples": AxisRange(least=1, best=3, most=20)}
    most, tries = found, []
    while (smaller := narrowed(most, lower=False)) is not None:
        most = dict(smaller)
        tries.append(most["samples"].most)
    assert tries == [10, 5, 3]
    assert most["batch"].most == 8
    least, tries = found, []
    while (smaller := narrowed(least, lower=True)) is not None:
        least = dict(smaller)
        tries.append(least["samples"].least)
    assert tries == [2, 3]


def test_the_wide_profile_shrinks_to_what_the_library_finds_that_the_model_takes(compiled: Build) -> None:
    artifact, said = compiled(minilm_like(layers=1), axes={})  # 64 positions, where 512 tokens are usual
    (profile,) = read_description(artifact).profiles
    assert profile.ranges[0] == InputRange(name="input_ids", smallest=(1, 1), usual=(1, 32), largest=(8, 64))
    assert "takes batch 1 to 8, best at 1; sequence 1 to 64, best at 32" in said.notes


def test_the_wide_profile_grows_from_below_to_what_the_model_takes(compiled: Build) -> None:
    kernel = 9
    model = make(
        [helper.make_node("Conv", ["wave", "k"], ["y"], "conv")],
        [info("wave", "batch", 1, "samples")],
        [info("y", "batch", 4, "frames")],
        [weights("k", 4, 1, kernel)],
    )
    artifact, _ = compiled(model, workload=Workload(samples=100))
    (profile,) = read_description(artifact).profiles
    assert profile.ranges[0].smallest == (1, 1, 8)  # of which nothing is left: no frame


def test_sizes_that_are_given_and_contradict_the_model_are_refused_in_the_librarys_words(
    compiled: Build,
) -> None:
    with pytest.raises(CompileFailed, match=r"largest sizes .*65 != 64|largest sizes .*64") as caught:
        compiled(minilm_like(layers=1), profiles="batch=1:1:1,sequence=1:32:65")
    assert "profiles" in caught.value.hint


def test_several_profiles_are_built_into_one_engine(compiled: Build) -> None:
    mix = Workload(shapes=({"batch": 1}, {"batch": 4}))
    artifact, said = compiled(cnn(), workload=mix)
    found = read_description(artifact).profiles
    assert [profile.ranges[0].largest[0] for profile in found] == [1, 4, 8]
    assert [note for note in said.notes if note.startswith("takes")] == [
        "takes batch 1",
        "takes batch 4",
        "takes batch 1 to 8, best at 4",
    ]
