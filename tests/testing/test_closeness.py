"""What counts as the right answer."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edgekit.testing.closeness import CLOSENESS, REFERENCE, Closeness, difference, relative_error
from tests.conftest import ROOT

RIGHT = {"y": np.linspace(-1, 2, 12, dtype=np.float32).reshape(3, 4), "ids": np.arange(3)}


def test_the_right_answer_is_near_enough_for_the_strictest() -> None:
    assert difference(RIGHT, RIGHT, REFERENCE) == ""


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"y": RIGHT["y"]}, "outputs are ['y'], not ['ids', 'y']"),
        ({**RIGHT, "y": RIGHT["y"].astype(np.float64)}, "output 'y': dtype is float64, not float32"),
        ({**RIGHT, "y": RIGHT["y"][:2]}, "output 'y': shape is [2, 4], not [3, 4]"),
        ({**RIGHT, "y": RIGHT["y"] * np.float32(np.nan)}, "output 'y': holds NaN or infinity"),
        (
            {**RIGHT, "y": RIGHT["y"] * np.float32(1.3)},
            "output 'y': largest error is 0.3 of the largest value",
        ),
        ({**RIGHT, "ids": np.array([0, 2, 1])}, "output 'ids': 2 of 3 whole numbers are wrong"),
    ],
    ids=["lacks-one", "dtype", "shape", "nan", "scale", "ids"],
)
def test_a_wrong_answer_is_told_by_what_is_wrong(wrong: dict[str, np.ndarray], words: str) -> None:
    assert difference(RIGHT, wrong, CLOSENESS["fp32"]).startswith(words)


def test_a_wrong_direction_is_seen_where_each_element_is_within_its_limit() -> None:
    wide = Closeness(relative=2.0, cosine=0.99)
    assert "cosine" in difference(RIGHT, {**RIGHT, "y": RIGHT["y"][::-1].copy()}, wide)


def test_int8_tells_a_wrong_scale_from_rounding() -> None:
    value = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    step = np.abs(value).max() / 127
    rounded = (np.round(value / step) * step).astype(np.float32)
    assert difference({"y": value}, {"y": rounded}, CLOSENESS["int8"]) == ""
    assert difference({"y": value}, {"y": rounded * np.float32(1.3)}, CLOSENESS["int8"])


def test_near_ties_of_whole_numbers_are_forgiven_below_fp32_only() -> None:
    other = {**RIGHT, "ids": np.array([0, 2, 1])}
    assert difference(RIGHT, other, CLOSENESS["int8"]) == ""


def test_an_error_on_an_output_that_is_all_zero_is_seen() -> None:
    zero = {"y": np.zeros(4, dtype=np.float32)}
    assert relative_error(zero, {"y": np.full(4, 0.5, dtype=np.float32)}) == 0.5


def test_the_readme_prints_the_limits_that_hold() -> None:
    text = (ROOT / "edgekit" / "testing" / "README.md").read_text(encoding="utf-8")
    rows = dict(
        re.findall(r"^\| ((?:fp|bf|int)\S+(?: of a backend.*?)?) \| (\S+ \| \S+) \|$", text, re.MULTILINE)
    )
    printed = {name.split()[0] + ("!" if "reference" in name else ""): row for name, row in rows.items()}
    wanted = {**CLOSENESS, "fp32!": REFERENCE}
    assert {name: tuple(map(float, row.split(" | "))) for name, row in printed.items()} == {
        name: (limit.relative, limit.cosine) for name, limit in wanted.items()
    }
