"""Option values: one reading for target files, the command line and Python."""

from __future__ import annotations

import pytest

from edgekit.targets.options import option_value
from edgekit.values import OptionSpec
from edgekit_runtime.values import OptionValue


def option(kind: str, choices: tuple[OptionValue, ...] = ()) -> OptionSpec:
    return OptionSpec(name="o", type=kind, default=0, help="", choices=choices)


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("int", "3", 3),
        ("int", 3, 3),
        ("int", 2.0, 2),
        ("float", "0.5", 0.5),
        ("float", 2, 2.0),
        ("bool", "true", True),
        ("bool", "OFF", False),
        ("bool", False, False),
        ("str", "3", "3"),
    ],
)
def test_text_is_read_in_the_type_declared(kind: str, given: OptionValue, value: OptionValue) -> None:
    found = option_value(option(kind), given)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("int", True),
        ("int", 2.5),
        ("int", "2.5"),
        ("int", "x"),
        ("int", float("inf")),
        ("float", False),
        ("float", "nan"),
        ("bool", 1),
        ("bool", "perhaps"),
        ("str", 3),
        ("str", True),
    ],
)
def test_what_does_not_suit_the_type_is_no_value(kind: str, given: OptionValue) -> None:
    assert option_value(option(kind), given) is None


def test_choices_are_compared_after_the_text_is_read() -> None:
    assert option_value(option("int", (1, 2)), "2") == 2
    assert option_value(option("int", (1, 2)), "3") is None
