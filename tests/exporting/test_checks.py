"""A graph that differs from its original never passes, and the message says where and how far."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from edgekit.errors import ExportFailed, ExportWrong, SourceError, UsageError
from edgekit.exporting.checks import Expected, goldens, judge, original_outputs
from edgekit.exporting.options import DEFAULT_TOLERANCE, ExportOptions, parse_tolerance
from edgekit.exporting.subject import Case, Facts, Subject

FACTS = Facts(task="text-classification", answers="classification", axes={"x": {0: "batch"}}, source={})
LOGITS = np.array([[1.0, -1.0], [0.5, 2.0]], dtype=np.float32)


def expected(outputs: np.ndarray = LOGITS, golden: bool = False) -> Expected:  # type: ignore[type-arg]
    case = Case(name="two rows", feeds={"x": np.zeros((len(outputs), 3), np.float32)}, golden=golden)
    return Expected(case=case, outputs={"logits": outputs})


def wrong(got: np.ndarray) -> ExportWrong:  # type: ignore[type-arg]
    with pytest.raises(ExportWrong) as caught:
        judge(FACTS, [expected(), expected()], [{"logits": LOGITS}, {"logits": got}], DEFAULT_TOLERANCE)
    assert caught.value.exit_code == 3
    assert "1 of 2 checks" in caught.value.message
    assert "batch 2" in caught.value.message
    return caught.value


def subject(call: object, *cases: Case) -> Subject:
    return Subject(
        module=torch.nn.Identity(),
        call=call,  # type: ignore[arg-type]
        facts=FACTS,
        trace={},
        ranges={},
        outputs=("logits",),
        cases=cases or (Case(name="one", feeds={"x": np.ones((1, 3), np.float32)}),),
    )


def test_equal_outputs_pass_and_are_recorded() -> None:
    (check,) = judge(FACTS, [expected()], [{"logits": LOGITS + np.float32(1e-6)}], DEFAULT_TOLERANCE)
    assert check.passed
    assert check.shape == {"batch": 2}
    assert check.agreement == 1.0
    assert 0 < check.max_abs_error < 2e-6


def test_an_error_beyond_the_tolerance_fails_though_every_answer_is_the_same() -> None:
    error = wrong(LOGITS + np.float32(2e-4))
    assert "0.0002" in error.message
    assert "--tolerance" in error.hint


def test_another_answer_fails_and_no_tolerance_is_offered() -> None:
    error = wrong(LOGITS[:, ::-1])
    assert "--tolerance" not in error.hint


def test_a_choice_that_the_original_does_not_make_within_the_tolerance_may_fall_either_way() -> None:
    from edgekit.values import Tolerance

    close = np.array([[1.0, 1.001]], np.float32)
    loose = Tolerance(atol=0.5, rtol=0)
    (check,) = judge(FACTS, [expected(close)], [{"logits": close[:, ::-1]}], loose)
    assert check.agreement == 0.0
    with pytest.raises(ExportWrong, match=r"differ by more than atol 0\.5"):
        judge(FACTS, [expected(close * 3)], [{"logits": close[:, ::-1]}], loose)


@pytest.mark.parametrize(
    "got",
    [LOGITS[:1], LOGITS[:, :1], LOGITS[None], np.full_like(LOGITS, np.nan), np.full_like(LOGITS, np.inf)],
)
def test_another_shape_or_no_number_fails(got: np.ndarray) -> None:  # type: ignore[type-arg]
    wrong(got)


def test_a_missing_output_fails() -> None:
    with pytest.raises(ExportWrong, match="missing"):
        judge(FACTS, [expected()], [{}], DEFAULT_TOLERANCE)


def test_many_misses_are_counted_and_the_first_shown() -> None:
    with pytest.raises(ExportWrong, match="20 of 20 checks differ") as caught:
        judge(FACTS, [expected()] * 20, [{"logits": LOGITS + 1}] * 20, DEFAULT_TOLERANCE)
    assert "and 12 more" in caught.value.message


def test_only_golden_cases_are_recorded() -> None:
    (golden,) = goldens([expected(), expected(golden=True)])
    assert golden.name == "two rows"
    assert golden.outputs["logits"] is LOGITS


def test_an_original_that_gives_nan_is_refused() -> None:
    with pytest.raises(ExportFailed, match="NaN"):
        original_outputs(subject(lambda feeds: {"logits": feeds["x"] / 0}), ["logits"])


def test_an_original_that_is_random_is_refused() -> None:
    def call(feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"logits": feeds["x"] + torch.rand(3)}

    with pytest.raises(SourceError, match="another answer"):
        original_outputs(subject(call), ["logits"])


def test_an_original_that_does_not_run_at_a_declared_shape_names_it() -> None:
    def call(feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"logits": feeds["x"].reshape(5, -1)}

    with pytest.raises(SourceError, match="at batch 1") as caught:
        original_outputs(subject(call), ["logits"])
    assert "axis_ranges" in caught.value.hint


def test_a_tolerance_is_absolute_or_absolute_and_relative() -> None:
    from edgekit.values import Tolerance

    assert parse_tolerance("1e-3") == Tolerance(atol=1e-3, rtol=DEFAULT_TOLERANCE.rtol)
    assert parse_tolerance("1e-3, 1e-4") == Tolerance(atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("text", ["", "small", "1,2,3", "1e-3,"])
def test_a_tolerance_that_is_no_number_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="ATOL,RTOL"):
        parse_tolerance(text)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "0,2"])
def test_a_tolerance_beyond_sense_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="must be in"):
        ExportOptions(tolerance=parse_tolerance(text)).check()
