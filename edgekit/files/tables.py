"""TOML and JSON <-> frozen dataclasses. The only room where untyped tables are handled."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgekit.errors import TargetFileError
from edgekit_runtime.errors import EdgekitError, ManifestError

T = TypeVar("T")
MAX_TABLE_BYTES = 64 * 1024 * 1024
MAX_TOML_BYTES = 1024 * 1024


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """A hint that names the known word closest to `word`, or lists them all."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "nothing is known under that name"


def decode(data: object, cls: type[T], *, where: str, error: type[EdgekitError] = ManifestError) -> T:
    """Turn plain data into `cls`; raise `error` naming the key for anything that does not fit."""
    import msgspec

    _refuse_unknown_keys(data, cls, where, "$", error)
    try:
        return msgspec.convert(data, cls)
    except msgspec.ValidationError as problem:
        raise error(f"{where}: {problem}", hint="mend the value named after the `$`") from None


def encode(value: object) -> Any:
    """Plain JSON-able data of a frozen value; None fields stay, paths become strings."""
    import msgspec

    return msgspec.to_builtins(value, enc_hook=_encode_path)


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a TOML file. Raises TargetFileError for anything else."""
    data = _read_bytes(path, MAX_TOML_BYTES, TargetFileError)
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        raise TargetFileError(f"{path}: not valid TOML: {problem}", hint="see targets/README.md") from None


def read_json(path: Path, error: type[EdgekitError] = ManifestError) -> Any:
    """The data of a JSON file (at most 64 MiB). Raises `error` naming the file."""
    data = _read_bytes(path, MAX_TABLE_BYTES, error)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not valid JSON: {problem}", hint="the file is damaged; make it again") from None


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON and flush it to disk."""
    text = json.dumps(encode(value), indent=2, ensure_ascii=False, allow_nan=False)
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _encode_path(value: object) -> object:
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, types.MappingProxyType):
        return dict(value)
    raise NotImplementedError(f"cannot write {type(value).__name__} to JSON")


def _read_bytes(path: Path, limit: int, error: type[EdgekitError]) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise error(f"{path}: not a file", hint="check the path")
        if path.stat().st_size > limit:
            raise error(f"{path}: larger than {limit} bytes", hint="this is not a file edgekit wrote")
        return path.read_bytes()
    except FileNotFoundError:
        raise error(f"{path}: no such file", hint="check the path") from None
    except OSError as problem:
        raise error(f"{path}: {problem.strerror}", hint="the file must be readable") from None


def _refuse_unknown_keys(data: object, cls: Any, where: str, at: str, error: type[EdgekitError]) -> None:
    """msgspec ignores unknown keys of dataclasses, so a typo would be a limit never checked."""
    cls = _dataclass_in(cls)
    if cls is None or not isinstance(data, Mapping):
        return
    hints = typing.get_type_hints(cls)
    for key, value in data.items():
        if key not in hints:
            raise error(f"{where}: unknown key `{at}.{key}`", hint=nearest(str(key), hints))
        inner, items = _element_type(hints[key], value)
        for suffix, item in items:
            _refuse_unknown_keys(item, inner, where, f"{at}.{key}{suffix}", error)


def _dataclass_in(cls: Any) -> Any:
    """The dataclass among the members of an annotation such as `Table | None`."""
    members = typing.get_args(cls) if typing.get_origin(cls) in (types.UnionType, typing.Union) else (cls,)
    return next((member for member in members if dataclasses.is_dataclass(member)), None)


def _element_type(annotation: Any, value: object) -> tuple[Any, list[tuple[str, object]]]:
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and isinstance(value, (list, tuple)):
        return arguments[0], [(f"[{index}]", item) for index, item in enumerate(value)]
    is_table = isinstance(value, Mapping) and len(arguments) == 2 and _dataclass_in(annotation) is None
    if is_table and isinstance(value, Mapping):
        return arguments[1], [(f".{key}", item) for key, item in value.items()]
    return annotation, [("", value)]
