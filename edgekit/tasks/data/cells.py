"""One cell of a data file, checked and turned into what its column holds.

`READERS[column.holds](where, cell, source)` gives the value or raises DataError; `where` names file, row
and column. Cells are JSON values. Those of CSV are texts: a list in one is JSON, or else its words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import DataError
from edgekit.tasks.base import (
    ANSWER,
    ANSWERS,
    AUDIO,
    BOXES,
    IMAGE,
    LABEL,
    LABELS,
    MASK,
    NUMBER,
    TAGS,
    TEXT,
    WORDS,
)
from edgekit.tasks.data.embedded import as_file, embedded_bytes, embedded_name
from edgekit.tasks.data.masks import read_mask

_SHOWN = 60
_MOST_LABELS = 20
_BOX_HINT = 'give {"box": [x, y, width, height], "label": "…"}, in pixels'


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What cells are read against. folder: where paths of media start; plain: cells are texts;
    labels: the model's, in class order; renamed: the user's words for them -> the model's."""

    folder: Path
    plain: bool
    labels: Sequence[str]
    renamed: Mapping[str, str]


Reader = Callable[[str, object, Source], Any]


# --- texts --------------------------------------------------------------------------------------------


def text(where: str, cell: object, source: Source) -> str:
    """A string."""
    if not isinstance(cell, str):
        raise _not(where, cell, "text", "give a string")
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError as problem:  # JSON can write half of a surrogate pair, which is no character
        raise DataError(
            f"{where} holds half a character at position {problem.start}",
            hint="write the file again as UTF-8",
        ) from None
    return cell


def words(where: str, cell: object, source: Source) -> tuple[str, ...]:
    """One word or more."""
    hint = 'give a list such as ["a", "good", "film"]'
    items = _items(where, cell, source, "a list of words", hint)
    if not items:
        raise DataError(f"{where} holds no words", hint=hint)
    found = tuple(text(f"{where}, item {place}", item, source) for place, item in enumerate(items, start=1))
    for place, word in enumerate(found, start=1):
        if not word.strip():
            raise DataError(f"{where}, item {place} is empty", hint=hint)
    return found


def answers(where: str, cell: object, source: Source) -> tuple[str, ...]:
    """Texts that are all right: one, or a list of them."""
    listed = _json_list(cell) if source.plain else cell
    items = listed if isinstance(listed, list) else [cell]
    if not items:
        raise DataError(f"{where} holds no answer", hint="give a text, or a list of texts that are right")
    return tuple(text(where, item, source) for item in items)


# --- labels ---------------------------------------------------------------------------------------------


def label(where: str, cell: object, source: Source) -> str:
    """The model's label that the cell means: through --labels, by its name, or by its number."""
    if not isinstance(cell, str | int) or cell == "":
        found = "nothing" if cell in (None, "") else _shown(cell)
        raise DataError(f"{where} holds {found}, not a label", hint=_label_hint(source))
    word = str(cell).lower() if isinstance(cell, bool) else str(cell).strip()
    if source.renamed:
        if word not in source.renamed:
            hint = f"it maps {', '.join(source.renamed)}; add {word!r} to it"
            raise DataError(f"{where} has the label {word!r}, which --labels does not map", hint=hint)
        word = source.renamed[word]
    if word in source.labels:
        return word
    if word.isascii() and word.isdecimal() and len(word) < 10 and int(word) < len(source.labels):
        return source.labels[int(word)]
    raise DataError(
        f"{where} has the label {word[:_SHOWN]!r}, which the model does not know", hint=_label_hint(source)
    )


def labels(where: str, cell: object, source: Source) -> tuple[str, ...]:
    """Labels in the model's order, each once; there may be none."""
    items = _items(where, cell, source, "a list of labels", 'give a list such as ["joy", "fear"], or []')
    found = {label(f"{where}, item {place}", item, source) for place, item in enumerate(items, start=1)}
    return tuple(word for word in source.labels if word in found)


def tags(where: str, cell: object, source: Source) -> tuple[str, ...]:
    """Labels, one for each word."""
    items = _items(where, cell, source, "a list of tags", 'give a list such as ["B-PER", "O"]')
    return tuple(label(f"{where}, item {place}", item, source) for place, item in enumerate(items, start=1))


