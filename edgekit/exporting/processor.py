"""The processor that travels with the model, proven to read texts as transformers does.

Parity is not assumed because both use one library: settings that live outside tokenizer.json
(truncation, padding side, lower-casing set at load time, Python subclasses) are where they part.
"""

from __future__ import annotations

from collections.abc import ItemsView, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgekit.errors import ExportWrong, SourceError
from edgekit.exporting.texts import TRICKY
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.processors import TextProcessor, TextSettings, write_text_processor
from edgekit_runtime.processors.base import TextContext, TextRow, Words
from edgekit_runtime.processors.text import LONGEST_FIRST, ONLY_SECOND, TEXT_INPUTS, ParityCase

if TYPE_CHECKING:
    from tokenizers import Encoding

    from edgekit_runtime.session import Array

#: transformers' word for "no limit known" is 1e30.
_NO_LIMIT = 1_000_000
#: Used when neither tokenizer nor model says how long a row may be.
FALLBACK_LENGTH = 512
#: Rows in the parity file stay short: the long ones are proven here and need not travel.
_TRAVELLING_CHARACTERS = 400


class Encoded(Protocol):
    """What is used of what a transformers tokenizer gives."""

    def __getitem__(self, key: str) -> list[list[int]]: ...

    @property
    def encodings(self) -> list[Encoding]: ...

    def items(self) -> ItemsView[str, list[list[int]]]: ...

    def word_ids(self, batch_index: int) -> list[int | None]: ...


class HubTokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    model_max_length: int
    padding_side: str
    truncation_side: str
    pad_token_id: int | None
    pad_token_type_id: int
    mask_token: str | None
    mask_token_id: int | None
    model_input_names: list[str]
    all_special_ids: list[int]
    is_fast: bool

    def __call__(
        self,
        text: list[str] | list[list[str]],
        text_pair: list[str] | None = None,
        *,
        truncation: bool | str,
        max_length: int,
        padding: bool,
        is_split_into_words: bool = False,
    ) -> Encoded: ...

    def decode(
        self, token_ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool
    ) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a task has texts read. truncation: of pairs; rows: what is compared with transformers."""

    truncation: str = LONGEST_FIRST
    rows: tuple[TextRow | Words, ...] = TRICKY


def travelling_processor(
    tokenizer: HubTokenizer,
    inputs: tuple[str, ...],
    max_length: int,
    directory: Path,
    reading: Reading | None = None,
) -> TextProcessor:
    """Write `directory` and prove it. Raises ExportWrong at the first row that is read differently."""
    if tokenizer.pad_token_id is None:
        raise SourceError(
            "the tokenizer has no padding token, so texts of different lengths make no batch",
            hint="set one before saving (`tokenizer.pad_token = tokenizer.eos_token`), with the model's"
            " config.pad_token_id equal to it",
        )
    tokenizer_json = _tokenizer_json(tokenizer)
    reading = reading or Reading()
    settings = TextSettings(
        inputs=inputs,
        max_length=max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        truncation=reading.truncation,
        pad_id=tokenizer.pad_token_id,
        pad_type_id=tokenizer.pad_token_type_id if "token_type_ids" in inputs else 0,
        mask_id=tokenizer.mask_token_id,
    )
    original = _Original(tokenizer=tokenizer, max_length=max_length, truncation=reading.truncation)
    rows = [row for row in reading.rows if original.takes(row)]
    cases = [
        ParityCase(row=row, input_ids=tuple(original.encode([row])["input_ids"][0]))
        for row in rows
        if sum(map(len, row.words if isinstance(row, Words) else row)) <= _TRAVELLING_CHARACTERS
    ]
    try:
        processor = write_text_processor(directory, tokenizer=tokenizer_json, settings=settings, parity=cases)
        _prove(original, processor, rows)
    except ExportWrong:
        raise
    except EdgekitError as problem:
        raise ExportWrong(
            f"the tokenizer does not work on a device as it does here: {problem.message}",
            hint="save the tokenizer again with a current transformers, or set --max-length",
        ) from problem
    return processor


def text_inputs(tokenizer: HubTokenizer, parameters: Sequence[str]) -> tuple[str, ...]:
    """The model's inputs that the tokenizer gives, in the graph's order."""
    given = [name for name in TEXT_INPUTS if name in tokenizer.model_input_names and name in parameters]
    if "input_ids" not in given:
        raise SourceError(
            "the model takes no input_ids, so texts cannot be fed to it", hint="is it a text model?"
        )
    return tuple(given)


def choose_max_length(tokenizer: HubTokenizer, positions: int | None, asked: int | None) -> int:
    """Tokens a row may have: as asked, within what tokenizer and model take."""
    limits = [limit for limit in (tokenizer.model_max_length, positions) if limit and limit < _NO_LIMIT]
    limit = min(limits) if limits else None
    if asked is None:
        return limit or FALLBACK_LENGTH
    if positions is not None and asked > positions:
        raise SourceError(
            f"max_length {asked} is more than the model's {positions} positions",
            hint=f"give at most {positions}",
        )
    return asked


def _tokenizer_json(tokenizer: HubTokenizer) -> bytes:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not tokenizer.is_fast or backend is None:
        raise SourceError(
            f"a {type(tokenizer).__name__} runs in Python only and cannot travel to a device",
            hint="convert it to a fast tokenizer (tokenizer.json) first",
        )
    return str(backend.to_str(pretty=False)).encode("utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Original:
    """The tokenizer of transformers, called as the task calls it."""

    tokenizer: HubTokenizer
    max_length: int
    truncation: str

    def encode(self, rows: Sequence[TextRow | Words]) -> Encoded:
        """A batch of rows of one kind, padded when there are several."""
        pairs = [row[1] for row in rows if isinstance(row, tuple)]
        return self.tokenizer(
            [_first(row) for row in rows],  # type: ignore[arg-type]  # rows are of one kind
            pairs or None,
            truncation=self.truncation if pairs else True,
            max_length=self.max_length,
            padding=len(rows) > 1,
            is_split_into_words=isinstance(rows[0], Words),
        )

    def takes(self, row: TextRow | Words) -> bool:
        """Whether the row gives tokens, and the first of a pair leaves room where only the second is cut."""
        if isinstance(row, tuple) and self.truncation == ONLY_SECOND:
            return len(self.encode([row[0]])["input_ids"][0]) <= self.max_length // 2
        return bool(self.encode([row])["input_ids"][0])


def _first(row: TextRow | Words) -> str | list[str]:
    if isinstance(row, Words):
        return list(row.words)
    return row if isinstance(row, str) else row[0]


def _prove(original: _Original, processor: TextProcessor, rows: Sequence[TextRow | Words]) -> None:
    for row in rows:
        encoded, prepared = original.encode([row]), processor.prepare([row])
        what = repr(row)[:80]
        _compare(encoded, prepared.feeds, what)
        for context in prepared.contexts:
            _compare_places(encoded, context, what)
    for kind in (str, tuple, Words):
        batch = [row for row in rows if isinstance(row, kind)]
        if batch:
            what = f"a padded batch of {len(batch)} rows"
            _compare(original.encode(batch), processor.feeds(batch), what)


def _compare(expected: Encoded, got: Mapping[str, Array], what: str) -> None:
    for name, array in got.items():
        wanted = expected[name]
        if array.tolist() != wanted:
            line, column = _first_difference(wanted, array.tolist())
            raise _differently(what, f"{name} differs first in row {line}, token {column}")


def _compare_places(expected: Encoded, got: object, what: str) -> None:
    """Where in the text each token stands: tags and spans are read by it."""
    if not isinstance(got, TextContext):
        raise _differently(what, "it keeps no places of tokens")

    if expected.encodings[0].offsets != list(got.offsets):
        raise _differently(what, "tokens stand at other characters")
    if expected.word_ids(0) != list(got.words):
        raise _differently(what, "tokens are of other words")


def _differently(what: str, how: str) -> ExportWrong:
    return ExportWrong(
        f"the processor that would travel reads {what} differently from transformers: {how}",
        hint="save the tokenizer again with a current transformers; if it persists, please report it",
    )


def _first_difference(wanted: list[list[int]], got: list[list[int]]) -> tuple[int, int]:
    for line, (left, right) in enumerate(zip(wanted, got, strict=False)):
        if left != right:
            pairs = enumerate(zip(left, right, strict=False))
            return line, next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))
    return min(len(wanted), len(got)), 0
