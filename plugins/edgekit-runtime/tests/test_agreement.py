"""The judge of goldens: the same answers agree, a wrong model never does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit_runtime.agreement import (
    INCOMPARABLE,
    KINDS,
    MIN_COSINE,
    GoldenJudgement,
    compare,
    judge_goldens,
)
from edgekit_runtime.goldens import Golden
from edgekit_runtime.session import Array
from edgekit_runtime.values import PRECISIONS, Tolerance

TOLERANCE = Tolerance(atol=1e-4, rtol=1e-4)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
DOUBLES = hnp.arrays(np.float64, SHAPES, elements=FLOATS)
NUMBERS = DOUBLES | hnp.arrays(st.sampled_from((np.int64, np.uint8, np.bool_)), SHAPES)
LOGITS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(2, 5)), elements=st.floats(-20, 20, width=32)
)


def judge(
    expected: object, got: object, *, kind: str = "classification", precision: str = "fp32"
) -> GoldenJudgement:
    return judge_goldens(
        [Golden(name="case", feeds={}, outputs={"logits": np.asarray(expected)})],
        [{"logits": np.asarray(got)}],
        kind=kind,
        precision=precision,
        tolerance=TOLERANCE,
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
    st.sampled_from(KINDS),
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


def test_fp32_must_also_give_the_same_answer() -> None:
    near = np.array([[1.0, 1.00005]], np.float64)
    flipped = np.array([[1.00005, 1.0]], np.float64)
    assert judge(near, flipped, kind="tensor").passed
    judged = judge(near, flipped)
    assert not judged.passed
    assert "another class wins in 1 rows, first in row [0]" in judged.reason


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
        for kind in KINDS:
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
    assert "leads by 0.2 on no row" in judged.reason
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
