"""Values of backend options, read the same way from a target file, the command line and Python."""

from __future__ import annotations

import math

from edgekit.values import BackendSpec, OptionSpec, RunSettings, Target
from edgekit_runtime.values import OptionValue

_WORDS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


def run_device(target: Target, spec: BackendSpec) -> str:
    """The engine's word for what an artifact runs on: the target's, or the backend's own."""
    return spec.device if target.run.device == RunSettings().device else target.run.device


def option_value(option: OptionSpec, value: OptionValue) -> OptionValue | None:
    """`value` in the type that the option declares; None when it does not suit, or is no choice.

    Text, as the command line gives it, is converted. A bool is no number and a number is no bool or
    text; 2.0 is an int, 2.5 is none; a float is finite.
    """
    converted = _converted(option.type, value)
    return None if option.choices and converted not in option.choices else converted


def wanted_value(option: OptionSpec) -> str:
    """What would suit, for an error: the choices, or the type."""
    return ", ".join(map(str, option.choices)) or option.type


def _converted(kind: str, value: OptionValue) -> OptionValue | None:
    if kind == "str":
        return value if isinstance(value, str) else None
    if kind == "bool":
        word = _WORDS.get(value.strip().lower()) if isinstance(value, str) else value
        return word if isinstance(word, bool) else None
    return None if isinstance(value, bool) else _number(kind, value)


def _number(kind: str, value: str | int | float) -> int | float | None:
    try:
        if kind == "int" and not isinstance(value, float):
            return int(value)
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if kind == "int":
        return int(number) if number.is_integer() else None
    return number if math.isfinite(number) else None
