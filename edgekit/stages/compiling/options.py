"""Backend options: declared by the plugin, checked here, so every backend's are read the same way."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.errors import UnknownName, UsageError
from edgekit.files.tables import nearest
from edgekit.targets.options import option_value, wanted_value
from edgekit.values import BackendSpec, OptionSpec
from edgekit_runtime.values import OptionValue


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
    converted = option_value(option, value)
    if converted is None:
        raise UsageError(
            f"option {option.name!r} of backend {backend!r} is {value!r}, which does not suit "
            f"{wanted_value(option)}",
            hint=option.help,
        )
    return converted
