"""Frozen dataclasses to JSON and back, strictly: unknown keys, missing keys and wrong types are errors.

Works for the values of this package and for any other frozen dataclass of plain types: str, int,
float, bool, None, Path, StrEnum, tuple[X, ...], Mapping[str, X], unions, and dataclasses of these.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TypeVar

from edgekit_runtime.errors import ProtocolError
from edgekit_runtime.frames import JsonValue
from edgekit_runtime.values import Machine, OperatorTime, Placement, Signature

T = TypeVar("T")


class Table(Mapping[str, JsonValue]):
    """A JSON object with typed readers that say what is missing or wrong."""

    def __init__(self, values: Mapping[str, JsonValue], *, where: str = "") -> None:
        self._values = values
        self._where = where

    def __getitem__(self, key: str) -> JsonValue:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def text(self, key: str, default: str | None = None) -> str:
        """The string under `key`."""
        value = self._values.get(key, default)
        return value if isinstance(value, str) else self._wrong(key, "a string")

    def integer(self, key: str, default: int | None = None) -> int:
        """The whole number under `key`."""
        value = self._values.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        return self._wrong(key, "a whole number")

    def number(self, key: str, default: float | None = None) -> float:
        """The number under `key`."""
        value = self._values.get(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        return self._wrong(key, "a number")

    def flag(self, key: str, default: bool | None = None) -> bool:
        """The true or false under `key`."""
        value = self._values.get(key, default)
        return value if isinstance(value, bool) else self._wrong(key, "true or false")

    def table(self, key: str) -> Table:
        """The object under `key`; an empty one when it is not there."""
        value = self._values.get(key, {})
        if isinstance(value, Mapping):
            return Table(value, where=f"{self._where}.{key}" if self._where else key)
        return self._wrong(key, "a table")

    def _wrong(self, key: str, wanted: str) -> typing.NoReturn:
        raise _wrong(f"{self._where}.{key}" if self._where else key, wanted, self._values.get(key))


def to_json(value: object) -> JsonValue:
    """A value of plain types and dataclasses as JSON data."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum):
        return to_json(value.value)
    if isinstance(value, str):
        return value
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [to_json(item) for item in value]
    raise ProtocolError(f"a {type(value).__name__} cannot be written as JSON")


def from_json(cls: type[T], data: JsonValue, where: str = "") -> T:
    """The `cls` that `to_json` wrote. Raises `ProtocolError` naming the key that does not fit."""
    return typing.cast(T, _read(cls, data, where or cls.__name__))


def signature_from_json(data: JsonValue) -> Signature:
    """A signature."""
    return from_json(Signature, data)


def placement_from_json(data: JsonValue) -> Placement:
    """A placement."""
    return from_json(Placement, data)


def machine_from_json(data: JsonValue) -> Machine:
    """A machine's fingerprint."""
    return from_json(Machine, data)


def profile_from_json(data: JsonValue) -> tuple[OperatorTime, ...]:
    """A profile: the operators, costliest first."""
    if not isinstance(data, Sequence) or isinstance(data, str):
        raise _wrong("profile", "a list", data)
    return tuple(from_json(OperatorTime, item, f"profile[{index}]") for index, item in enumerate(data))


@cache
def _hints(cls: type) -> dict[str, object]:
    return typing.get_type_hints(cls)


def _read(kind: object, data: JsonValue, where: str) -> object:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _union(typing.get_args(kind), data, where)
    if origin is tuple:
        return _tuple(typing.get_args(kind), data, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(typing.get_args(kind), data, where)
    if isinstance(kind, type):
        return _record(kind, data, where) if is_dataclass(kind) else _scalar(kind, data, where)
    raise _wrong(where, "a supported type", data)


def _record(cls: type, data: JsonValue, where: str) -> object:
    if not isinstance(data, Mapping):
        raise _wrong(where, f"a {cls.__name__}", data)
    hints = _hints(cls)
    known = {item.name: item for item in fields(cls)}
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise ProtocolError(f"{where} has unknown keys: {', '.join(unknown)}")
    values: dict[str, object] = {}
    for name, item in known.items():
        if name in data:
            values[name] = _read(hints[name], data[name], f"{where}.{name}")
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ProtocolError(f"{where} lacks {name}")
    made: object = cls(**values)
    return made


def _union(kinds: tuple[object, ...], data: JsonValue, where: str) -> object:
    for exact in kinds:
        if isinstance(exact, type) and type(data) is exact:
            return data
    for kind in kinds:
        try:
            return _read(kind, data, where)
        except ProtocolError:
            continue
    names = " or ".join(kind.__name__ if isinstance(kind, type) else str(kind) for kind in kinds)
    raise _wrong(where, names, data)


def _tuple(kinds: tuple[object, ...], data: JsonValue, where: str) -> object:
    if not isinstance(data, Sequence) or isinstance(data, str):
        raise _wrong(where, "a list", data)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_read(kinds[0], item, f"{where}[{index}]") for index, item in enumerate(data))
    if len(kinds) != len(data):
        raise _wrong(where, f"a list of {len(kinds)}", data)
    pairs = enumerate(zip(kinds, data, strict=True))
    return tuple(_read(kind, item, f"{where}[{index}]") for index, (kind, item) in pairs)


def _mapping(kinds: tuple[object, ...], data: JsonValue, where: str) -> object:
    if not isinstance(data, Mapping):
        raise _wrong(where, "a table", data)
    return {key: _read(kinds[1], item, f"{where}.{key}") for key, item in data.items()}


def _scalar(kind: type, data: JsonValue, where: str) -> object:
    if kind is type(None) and data is None:
        return None
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError as error:
            raise _wrong(where, "a number that computing can go on with", data) from error
    if issubclass(kind, Enum):
        try:
            return kind(data)
        except ValueError as error:
            raise _wrong(where, f"a {kind.__name__}", data) from error
    if issubclass(kind, Path) and isinstance(data, str):
        return kind(data)
    if kind in (str, int, float, bool) and type(data) is kind:
        return data
    raise _wrong(where, f"a {kind.__name__}", data)


def _wrong(where: str, wanted: str, data: JsonValue) -> ProtocolError:
    shown = repr(data)
    return ProtocolError(f"{where} must be {wanted}, not {shown[:80]}{'...' if len(shown) > 80 else ''}")
