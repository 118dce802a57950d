"""What every kind of processor does: turn a user's rows into a model's feeds, on the device too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from edgekit_runtime.errors import EdgekitError, InputError
from edgekit_runtime.session import Array

#: One row of text input: a text, or a pair of texts.
Row = str | tuple[str, str]

PROCESSOR_FILE = "processor.json"
PROCESSOR_SCHEMA = 1


@runtime_checkable
class Processor(Protocol):
    """An opened processor directory."""

    @property
    def kind(self) -> str:
        """The word in processor.json that chose this class."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """The model inputs that `feeds` makes, no more and no fewer."""

    def feeds(self, rows: Sequence[Row], *, pad_to: int | None = None) -> dict[str, Array]:
        """One batch. Padded to the longest row, or to exactly `pad_to` (longer rows are cut).

        Raises `InputError` naming the row that cannot be taken.
        """

    def check_parity(self) -> int:
        """Repeat the recorded cases; how many there are.

        Raises `SelfTestFailed` when this machine's libraries read a row differently.
        """


def check_rows(rows: Sequence[object]) -> list[Row]:
    """`rows` with their types checked; raises `InputError` naming the first that is no text."""
    if isinstance(rows, str):
        raise InputError("rows must be a list of texts, found one text", hint="put it in a list: [text]")
    return [parse_row(row, where=f"row {index}", error=InputError) for index, row in enumerate(rows)]


def parse_row(value: object, *, where: str, error: type[EdgekitError]) -> Row:
    """A text, or a tuple or list of two texts; raises `error` for anything else."""
    if isinstance(value, str):
        return _text(value, where, error)
    if not isinstance(value, tuple | list):
        raise error(f"{where} must be a text or a pair of texts, found {type(value).__name__}")
    if len(value) != 2:
        raise error(f"{where} must be a text or a pair of texts, found {len(value)} values")
    return _text(value[0], where, error), _text(value[1], where, error)


def row_json(row: Row) -> str | list[str]:
    """The row as JSON keeps it."""
    return row if isinstance(row, str) else list(row)


def _text(value: object, where: str, error: type[EdgekitError]) -> str:
    if not isinstance(value, str):
        raise error(f"{where} must be a text or a pair of texts, found {type(value).__name__} in a pair")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise error(f"{where} holds half a character, which no encoding can carry: {value[:40]!r}")
    return value