def _label_hint(source: Source) -> str:
    shown = ", ".join(source.labels[:_MOST_LABELS]) + (", …" if len(source.labels) > _MOST_LABELS else "")
    return f"the model's labels: {shown}. Map yours with --labels YOURS=MODELS"


# --- numbers and boxes ------------------------------------------------------------------------------------


def number(where: str, cell: object, source: Source) -> float:
    """A finite number."""
    found = _number(cell, plain=source.plain)
    if found is None:
        raise _not(where, cell, "a finite number", "give a number such as 3.5")
    return found


def boxes(where: str, cell: object, source: Source) -> list[Mapping[str, object]]:
    """Boxes with their labels; there may be none."""
    listed = _json_list(cell) if source.plain else cell
    if not isinstance(listed, list):
        raise _not(where, cell, "a list of boxes", _BOX_HINT)
    return [_box(f"{where}, box {place}", item, source) for place, item in enumerate(listed, start=1)]


def _box(where: str, item: object, source: Source) -> Mapping[str, object]:
    if not isinstance(item, dict) or "box" not in item or "label" not in item:
        raise _not(where, item, "a box with its label", _BOX_HINT)
    given = item["box"]
    sides = [_number(side) for side in given] if isinstance(given, list) else []  # from JSON in CSV too
    numbers = [side for side in sides if side is not None]
    if len(sides) != 4 or len(numbers) != 4 or min(numbers[2:]) < 0:
        raise _not(where, given, "x, y, width and height", _BOX_HINT)
    crowd = item.get("crowd", False)
    if not isinstance(crowd, bool | int):
        raise _not(f"{where}, crowd", crowd, "true or false", "leave it out")
    return {"box": numbers, "label": label(where, item["label"], source), "crowd": bool(crowd)}


def _number(cell: object, plain: bool = False) -> float | None:
    """The cell as a finite number; of a text only where `plain`."""
    if isinstance(cell, bool) or not isinstance(cell, str if plain else int | float):
        return None
    try:
        found = float(cell)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


# --- files ----------------------------------------------------------------------------------------------


def media(where: str, cell: object, source: Source) -> Path:
    """The path of a file that exists; relative ones start at the data file's folder. What a cell holds
    itself is written to a temporary one."""
    content = embedded_bytes(cell)
    if content is not None:
        return as_file(content, cell)
    cell = embedded_name(cell)
    if isinstance(cell, dict):
        raise _not(where, cell, "a path", 'give a path, the bytes of a file, or {"bytes": …, "path": "…"}')
    name = text(where, cell, source)
    path = source.folder.absolute() / name
    try:
        found = bool(name) and path.is_file()
    except (OSError, ValueError):  # such as a name that is too long
        found = False
    if not found:
        what = "no path" if not name else f"{name[:_SHOWN]!r}: no such file"
        raise DataError(f"{where} holds {what}", hint=f"give a path as seen from {source.folder}")
    return path


def mask(where: str, cell: object, source: Source) -> Any:
    """The class number of each pixel: uint8 [height, width]."""
    return read_mask(where, media(where, cell, source))


READERS: Mapping[str, Reader] = {
    TEXT: text,
    WORDS: words,
    IMAGE: media,
    AUDIO: media,
    LABEL: label,
    LABELS: labels,
    TAGS: tags,
    NUMBER: number,
    ANSWER: text,
    ANSWERS: answers,
    BOXES: boxes,
    MASK: mask,
}


# --- lists and what is said of a cell ---------------------------------------------------------------------


def _items(where: str, cell: object, source: Source, wanted: str, hint: str) -> list[object]:
    listed = _json_list(cell) if source.plain else cell
    if isinstance(listed, list):
        return listed
    if source.plain and isinstance(cell, str):
        return list(cell.split())
    raise _not(where, cell, wanted, hint)


def _json_list(cell: object) -> list[object] | None:
    """The list that a text holds as JSON."""
    if not isinstance(cell, str) or not cell.lstrip().startswith("["):
        return None
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _not(where: str, cell: object, wanted: str, hint: str) -> DataError:
    found = "nothing" if cell is None else f"{type(cell).__name__} {_shown(cell)}"
    return DataError(f"{where} holds {found}, not {wanted}", hint=hint)


def _shown(cell: object) -> str:
    found = repr(cell)
    return found if len(found) <= _SHOWN else f"{found[: _SHOWN - 1]}…"
