"""Reading JSON that nobody has vouched for: each key known, each value of its type.

The runtime has no schema library; these few lines say which file and key is wrong instead.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from pathlib import Path

from edgekit_runtime.errors import EdgekitError

ErrorType = type[EdgekitError]

#: Far beyond what any setting needs, and far below what float32 holds.
LARGEST_NUMBER = 1e30


def parse_json(data: bytes, *, where: str, error: ErrorType) -> object:
    """The value in `data`; duplicate keys, NaN, bad UTF-8 and bottomless nesting are refused."""
    try:
        value: object = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
        dump_json(value)  # a "\\ud800" is JSON, but half a character that no file or terminal can hold
    except (ValueError, RecursionError) as exc:
        reason = str(exc) or "nested too deeply"
        raise error(f"{where} is not valid JSON: {reason}") from exc
    return value


def read_json_file(path: Path, *, error: ErrorType) -> object:
    """The value in the file at `path`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as exc:
        raise error(f"{path} is missing") from exc
    except OSError as exc:
        raise error(f"{path} cannot be read: {exc.strerror or exc}") from exc
    return parse_json(data, where=str(path), error=error)


def dump_json(value: object) -> bytes:
    """The bytes edgekit writes for `value`: readable, one form only, UTF-8, final newline."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8") + b"\n"


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word nearest to `word`, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def number(value: object, where: str, *, error: ErrorType) -> float:
    """A number of JSON, of any size that computing can go on with; raises `error` for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER:
        return float(value)
    raise error(f"{where} must be a finite number, found {value!r:.60}")


def check_schema(value: object, supported: int, *, where: str, error: ErrorType) -> None:
    """Refuse a file that another version of the format wrote."""
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != supported or isinstance(schema, bool):
        newer = isinstance(schema, int) and schema > supported
        raise error(
            f"{where}: schema is {schema!r}, this edgekit-runtime reads schema {supported}",
            hint="update edgekit-runtime to the version that wrote the file" if newer else "",
        )


class Fields:
    """One JSON object, read key by key. `known` lists every key it may have."""

    def __init__(self, value: object, *, known: Iterable[str], where: str, error: ErrorType) -> None:
        if not isinstance(value, dict):
            raise error(f"{where} must be an object, found {_kind(value)}")
        self._value: dict[str, object] = value
        self._where = where
        self._error = error
        names = tuple(known)
        for key in value:
            if key not in names:
                raise error(f"{where} has the unknown key {key!r}", hint=nearest(key, names))

    def has(self, key: str) -> bool:
        """Whether `key` is there."""
        return key in self._value

    def where(self, key: str) -> str:
        """The key's place, for messages."""
        return f"{self._where}: {key}"

    def raw(self, key: str) -> object:
        """The value of `key`, whatever it is."""
        if key not in self._value:
            raise self._error(f"{self._where} lacks the key {key!r}")
        return self._value[key]

    def text(self, key: str) -> str:
        """A string."""
        return self._string(self.raw(key), key)

    def whole(self, key: str, *, low: int = 0) -> int:
        """An integer of at least `low`."""
        value = self.raw(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise self._wrong(key, f"an integer of at least {low}", value)
        return value

    def items(self, key: str) -> list[object]:
        """A list."""
        value = self.raw(key)
        if not isinstance(value, list):
            raise self._wrong(key, "a list", value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        return tuple(self._string(item, key) for item in self.items(key))

    def _string(self, value: object, key: str) -> str:
        if not isinstance(value, str):
            raise self._wrong(key, "a string", value)
        return value

    def _wrong(self, key: str, wanted: str, value: object) -> EdgekitError:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else _kind(value)
        return self._error(f"{self.where(key)} must be {wanted}, found {shown}")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} occurs twice")
        result[key] = value
    return result


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
