"""Accuracy drop: paired, exact, and honest about too few rows."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.measuring.accuracy import (
    METHODS,
    JudgedRow,
    drop_bounds,
    judge_accuracy,
    logit_distance,
    overlapping,
    paired_record,
    rows_needed,
)
from edgekit.measuring.metrics import load_metric
from edgekit.measuring.metrics.base import ShareRight
from edgekit.values import AccuracyRecord, Outcome


def record(rows: int, lost: int, gained: int) -> AccuracyRecord:
    return AccuracyRecord(
        metric="accuracy",
        rows=rows,
        artifact=0.9 - (lost - gained) / rows,
        model=0.9,
        lost=lost,
        gained=gained,
        flips=lost + gained,
        max_logit_distance=0.0,
    )


def judged(*truths: object) -> list[JudgedRow]:
    return [
        JudgedRow(number=place, truth=truth, text=f"text {place}")
        for place, truth in enumerate(truths, start=1)
    ]


def test_rows_are_paired_and_flips_between_two_wrong_answers_count_as_flips_only() -> None:
    model, artifact = ("a", "a", "b", "b"), ("a", "b", "a", "c")
    found = paired_record(model, artifact, judged("a", "a", "a", "a"), load_metric("accuracy"), 0.99)
    assert (found.rows, found.lost, found.gained, found.flips) == (4, 1, 1, 3)
    assert found.artifact == found.model == 0.5
    assert (found.metric, found.method, found.higher_is_better) == ("accuracy", "paired-score", True)
    assert found.drop is not None
    assert (found.drop.estimate, found.drop.low, found.drop.high) == (0.0, *drop_bounds(found, 0.99))


def test_changed_rows_are_told_by_their_number_in_the_file_and_with_the_text_that_was_allowed() -> None:
    row = JudgedRow(number=7, truth="a", text="good | bad")
    (changed,) = paired_record("a", "b", [row], load_metric("accuracy"), 0.99).changed
    assert (changed.number, changed.label, changed.model, changed.artifact) == (7, "a", "a", "b")
    assert changed.text == "good | bad"


@pytest.mark.parametrize(
    ("hidden", "told"),
    [
        (False, ("in the sea, sea", "in the sea", "ship")),
        (True, ("3 words, not shown", "3 words, not shown", "1 words, not shown")),
    ],
)
def test_answers_that_tell_what_a_row_holds_are_hidden_where_rows_are(
    hidden: bool, told: tuple[str, ...]
) -> None:
    row = JudgedRow(number=1, truth=("in the sea", "sea"), hidden=hidden)
    (changed,) = paired_record(["in the sea"], ["ship"], [row], load_metric("span-f1"), 0.99).changed
    assert (changed.label, changed.model, changed.artifact) == told


class Never(ShareRight):
    """Takes any answer and finds it wrong."""

    name, takes = "never", "anything"

    def right(self, answers: Sequence[Any], truths: Sequence[Any]) -> tuple[bool, ...]:
        return (False,) * len(truths)


BOX = {"box": [1.0, 2.0, 3.5, 4.0], "label": "cat"}


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (("joy", "fear"), ("joy",), "joy, fear"),
        ((), ("joy",), "none"),
        (0.1234567891, 2.0, "0.123457"),
        (np.ones(384, np.float32), np.arange(384.0), "384 numbers"),
        (np.zeros((3, 4), np.uint8), np.ones((3, 4), np.uint8), "3 x 4 classes"),
        ([{**BOX, "score": 0.914}], [], "cat 0.91 at (1, 2, 3.5, 4)"),
        ([BOX], [], "cat at (1, 2, 3.5, 4)"),
        ({"x": np.ones((1, 2))}, {"x": np.zeros((1, 2))}, "x: 1 x 2 numbers"),
    ],
    ids=str,
)
def test_answers_of_any_form_are_told_in_a_few_words(one: Any, other: Any, told: str) -> None:
    found = paired_record([one, one], [one, other], judged(one, one), Never(), 0.99)
    assert found.flips == 1
    assert found.changed[0].label == found.changed[0].model == told


def test_a_report_holds_at_most_200_changed_rows_and_counts_all() -> None:
    found = paired_record("a" * 300, "b" * 300, judged(*"a" * 300), load_metric("accuracy"), 0.99)
    assert (len(found.changed), found.flips) == (200, 300)
    assert (found.changed[0].number, found.changed[-1].number) == (1, 200)


def test_long_answers_are_cut_and_arrays_are_compared_as_a_whole() -> None:
    same, other = np.array([0.1, 0.2]), np.array([0.1, 0.3])
    found = paired_record([same, same], [same, other], judged(same, same), load_metric("cosine"), 0.99)
    assert [row.number for row in found.changed] == [2]
    found = paired_record(["a" * 999], ["b"], judged("a"), load_metric("exact-match"), 0.99)
    assert len(found.changed[0].model) == 200


def test_answers_that_do_not_pair_are_refused() -> None:
    for model, artifact, rows in (("", "a", "a"), ("a", "", "a"), ("", "", ""), ("a", "a", "aa")):
        with pytest.raises(DataError, match="paired row by row"):
            paired_record(model, artifact, judged(*rows), load_metric("accuracy"), 0.99)


def test_a_metric_that_is_no_count_has_a_drop_in_its_own_direction() -> None:
    said = ["one two three four"] * 300
    worse = ["one two three" if place % 2 else "one two three four" for place in range(300)]
    found = paired_record(said, worse, judged(*said), load_metric("wer"), 0.99)
    assert (found.lost, found.gained, found.method) == (None, None, "paired-bootstrap")
    assert (found.model, found.artifact, found.higher_is_better) == (0.0, 0.125, False)
    assert found.drop is not None and found.drop.low is not None and found.drop.high is not None
    assert found.drop.estimate == 12.5
    assert 9.0 < found.drop.low < 12.5 < found.drop.high < 16.0
    assert judge_accuracy(found, 20.0, 0.99).outcome is Outcome.PASS
    failed = judge_accuracy(found, 5.0, 0.99)
    assert (failed.outcome, failed.method) == (Outcome.FAIL, "paired-bootstrap")
    undecided = judge_accuracy(found, 12.0, 0.99)
    assert undecided.outcome is Outcome.INCONCLUSIVE
    assert "about" in undecided.reason and "would prove FAIL" in undecided.reason


def test_a_metric_that_is_no_count_is_inconclusive_below_200_rows_and_says_so() -> None:
    found = paired_record("ab" * 99, "ab" * 99, judged(*"ab" * 99), load_metric("macro-f1"), 0.99)
    assert found.drop is not None and (found.drop.low, found.drop.high) == (None, None)
    check = judge_accuracy(found, 50.0, 0.99)
    assert check.outcome is Outcome.INCONCLUSIVE
    assert "at least 200 rows are needed" in check.reason
    assert check.observed is not None and check.observed.high is None


def test_every_method_has_a_sentence() -> None:
    for method in ("paired-score", "paired-bootstrap"):
        assert METHODS[method].startswith(f"{method}: ")


def test_enough_rows_prove_a_small_drop_and_a_large_one() -> None:
    assert judge_accuracy(record(2000, 3, 2), 1.0, 0.99).outcome is Outcome.PASS
    assert judge_accuracy(record(2000, 160, 10), 1.0, 0.99).outcome is Outcome.FAIL


def test_too_few_rows_are_inconclusive_and_say_how_many_would_do() -> None:
    check = judge_accuracy(record(100, 0, 0), 1.0, 0.99)
    assert check.outcome is Outcome.INCONCLUSIVE
    needed = rows_needed(record(100, 0, 0), 1.0, 0.01)
    assert needed is not None and 459 <= needed < 520  # 459: no test can do with fewer
    assert f"{needed} rows would prove PASS ({needed - 100} more)" in check.reason
    assert judge_accuracy(record(needed, 0, 0), 1.0, 0.99).outcome is Outcome.PASS


def test_a_drop_over_the_limit_asks_for_rows_that_would_prove_the_failure() -> None:
    check = judge_accuracy(record(100, 4, 1), 1.0, 0.99)
    assert check.outcome is Outcome.INCONCLUSIVE
    assert "would prove FAIL" in check.reason


def test_a_drop_at_the_limit_can_never_be_decided() -> None:
    assert "no number of rows" in judge_accuracy(record(100, 1, 0), 1.0, 0.99).reason


def test_rows_that_chose_the_recipe_make_it_inconclusive_however_good_it_looks() -> None:
    assert overlapping(["a", "b", "c"], ["b", "x"]) == 1
    check = judge_accuracy(record(5000, 0, 0), 1.0, 0.99, overlap=1)
    assert check.outcome is Outcome.INCONCLUSIVE
    assert "1 of 5000 rows also" in check.reason


def test_a_model_that_is_never_right_has_nothing_to_lose_which_proves_nothing() -> None:
    never = dataclasses.replace(record(2000, 0, 0), model=0.0, artifact=0.0)
    check = judge_accuracy(never, 1.0, 0.99)
    assert check.outcome is Outcome.INCONCLUSIVE
    assert "answers no row right" in check.reason
    no_errors = dataclasses.replace(never, metric="wer", higher_is_better=False)
    assert judge_accuracy(no_errors, 1.0, 0.99).outcome is Outcome.PASS


def test_generated_tokens_are_as_far_apart_as_their_scores_up_to_the_first_difference() -> None:
    def generated(tokens: list[int], best: list[float]) -> dict[str, Any]:
        scores = np.array([[[score, -3.0] for score in best]], np.float32)
        return {"tokens": np.array([tokens]), "scores": scores}

    one = generated([5, 6, 7], [-0.5, -0.5, -0.5])
    assert logit_distance(one, generated([5, 6, 7], [-0.5, -0.75, -0.5])) == 0.25
    assert logit_distance(one, generated([5, 9, 7, 4], [-0.5, -0.75, -2.5, -2.5])) == 0.25


def test_logits_that_cannot_be_compared_are_as_far_apart_as_can_be() -> None:
    one = {"logits": np.array([1.0, 2.0])}
    assert logit_distance(one, {"logits": np.array([1.5, 2.0])}) == 0.5
    assert logit_distance(one, {"logits": np.array([np.nan, 2.0])}) == sys.float_info.max
    assert logit_distance(one, {"logits": np.zeros(3)}) == sys.float_info.max
    assert logit_distance(one, {}) == sys.float_info.max
