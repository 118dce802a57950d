"""The judge of generated goldens: token by token up to the first that differs, which must be a near tie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_runtime.agreement import MIN_COSINE, SURE_MARGIN, GoldenJudgement, judge_goldens
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.generation import NOT_ALLOWED
from edgekit_runtime.goldens import Golden
from edgekit_runtime.session import Array
from edgekit_runtime.values import PRECISIONS, Tolerance

TOLERANCE = Tolerance(atol=1e-4, rtol=1e-4)
LOWER = tuple(sorted(set(PRECISIONS) - {"fp32"}))
KINDS = ("text", "transcript")
SURE, TIE = (-0.05, -4.0), (-0.75, -0.75001)
#: The choice is clear, and yet no lower precision is held to it.
UNSURE = (-0.8, -1.0)


def generated(
    *rows: Sequence[int], scores: Mapping[tuple[int, int], tuple[float, float]] | None = None, pad: int = 0
) -> dict[str, Array]:
    """Outputs with these tokens, each sure but those with `scores`: {(row, place): (best, second)}."""
    width = max(map(len, rows))
    tokens = np.full((len(rows), width), pad, dtype=np.int64)
    numbers = np.zeros((len(rows), width, 2), dtype=np.float32)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = ids
        numbers[row, : len(ids)] = SURE
    for place, pair in (scores or {}).items():
        numbers[place] = pair
    return {"tokens": tokens, "scores": numbers}


def judge(
    wanted: Mapping[str, Array],
    found: Mapping[str, Array],
    *,
    precision: str = "fp32",
    kind: str = "text",
    tolerance: Tolerance = TOLERANCE,
) -> GoldenJudgement:
    golden = Golden(name="case", feeds={}, outputs=wanted)
    return judge_goldens([golden], [found], kind=kind, precision=precision, tolerance=tolerance)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Array]:
    ids = st.lists(st.integers(0, 9), min_size=1, max_size=5)
    rows = draw(st.lists(ids, min_size=1, max_size=3))
    outputs = generated(*rows)
    first = draw(st.floats(-5, 0, width=32))
    lead = draw(st.floats(0.125, 9, width=32))
    outputs["scores"][0, 0] = (first, first - lead)
    return outputs


@given(answers(), st.sampled_from(PRECISIONS), st.sampled_from(KINDS))
def test_an_answer_agrees_with_itself(outputs: dict[str, Array], precision: str, kind: str) -> None:
    same = {name: array.copy() for name, array in outputs.items()}
    judged = judge(outputs, same, precision=precision, kind=kind)
    assert (judged.passed, judged.agreeing, judged.max_abs_error, judged.min_cosine) == (True, 1, 0.0, 1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_another_token_where_the_original_was_sure_fails(kind: str, precision: str, place: int) -> None:
    wanted = generated([5, 6, 7], [5, 6, 7, 8, 3])
    changed = [5, 6, 7, 8, 3]
    changed[place] = 9
    judged = judge(wanted, generated([5, 6, 7], changed), precision=precision, kind=kind)
    assert (judged.passed, judged.agreeing) == (False, 0)
    assert f"token {place} of row 1 is 9 instead of {(5, 6, 7, 8, 3)[place]}" in judged.reason
    assert "sure of" in judged.reason


@pytest.mark.parametrize("precision", PRECISIONS)
def test_another_token_at_a_near_tie_passes_and_later_ones_are_not_judged(precision: str) -> None:
    wanted = generated([5, 6, 7, 8, 3], scores={(0, 1): TIE})
    found = generated([5, 9, 1, 2, 4, 4, 3], scores={(0, 1): TIE, (0, 3): (-3.0, -3.5)})
    judged = judge(wanted, found, precision=precision)
    assert judged.passed, judged.reason
    assert judged.max_abs_error == 0.0, "scores behind the difference count for nothing"
    shorter = judge(wanted, generated([5, 9], scores={(0, 1): TIE}), precision=precision)
    assert shorter.passed, shorter.reason


def test_at_fp32_a_tie_is_what_twice_the_tolerance_leaves_open() -> None:
    allowed = 2 * (TOLERANCE.atol + TOLERANCE.rtol * 0.75)
    for share, passed in ((0.98, True), (1.02, False)):
        scores = {(0, 0): (-0.75, -0.75 - share * allowed)}
        judged = judge(generated([5, 3], scores=scores), generated([6, 3], scores=scores))
        assert judged.passed is passed


@pytest.mark.parametrize("precision", LOWER)
def test_a_lower_precision_is_held_to_leads_over_the_margin_alone(precision: str) -> None:
    for lead, passed in ((SURE_MARGIN - 0.01, True), (SURE_MARGIN + 0.01, False)):
        scores = {(0, 0): (math.log(0.5), math.log(0.5 - lead))}
        judged = judge(
            generated([5, 3], scores=scores), generated([6, 3], scores=scores), precision=precision
        )
        assert judged.passed is passed
    assert not judge(
        generated([5, 3], scores={(0, 0): UNSURE}), generated([6, 3], scores={(0, 0): UNSURE})
    ).passed


def test_a_pass_that_rests_on_no_sure_token_says_so() -> None:
    wanted = generated([5], scores={(0, 0): UNSURE})
    judged = judge(wanted, generated([6], scores={(0, 0): UNSURE}), precision="int8")
    assert judged.passed
    assert "in none of its choices" in judged.reason


def test_at_fp32_the_scores_are_compared_up_to_the_difference() -> None:
    wanted = generated([5, 6, 7, 3], scores={(0, 2): TIE})
    for place, passed in ((0, False), (1, False), (2, False), (3, True)):
        found = generated([5, 6, 8, 4], scores={(0, 2): TIE})
        found["scores"][0, place] += 0.01
        judged = judge(wanted, found)
        assert judged.passed is passed
        if not passed:
            assert "values differ by more than" in judged.reason
            assert judged.max_abs_error == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("wanted", "found"), [((5, 6, 3), (5, 6)), ((5, 6), (5, 6, 3)), ((5, 6), (5, 6, 6, 6))]
)
def test_one_that_ends_where_the_other_goes_on_fails(
    precision: str, wanted: tuple[int, ...], found: tuple[int, ...]
) -> None:
    unsure = {(0, 2): TIE} if len(wanted) > 2 else {}
    judged = judge(generated(wanted, scores=unsure), generated(found), precision=precision)
    assert not judged.passed
    assert "token 2 of row 0 is" in judged.reason
    assert "none" in judged.reason


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_fills_the_rest_of_a_row_is_not_judged(precision: str) -> None:
    wanted, found = generated([5, 3], [5, 6, 7, 3], pad=0), generated([5, 3], [5, 6, 7, 3], pad=1)
    assert judge(wanted, found, precision=precision).passed
    wider = {
        "tokens": np.pad(found["tokens"], ((0, 0), (0, 3))),
        "scores": np.pad(found["scores"], ((0, 0), (0, 3), (0, 0))),
    }
    assert judge(wanted, wider, precision=precision).passed


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_differ_each_at_its_own_place(precision: str) -> None:
    wanted = generated([5, 6, 7, 3], [5, 6, 7, 3], scores={(0, 1): TIE, (1, 2): TIE})
    fine = generated([5, 9, 9, 9], [5, 6, 9, 9], scores={(0, 1): TIE, (1, 2): TIE})
    assert judge(wanted, fine, precision=precision).passed
    wrong = generated([5, 9, 9, 9], [5, 9, 9, 9], scores={(0, 1): TIE, (1, 1): TIE})
    assert "token 1 of row 1 is 9 instead of 6" in judge(wanted, wrong, precision=precision).reason


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_forced_token_is_no_choice_but_must_be_the_same(precision: str) -> None:
    forced = {(0, 0): (0.0, NOT_ALLOWED)}
    wanted = generated([7, 6, 3], scores=forced)
    same = judge(wanted, generated([7, 6, 3], scores=forced), precision=precision)
    assert (same.passed, same.max_abs_error) == (True, 0.0)
    assert not judge(wanted, generated([8, 6, 3], scores=forced), precision=precision).passed
    alone = judge(generated([7], scores=forced), generated([7], scores=forced), precision=precision)
    assert alone.passed
    assert ("in none of its choices" in alone.reason) is (precision != "fp32")


@pytest.mark.parametrize("precision", LOWER)
def test_the_direction_of_the_scores_is_not_that_of_forced_tokens(precision: str) -> None:
    """Without a limit on what counts, -1e9 at one token would outweigh every other score."""
    forced = {(0, 0): (0.0, NOT_ALLOWED)}
    wanted = generated([7, 6, 3], scores={**forced, (0, 1): (-0.1, -9.0), (0, 2): (-0.1, -9.0)})
    found = generated([7, 6, 3], scores={**forced, (0, 1): (-4.0, -4.5), (0, 2): (-4.0, -4.5)})
    judged = judge(wanted, found, precision=precision)
    assert judged.min_cosine < MIN_COSINE[precision]
    assert not judged.passed


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": None}, "output 'scores': is missing"),
        ({"tokens": None}, "output 'tokens': is missing"),
        ({"tokens": np.zeros((1, 3), np.int64)}, "instead of"),
        ({"tokens": np.zeros((2, 3, 1), np.int64)}, "has the shape"),
        ({"scores": np.zeros((2, 3), np.float32)}, "has the shape"),
        ({"scores": np.zeros((2, 3, 3), np.float32)}, "has the shape"),
        ({"scores": np.full((2, 3, 2), np.nan, np.float32)}, "finite"),
        ({"scores": np.full((2, 3, 2), -np.inf, np.float32)}, "finite"),
    ],
)
def test_outputs_that_are_no_such_answer_never_agree(
    precision: str, change: dict[str, Array | None], message: str
) -> None:
    wanted = generated([5, 6, 3], [5, 6, 3])
    found = {name: array for name, array in {**wanted, **change}.items() if array is not None}
    judged = judge(wanted, found, precision=precision)
    assert (judged.passed, judged.agreeing) == (False, 0)
    assert message in judged.reason
    assert math.isfinite(judged.max_abs_error)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_another_number_of_rows_never_agrees(precision: str) -> None:
    judged = judge(generated([5, 3], [5, 3]), generated([5, 3]), precision=precision)
    assert not judged.passed
    assert "1 rows instead of 2" in judged.reason


@pytest.mark.parametrize("kind", KINDS)
def test_goldens_and_outputs_of_no_tokens_are_told_so(kind: str) -> None:
    wanted = generated([5, 3])
    floats = {**wanted, "tokens": wanted["tokens"].astype(np.float64)}
    for golden, found in ((floats, floats), (wanted, floats)):
        with pytest.raises(RunFailed, match="generated"):
            judge(golden, found, precision="int8", kind=kind)


def test_a_transcript_of_frames_is_judged_as_before() -> None:
    logits = np.zeros((1, 3, 4), np.float32)
    logits[..., 1] = 9
    other = np.roll(logits, 1, axis=-1)
    assert judge({"logits": logits}, {"logits": logits}, kind="transcript", precision="int8").passed
    judged = judge({"logits": logits}, {"logits": other}, kind="transcript", precision="int8")
    assert "another class wins in 3 of 3 choices" in judged.reason


def test_in_each_golden_alone_a_sure_token_binds() -> None:
    wanted = [generated([5, 6, 3]) for _ in range(100)]
    found = [generated([5, 6, 3]) for _ in range(99)] + [generated([5, 7, 3])]
    goldens = [Golden(name=str(index), feeds={}, outputs=outputs) for index, outputs in enumerate(wanted)]
    judged = judge_goldens(goldens, found, kind="text", precision="int8", tolerance=TOLERANCE)
    assert (judged.passed, judged.agreeing) == (False, 99)
