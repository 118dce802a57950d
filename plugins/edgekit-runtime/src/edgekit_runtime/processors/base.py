"""What every kind of processor does: turn a user's rows into a model's feeds, on the device too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgekit_runtime.errors import EdgekitError, InputError
from edgekit_runtime.session import Array
from edgekit_runtime.strictjson import Fields

PROCESSOR_FILE = "processor.json"
PROCESSOR_SCHEMA = 1


# --- rows ---------------------------------------------------------------------------------------------

#: A text, or a pair of texts. Goldens and parity cases may show these.
TextRow = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Words:
    """A text that is split into words already, as tags are given for it."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """pixels: uint8 [height, width, 3], RGB, upright."""

    pixels: Array


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """samples: float32 [samples], one channel, in [-1, 1]; rate: samples in a second."""

    samples: Array
    rate: int


#: One row of input. A processor takes the rows of its kind; of images and audio also the file's path.
Row = str | tuple[str, str] | Words | Path | Image | Audio


# --- batches ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is needed of a row, beside the outputs, to read its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextContext(Context):
    """row: as given; the others have an entry for each token of the row, padding left out.

    offsets: (start, end) in characters of the token's text (where the row is Words, of its word), (0, 0)
    for special tokens; texts: which text of a pair the token is of, None for special tokens; words:
    index of the token's word in its text, None for special tokens; first: place of the first of these
    tokens in the padded feeds; masked: places of mask tokens among them.
    """

    row: str | tuple[str, str] | Words
    offsets: tuple[tuple[int, int], ...]
    texts: tuple[int | None, ...]
    words: tuple[int | None, ...]
    first: int = 0
    masked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageContext(Context):
    """size: (height, width) of the image as it was given, upright; seen: (top, left, bottom, right), the
    part of it that the model sees, in its pixels."""

    size: tuple[int, int]
    seen: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioContext(Context):
    """seconds: how long the audio is."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """One batch. feeds: by input, the first axis is the batch; contexts: one for each row of it."""

    feeds: dict[str, Array]
    contexts: tuple[Context, ...] = field(default=())


@runtime_checkable
class Processor(Protocol):
    """An opened processor directory."""

    @property
    def kind(self) -> str:
        """The word in processor.json that chose this class."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """The model inputs that `feeds` makes, no more and no fewer."""

    def prepare(self, rows: Sequence[Row], *, pad_to: int | None = None) -> Prepared:
        """One batch. Padded to the longest row, or to exactly `pad_to` (longer rows are cut).

        Raises `InputError` naming the row that cannot be taken.
        """

    def feeds(self, rows: Sequence[Row], *, pad_to: int | None = None) -> dict[str, Array]:
        """The feeds of `prepare`."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text that these ids of the model's vocabulary stand for, special ones left out.

        Raises `InputError` when this kind has no vocabulary.
        """

    def check_parity(self) -> int:
        """Repeat the recorded cases; how many there are.

        Raises `SelfTestFailed` when this machine's libraries read a row differently.
        """


# --- rows of text -------------------------------------------------------------------------------------


def check_rows(rows: Sequence[object]) -> list[TextRow | Words]:
    """`rows` with their types checked; raises `InputError` naming the first that is no text."""
    if isinstance(rows, str):
        raise InputError("rows must be a list of texts, found one text", hint="put it in a list: [text]")
    return [_text_or_words(row, where=f"row {index}") for index, row in enumerate(rows)]


def parse_row(value: object, *, where: str, error: type[EdgekitError]) -> TextRow:
    """A text, or a tuple or list of two texts; raises `error` for anything else."""
    if isinstance(value, str):
        return _text(value, where, error)
    if not isinstance(value, tuple | list):
        raise error(f"{where} must be a text or a pair of texts, found {type(value).__name__}")
    if len(value) != 2:
        raise error(f"{where} must be a text or a pair of texts, found {len(value)} values")
    return _text(value[0], where, error), _text(value[1], where, error)


def row_from_json(value: object, *, where: str, error: type[EdgekitError]) -> TextRow | Words:
    """The row that `row_json` wrote; raises `error` for anything else."""
    if not isinstance(value, dict):
        return parse_row(value, where=where, error=error)
    fields = Fields(value, known=("words",), where=where, error=error)
    return _words(Words(fields.texts("words")), where, error)


def row_json(row: TextRow | Words) -> str | list[str] | dict[str, list[str]]:
    """The row as JSON keeps it: "text", ["one", "other"] or {"words": ["each", "word"]}."""
    if isinstance(row, Words):
        return {"words": list(row.words)}
    return row if isinstance(row, str) else list(row)


def _text_or_words(value: object, where: str) -> TextRow | Words:
    if isinstance(value, Words):
        return _words(value, where, InputError)
    return parse_row(value, where=where, error=InputError)


def _words(value: Words, where: str, error: type[EdgekitError]) -> Words:
    if not value.words:
        raise error(f"{where} holds no words")
    return Words(tuple(_text(word, where, error) for word in value.words))


def _text(value: object, where: str, error: type[EdgekitError]) -> str:
    if not isinstance(value, str):
        raise error(f"{where} must be a text or a pair of texts, found {type(value).__name__} in a pair")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise error(f"{where} holds half a character, which no encoding can carry: {value[:40]!r}")
    return value
