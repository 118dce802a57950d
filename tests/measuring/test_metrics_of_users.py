"""`--metric path/file.py:function`: everything that can go wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import DataError, UsageError
from edgekit.measuring.metrics import load_metric

SOURCE = """
import math
import numpy as np

NUMBER = 3

def same(answers, truths):
    return sum(a == t for a, t in zip(answers, truths)) / len(truths)

def cost(answers, truths):
    return np.float32(2.5)

cost.higher_is_better = False

def raises(answers, truths):
    raise KeyError("weights")

def leaves(answers, truths):
    raise SystemExit(3)

def says_nan(answers, truths):
    return math.nan

def says_text(answers, truths):
    return "0.9"

def says_nothing(answers, truths):
    pass

def says_true(answers, truths):
    return True

def takes_one(answers):
    return 1.0
"""


@pytest.fixture()
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my metrics.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_a_function_of_a_file_is_called_with_lists(file: Path) -> None:
    metric = load_metric(f"{file}:same")
    assert metric.score(("a", "b"), ("a", "a")) == 0.5
    assert metric.name == f"{file}:same"
    assert metric.higher_is_better and metric.right(["a"], ["a"]) is None


def test_a_function_says_itself_that_less_is_better(file: Path) -> None:
    metric = load_metric(f"{file}:cost")
    assert not metric.higher_is_better
    assert metric.score(["a"], ["a"]) == 2.5


def test_a_function_of_an_installed_module_is_found() -> None:
    assert load_metric("statistics:covariance").score([1, 2, 3], [1, 2, 3]) == 1.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "raised KeyError: 'weights'"),
        ("leaves", "raised SystemExit: 3"),
        ("says_nan", "returned float nan"),
        ("says_text", "returned str '0.9'"),
        ("says_nothing", "returned NoneType"),
        ("says_true", "returned bool"),
        ("takes_one", "raised TypeError"),
    ],
)
def test_what_a_function_does_wrong_is_told(file: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_metric(f"{file}:{name}").score(["a"], ["a"])
    assert "def metric(answers, truths)" in caught.value.hint


def test_a_function_is_not_called_without_rows(file: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        load_metric(f"{file}:same").score([], [])


def test_what_cannot_be_found_is_told(file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_module_here\n", encoding="utf-8")
    ends = tmp_path / "ends.py"
    ends.write_text("raise SystemExit(1)\n", encoding="utf-8")
    strange = tmp_path / "metric.txt"
    strange.write_text("", encoding="utf-8")
    for reference, message in (
        (f"{tmp_path}/none.py:same", "no such file"),
        (f"{tmp_path}:same", "no such file"),
        (f"{strange}:same", "is no Python file"),
        (f"{file}:sane", "'sane' does not exist"),
        (f"{file}:NUMBER", "'NUMBER' is no function"),
        (f"{file}:", "names no function"),
        (":same", "names no function"),
        ("a:b c", "names no function"),
        (f"{broken}:same", "cannot be imported: ModuleNotFoundError"),
        (f"{ends}:same", "cannot be imported: SystemExit"),
        ("no_such_module_here:f", "cannot be imported: ModuleNotFoundError"),
        ("..relative:f", "cannot be imported"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            load_metric(reference)
        assert caught.value.hint
    with pytest.raises(UsageError) as caught:
        load_metric(f"{file}:sane")
    assert "same" in caught.value.hint
