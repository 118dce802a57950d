"""Backend options: declared by the plugin, checked here, so every backend's are read the same way."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.errors import UnknownName, UsageError
from edgekit.files.tables import nearest
from edgekit.values import BackendSpec, OptionSpec
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


def backend_options(
    spec: BackendSpec, stage: str, *given: Mapping[str, OptionValue]
) -> dict[str, OptionValue]:
    """All options of `stage` ("compile" or "run"), defaults filled in; later mappings win.

    Text is converted to the declared type. Raises UnknownName for an undeclared option, UsageError
    for a value of the wrong type or outside the choices.
    """
    declared = {option.name: option for option in spec.options if option.stage == stage}
    values: dict[str, OptionValue] = {name: option.default for name, option in declared.items()}
    for mapping in given:
        for name, value in mapping.items():
            if name not in declared:
                raise UnknownName(
                    f"backend {spec.name!r} has no {stage} option {name!r}", hint=nearest(name, declared)
                )
            values[name] = _typed(spec.name, declared[name], value)
    return values


def _typed(backend: str, option: OptionSpec, value: OptionValue) -> OptionValue:
    converted = _convert(option.type, value)
    if converted is None:
        raise UsageError(
            f"option {option.name!r} of backend {backend!r} is {value!r}, not of type {option.type}",
            hint=option.help,
        )
    if option.choices and converted not in option.choices:
        choices = ", ".join(map(str, option.choices))
        raise UsageError(
            f"option {option.name!r} of backend {backend!r} is {value!r}", hint=f"choose from {choices}"
        )
    return converted


def _convert(kind: str, value: OptionValue) -> OptionValue | None:
    if kind == "bool":
        return value if isinstance(value, bool) else _WORDS.get(str(value).lower())
    if isinstance(value, bool):
        return None
    try:
        if kind == "int":
            return int(value) if not isinstance(value, float) or value.is_integer() else None
        return float(value) if kind == "float" else str(value)
    except ValueError:
        return None
