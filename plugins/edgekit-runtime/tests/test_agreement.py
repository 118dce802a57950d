"""The judge of goldens: the same answers agree, a wrong model never does."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit_runtime.agreement import (
    INCOMPARABLE,
    MAX_OTHERWISE,
    MIN_COSINE,
    GoldenJudgement,
    compare,
    judge_goldens,
)
from edgekit_runtime.answers import KINDS
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.goldens import Golden
from edgekit_runtime.session import Array
from edgekit_runtime.values import PRECISIONS, Tolerance

TOLERANCE = Tolerance(atol=1e-4, rtol=1e-4)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ANY_SHAPE = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
DOUBLES = hnp.arrays(np.float64, ANY_SHAPE, elements=FLOATS)
NUMBERS = DOUBLES | hnp.arrays(st.sampled_from((np.int64, np.uint8, np.bool_)), ANY_SHAPE)
LOGITS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(2, 5)), elements=st.floats(-20, 20, width=32)
)


def judge(
    expected: object,
    got: object,
    *,
    kind: str = "classification",
    precision: str = "fp32",
    tolerance: Tolerance = TOLERANCE,
) -> GoldenJudgement:
    return judge_goldens(
        [Golden(name="case", feeds={}, outputs={"logits": np.asarray(expected)})],
        [{"logits": np.asarray(got)}],
        kind=kind,
        precision=precision,
        tolerance=tolerance,
    )


@given(NUMBERS, st.sampled_from(PRECISIONS))
def test_identical_outputs_always_agree(array: Array, precision: str) -> None:
    judged = judge(array, array.copy(), kind="tensor", precision=precision)
    assert judged.passed, judged.reason
    assert (judged.agreeing, judged.max_abs_error, judged.min_cosine) == (1, 0.0, 1.0)


@given(LOGITS, st.sampled_from(PRECISIONS))
def test_identical_logits_always_agree(logits: Array, precision: str) -> None:
    assert judge(logits, logits.copy(), precision=precision).passed


@given(
    LOGITS,
    st.sampled_from((math.nan, math.inf, -math.inf)),
    st.sampled_from(PRECISIONS),
    st.sampled_from(tuple(KINDS)),
)
def test_values_that_are_not_finite_never_agree(
    logits: Array, value: float, precision: str, kind: str
) -> None:
    broken = logits.copy()
    broken.flat[-1] = value
    for expected, got in ((logits, broken), (broken, logits), (broken, broken)):
        judged = judge(expected, got, kind=kind, precision=precision)
        assert not judged.passed
        assert judged.agreeing == 0
        assert "finite" in judged.reason
        assert math.isfinite(judged.max_abs_error), "a report is JSON, which has no infinity"


@given(NUMBERS, st.data())
def test_comparing_is_symmetric(a: Array, data: st.DataObject) -> None:
    b = data.draw(hnp.arrays(a.dtype, a.shape, elements=FLOATS if a.dtype.kind == "f" else None))
    assert compare(a, b) == compare(b, a)
    assert -1.0 <= compare(a, b).cosine <= 1.0
    assert (compare(a, b).max_abs_error == 0.0) == np.array_equal(a, b)


@given(hnp.arrays(np.float64, (5,), elements=st.integers(-1000, 1000)), st.floats(1e-3, 1e3))
def test_the_cosine_does_not_depend_on_the_scale(vector: Array, scale: float) -> None:
    other = vector + 1.0
    assert compare(vector, other).cosine == pytest.approx(
        compare(vector * scale, other * scale).cosine, abs=1e-9
    )


def test_huge_and_tiny_values_neither_overflow_nor_vanish() -> None:
    assert compare(np.array([1e308, -1e308]), np.array([-1e308, 1e308])).cosine == pytest.approx(-1.0)
    assert compare(np.array([1e-320, 0.0]), np.array([1e-320, 1e-322])).cosine == pytest.approx(1.0, abs=1e-2)
    assert compare(np.zeros(3), np.array([0.0, 1e-9, 0.0])).cosine == 0.0
    assert compare(np.array(2**62), np.array(2**62 + 1)).max_abs_error == 1.0


@pytest.mark.parametrize(
    "got", [np.ones((2, 3)), np.ones(6), np.ones((3, 2), np.complex64), np.array([["a", "b"]] * 3)]
)
def test_other_shapes_and_kinds_cannot_be_compared(got: Array) -> None:
    compared = compare(np.ones((3, 2)), got)
    assert (compared.max_abs_error, compared.cosine) == (INCOMPARABLE, -1.0)
    assert not judge(np.ones((3, 2)), got).passed


@given(hnp.arrays(np.float64, (2, 3), elements=st.floats(-10, 10)), st.floats(-1, 1))
def test_fp32_tensors_agree_exactly_up_to_the_tolerance(expected: Array, share: float) -> None:
    allowed = TOLERANCE.atol + TOLERANCE.rtol * np.abs(expected)
    assert judge(expected, expected + 0.999 * share * allowed, kind="tensor").passed
    beyond = expected.copy()
    beyond[1, 1] += 1.01 * allowed[1, 1]
    judged = judge(expected, beyond, kind="tensor")
    assert not judged.passed
    assert "1 of 6 values differ" in judged.reason


def test_fp32_may_change_only_choices_that_the_tolerance_leaves_open() -> None:
    """Two numbers that are each off by the tolerance may change places; a wider lead may not be lost."""
    assert judge([[1.0, 1.00005]], [[1.00005, 1.0]]).passed
    coarse = Tolerance(atol=1e-4, rtol=1.0)
    judged = judge([[-1.0, -10.0]], [[-2.0, -0.5]], tolerance=coarse)
    assert not judged.passed
    assert "another class wins in 1 of 1 choices" in judged.reason
    assert judged.reason.endswith("first at [0]")
    assert judge([[-1.0, -10.0]], [[-2.0, -0.5]], tolerance=coarse, kind="tensor").passed


def test_an_exact_tie_of_the_original_may_be_broken_either_way() -> None:
    tie = np.array([[0.5, 0.5, 0.1]])
    assert judge(tie, tie + np.array([0, 1e-5, 0])).passed
    assert judge(tie, tie + np.array([1e-5, 0, 0])).passed


@given(st.floats(0.0, 1.2), st.sampled_from(("int8", "bf16", "fp16")))
def test_a_lower_precision_is_held_to_the_answers_the_original_is_sure_of(gap: float, precision: str) -> None:
    """A margin of 0.2 between two probabilities is a gap of ln(0.6 / 0.4) = 0.405 between logits."""
    others = np.tile([[9.0, -9.0]], (200, 1))
    expected = np.concatenate([others, [[gap, 0.0]]])
    flipped = np.concatenate([others, [[0.0, gap]]])
    judged = judge(expected, flipped, precision=precision)
    sure = 1 / (1 + math.exp(-gap)) - 1 / (1 + math.exp(gap)) > 0.2
    assert judged.min_cosine > MIN_COSINE["fp16"]
    assert judged.passed is not sure


@pytest.mark.parametrize(("precision", "least"), MIN_COSINE.items())
def test_a_lower_precision_must_point_the_same_way(precision: str, least: float) -> None:
    expected = np.array([[3.0, 0.0]])
    for angle, passes in ((math.acos(least) - 1e-3, True), (math.acos(least) + 1e-3, False)):
        turned = 3.0 * np.array([[math.cos(angle), math.sin(angle)]])
        for kind in ("classification", "tensor"):
            judged = judge(expected, turned, kind=kind, precision=precision)
            assert judged.passed is passes, (kind, judged)
            assert ("cosine" in judged.reason) is not passes


def test_a_wrong_case_does_not_hide_behind_a_big_one() -> None:
    big, small = np.full((1, 4), 1e3), np.array([[1.0, 0.0, 0.0, 0.0]])
    goldens = [Golden(name=str(i), feeds={}, outputs={"y": value}) for i, value in enumerate((big, small))]
    judged = judge_goldens(
        goldens, [{"y": big}, {"y": small[:, ::-1]}], kind="tensor", precision="int8", tolerance=TOLERANCE
    )
    assert (judged.cases, judged.agreeing, judged.passed) == (2, 1, False)
    assert "golden '1'" in judged.reason


def test_a_pass_that_rests_on_little_says_so() -> None:
    judged = judge([[0.1, 0.0]], [[0.1, 0.0]], precision="int8")
    assert judged.passed
    assert "leads by 0.2 in none of its choices" in judged.reason
    assert judge([[2.0, 0.0]], [[2.0, 0.0]], precision="int8").reason == ""


def test_no_goldens_prove_nothing() -> None:
    judged = judge_goldens([], [], kind="tensor", precision="fp32", tolerance=TOLERANCE)
    assert not judged.passed
    assert judged.reason == "there are no goldens"


def test_a_missing_output_is_named() -> None:
    goldens = [Golden(name="c", feeds={}, outputs={"logits": np.ones((1, 2)), "pooled": np.ones(3)})]
    for precision in PRECISIONS:
        judged = judge_goldens(
            goldens,
            [{"logits": np.ones((1, 2))}],
            kind="classification",
            precision=precision,
            tolerance=TOLERANCE,
        )
        assert not judged.passed
        assert "'pooled'" in judged.reason


# --- the choices of every kind ------------------------------------------------------------------------

#: kind -> shapes of outputs with 200 choices, so that 2 % of them are some.
SHAPES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "classification": {"logits": (200, 4)},
    "multi-label": {"logits": (20, 10)},
    "zero-shot": {"logits": (200, 3)},
    "tags": {"logits": (4, 50, 9)},
    "span": {"start_logits": (200, 30), "end_logits": (200, 30)},
    "fill-mask": {"logits": (4, 50, 40)},
    "boxes": {"logits": (2, 100, 6), "pred_boxes": (2, 100, 4)},
    "mask": {"logits": (1, 5, 20, 10)},
    "transcript": {"logits": (2, 100, 12)},
    "number": {"logits": (8, 1)},
    "vector": {"sentence_embedding": (8, 16)},
    "tensor": {"last_hidden_state": (2, 5, 8)},
}
#: Judged token by token, see test_token_agreement.py.
GENERATED = {"text"}
CHOOSING = tuple(sorted(set(SHAPES) - {"number", "vector", "tensor"}))
MANY = tuple(kind for kind in CHOOSING if not KINDS[kind].every)
LOWER = ("fp16", "bf16", "fp8", "int8", "int8-weights", "int4-weights")


def sure_outputs(kind: str, seed: int = 0) -> dict[str, Array]:
    """Outputs in which one class leads every choice by far."""
    random = np.random.default_rng(seed)
    found = {}
    for name, shape in SHAPES[kind].items():
        array = random.normal(size=shape).astype(np.float32)
        if kind == "multi-label":
            array = np.sign(array) * 4 + array
        elif name != "pred_boxes" and kind in CHOOSING:
            classes = by_class(kind, array)
            for place in np.ndindex(classes.shape[:-1]):
                classes[place][random.integers(classes.shape[-1])] = 9.0
        found[name] = array
    return found


def by_class(kind: str, array: Array) -> Array:
    """A view of the array with its classes last."""
    return np.moveaxis(array, 1, -1) if kind == "mask" else array


def flip(kind: str, outputs: Mapping[str, Array], count: int) -> dict[str, Array]:
    """Copies of the outputs in which another class wins in the first `count` choices of one output."""
    flipped = {name: array.copy() for name, array in outputs.items()}
    name = "end_logits" if kind == "span" else "logits"
    if kind == "multi-label":
        flipped[name].flat[:count] *= -1
        return flipped
    classes = by_class(kind, flipped[name])
    for place in list(np.ndindex(classes.shape[:-1]))[:count]:
        row = classes[place]
        best, worst = int(row.argmax()), int(row.argmin())
        row[best], row[worst] = row[worst], row[best]
    return flipped


def judged_as(
    kind: str,
    expected: Mapping[str, Array],
    got: Mapping[str, Array],
    *,
    precision: str,
    feeds: Mapping[str, Array] | None = None,
) -> GoldenJudgement:
    golden = Golden(name="case", feeds=feeds or {}, outputs=expected)
    return judge_goldens([golden], [got], kind=kind, precision=precision, tolerance=TOLERANCE)


def test_every_kind_is_judged_here() -> None:
    assert set(SHAPES) | GENERATED == set(KINDS)
    for kind in SHAPES:
        assert bool(KINDS[kind].decisions(sure_outputs(kind), {})) is (kind in CHOOSING)


@settings(deadline=None)
@given(st.sampled_from(tuple(SHAPES)), st.sampled_from(PRECISIONS), st.integers(0, 50))
def test_a_model_agrees_with_itself_whatever_its_kind(kind: str, precision: str, seed: int) -> None:
    outputs = sure_outputs(kind, seed)
    judged = judged_as(
        kind, outputs, {name: array.copy() for name, array in outputs.items()}, precision=precision
    )
    assert (judged.passed, judged.reason, judged.max_abs_error) == (True, "", 0.0)


@settings(deadline=None)
@given(st.sampled_from(tuple(SHAPES)), st.integers(0, 50), st.floats(-0.99, 0.99))
def test_fp32_numbers_within_the_tolerance_always_agree(kind: str, seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    outputs = {name: random.normal(size=shape) for name, shape in SHAPES[kind].items()}
    noisy = {
        name: array
        + share * random.choice((-1, 1), size=array.shape) * (TOLERANCE.atol + TOLERANCE.rtol * np.abs(array))
        for name, array in outputs.items()
    }
    judged = judged_as(kind, outputs, noisy, precision="fp32")
    assert judged.passed, judged.reason


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", CHOOSING)
def test_other_choices_are_caught_in_every_kind(kind: str, precision: str) -> None:
    outputs = sure_outputs(kind)
    flipped = flip(kind, outputs, 1 if KINDS[kind].every else 5)
    judged = judged_as(kind, outputs, flipped, precision=precision)
    assert (judged.passed, judged.agreeing) == (False, 0)
    if precision == "fp32":
        assert "values differ" in judged.reason
    else:
        assert "another class wins in" in judged.reason
        assert judged.min_cosine > MIN_COSINE["int8"], "the direction alone would have passed at int8"


@pytest.mark.parametrize("kind", CHOOSING)
def test_other_choices_are_caught_at_fp32_where_every_number_is_within_a_coarse_tolerance(kind: str) -> None:
    outputs = {name: np.full(shape, -10.0) for name, shape in SHAPES[kind].items()}
    for name in set(outputs) - {"pred_boxes"}:
        by_class(kind, outputs[name])[..., 0] = -10.0 if kind == "multi-label" else -1.0
    crossed = {name: array.copy() for name, array in outputs.items()}
    first = by_class(kind, crossed["end_logits" if kind == "span" else "logits"])
    first[(0,) * (first.ndim - 1)][:2] = (0.5, -10.0) if kind == "multi-label" else (-2.0, -0.5)
    judged = judge_goldens(
        [Golden(name="case", feeds={}, outputs=outputs)],
        [crossed],
        kind=kind,
        precision="fp32",
        tolerance=Tolerance(atol=1e-4, rtol=1.5),
    )
    assert "another class wins in 1 of" in judged.reason


@pytest.mark.parametrize("kind", MANY)
def test_of_many_small_choices_a_lower_precision_may_make_two_in_a_hundred_otherwise(kind: str) -> None:
    outputs = sure_outputs(kind)
    (decision,) = KINDS[kind].decisions(outputs, {})
    allowed = int(MAX_OTHERWISE * decision.counts.sum())
    assert (decision.counts.sum(), allowed) == (200, 4)
    for precision in LOWER:
        judged = judged_as(kind, outputs, flip(kind, outputs, allowed), precision=precision)
        assert "another class" not in judged.reason, "only the cosine may still refuse it"
        judged = judged_as(kind, outputs, flip(kind, outputs, allowed + 1), precision=precision)
        assert f"another class wins in {allowed + 1} of 200 choices" in judged.reason


@pytest.mark.parametrize("wrong", [4, 5])
def test_small_choices_are_counted_over_all_goldens(wrong: int) -> None:
    long, short = sure_outputs("tags"), {"logits": sure_outputs("tags")["logits"][:1, :4]}
    goldens = [Golden(name=name, feeds={}, outputs=each) for name, each in (("long", long), ("short", short))]
    outputs = [flip("tags", long, wrong - 1), flip("tags", short, 1)]
    judged = judge_goldens(
        goldens, outputs, kind="tags", precision="int8", tolerance=Tolerance(atol=1e-4, rtol=1e-4)
    )
    assert ("another class" in judged.reason) == (wrong > MAX_OTHERWISE * 204)


@pytest.mark.parametrize("kind", MANY)
def test_of_few_small_choices_none_may_differ(kind: str) -> None:
    outputs = {name: array[:1] for name, array in sure_outputs(kind).items()}
    name = "logits"
    sliced = by_class(kind, outputs[name]).reshape(-1, by_class(kind, outputs[name]).shape[-1])[:49]
    few = sliced.T[None, :, :, None] if kind == "mask" else sliced[None]
    original = {**outputs, name: np.ascontiguousarray(few)}
    judged = judged_as(kind, original, flip(kind, original, 1), precision="int8")
    assert "another class wins in 1 of 49 choices" in judged.reason


@pytest.mark.parametrize("kind", ["tags", "fill-mask", "span"])
def test_padding_makes_no_choices(kind: str) -> None:
    outputs = sure_outputs(kind)
    name = "end_logits" if kind == "span" else "logits"
    mask = np.ones(outputs[name].shape[:2], np.int64)
    mask[:, -10:] = 0
    changed = {name: array.copy() for name, array in outputs.items()}
    changed[name][:, -10:] = changed[name][:, -10:][:, ::-1]
    if kind == "span":
        for part in (outputs, changed):
            part[name][:, 0] = 8.0  # the best of what is no padding
    padded = judged_as(kind, outputs, changed, precision="int8", feeds={"attention_mask": mask})
    assert "another class" not in padded.reason
    unpadded = judged_as(kind, outputs, changed, precision="int8")
    assert "another class" in unpadded.reason


def test_a_row_of_nothing_but_padding_makes_no_choice() -> None:
    outputs = {"start_logits": np.array([[0.0, 9.0]]), "end_logits": np.array([[9.0, 0.0]])}
    flipped = {name: array[:, ::-1] for name, array in outputs.items()}
    feeds = {"attention_mask": np.zeros((1, 2), np.int64)}
    assert "another class" not in judged_as("span", outputs, flipped, precision="int8", feeds=feeds).reason
    assert "another class" in judged_as("span", outputs, flipped, precision="int8").reason


@pytest.mark.parametrize("kind", CHOOSING)
def test_choices_that_the_original_is_unsure_of_do_not_bind(kind: str) -> None:
    outputs = {name: 0.01 * array for name, array in sure_outputs(kind).items()}
    judged = judged_as(kind, outputs, outputs, precision="int8")
    assert judged.passed
    assert "in none of its choices" in judged.reason
    assert "another class" not in judged_as(kind, outputs, flip(kind, outputs, 4), precision="int8").reason


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_the_direction_of_small_outputs_is_taken_over_all_goldens_and_of_vectors_of_each(kind: str) -> None:
    shapes = SHAPES[kind]
    big = {name: np.full(shape, 10.0) for name, shape in shapes.items()}
    small = {name: np.full(shape, 0.001) for name, shape in shapes.items()}
    turned = {name: -array for name, array in small.items()}
    judged = judge_goldens(
        [Golden(name="big", feeds={}, outputs=big), Golden(name="small", feeds={}, outputs=small)],
        [big, turned],
        kind=kind,
        precision="int8",
        tolerance=TOLERANCE,
    )
    assert judged.passed is (kind not in ("vector", "tensor")), judged.reason
    assert (judged.min_cosine > 0.99) is (kind not in ("vector", "tensor"))


@pytest.mark.parametrize("kind", CHOOSING)
def test_goldens_that_are_not_of_the_kind_are_told_so(kind: str) -> None:
    for outputs in ({"other": np.zeros((2,)), "one": np.zeros((2,))}, {"logits": np.zeros((2,))}):
        with pytest.raises(RunFailed):
            judged_as(kind, outputs, outputs, precision="int8")


@pytest.mark.parametrize(("kind", "output"), [("tags", "logits"), ("tensor", "last_hidden_state")])
def test_what_a_model_gives_at_padding_is_not_judged(kind: str, output: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 3, 3)).astype(np.float32)
    feeds = {"attention_mask": np.array([[1, 1, 0], [1, 1, 1]])}
    golden = Golden(name="case", feeds=feeds, outputs={output: values})

    def judged(row: int, token: int, value: float) -> GoldenJudgement:
        got = values.copy()
        got[row, token] += value
        return judge_goldens([golden], [{output: got}], kind=kind, precision="fp32", tolerance=TOLERANCE)

    assert judged(0, 2, 0.5).passed
    assert judged(0, 2, 0.5).max_abs_error == 0.0
    assert not judged(0, 1, 0.5).passed
    assert not judged(1, 2, 0.5).passed
    assert not judged(0, 2, math.nan).passed


def test_of_other_outputs_that_happen_to_fit_the_mask_all_is_judged() -> None:
    values = np.zeros((2, 3), np.float32)
    golden = Golden(name="case", feeds={"attention_mask": np.zeros((2, 3), int)}, outputs={"logits": values})
    got = [{"logits": values + 1}]
    for kind in ("classification", "tensor", "vector"):
        judged = judge_goldens([golden], got, kind=kind, precision="fp32", tolerance=TOLERANCE)
        assert not judged.passed
