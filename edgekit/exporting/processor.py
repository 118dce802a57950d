"""The processor that travels with the model, proven to read texts as transformers does.

Parity is not assumed because both use one library: settings that live outside tokenizer.json
(truncation, padding side, lower-casing set at load time, Python subclasses) are where they part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgekit.errors import ExportWrong, SourceError
from edgekit.exporting.texts import TRICKY
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.processors import TextProcessor, TextSettings, write_text_processor
from edgekit_runtime.processors.base import Row
from edgekit_runtime.processors.text import TEXT_INPUTS, ParityCase

if TYPE_CHECKING:
    from edgekit_runtime.session import Array

#: transformers' word for "no limit known" is 1e30.
_NO_LIMIT = 1_000_000
#: Used when neither tokenizer nor model says how long a row may be.
FALLBACK_LENGTH = 512
#: Rows in the parity file stay short: the long ones are proven here and need not travel.
_TRAVELLING_CHARACTERS = 400


class HubTokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    model_max_length: int
    padding_side: str
    truncation_side: str
    pad_token_id: int | None
    pad_token_type_id: int
    model_input_names: list[str]
    all_special_ids: list[int]
    is_fast: bool

    def __call__(
        self,
        text: list[str],
        text_pair: list[str] | None = None,
        *,
        truncation: bool,
        max_length: int,
        padding: bool,
    ) -> Mapping[str, list[list[int]]]: ...


def travelling_processor(
    tokenizer: HubTokenizer, inputs: tuple[str, ...], max_length: int, directory: Path
) -> TextProcessor:
    """Write `directory` and prove it. Raises ExportWrong at the first row that is read differently."""
    if tokenizer.pad_token_id is None:
        raise SourceError(
            "the tokenizer has no padding token, so texts of different lengths make no batch",
            hint="set one before saving (`tokenizer.pad_token = tokenizer.eos_token`), with the model's"
            " config.pad_token_id equal to it",
        )
    tokenizer_json = _tokenizer_json(tokenizer)
    settings = TextSettings(
        inputs=inputs,
        max_length=max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        pad_id=tokenizer.pad_token_id,
        pad_type_id=tokenizer.pad_token_type_id if "token_type_ids" in inputs else 0,
    )
    rows = _rows_with_tokens(tokenizer, max_length)
    cases = [
        ParityCase(row=row, input_ids=tuple(_encode(tokenizer, [row], max_length)["input_ids"][0]))
        for row in rows
        if sum(map(len, row)) <= _TRAVELLING_CHARACTERS
    ]
    try:
        processor = write_text_processor(directory, tokenizer=tokenizer_json, settings=settings, parity=cases)
        _prove(tokenizer, processor, rows, max_length)
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


def _rows_with_tokens(tokenizer: HubTokenizer, max_length: int) -> list[Row]:
    """The tricky rows; without those that give no token at all, which no model can take."""
    return [row for row in TRICKY if _encode(tokenizer, [row], max_length)["input_ids"][0]]


def _encode(tokenizer: HubTokenizer, rows: Sequence[Row], max_length: int) -> Mapping[str, list[list[int]]]:
    texts = [row if isinstance(row, str) else row[0] for row in rows]
    pairs = None if isinstance(rows[0], str) else [row[1] for row in rows]
    return tokenizer(texts, pairs, truncation=True, max_length=max_length, padding=len(rows) > 1)


def _prove(tokenizer: HubTokenizer, processor: TextProcessor, rows: Sequence[Row], max_length: int) -> None:
    for row in rows:
        _compare(_encode(tokenizer, [row], max_length), processor.feeds([row]), repr(row)[:80])
    for batch in (
        [row for row in rows if isinstance(row, str)],
        [row for row in rows if not isinstance(row, str)],
    ):
        _compare(
            _encode(tokenizer, batch, max_length),
            processor.feeds(batch),
            f"a padded batch of {len(batch)} rows",
        )


def _compare(expected: Mapping[str, list[list[int]]], got: Mapping[str, Array], what: str) -> None:
    for name, array in got.items():
        wanted = expected[name]
        if array.tolist() != wanted:
            line, column = _first_difference(wanted, array.tolist())
            raise ExportWrong(
                f"the processor that would travel reads {what} differently from transformers:"
                f" {name} differs first in row {line}, token {column}",
                hint="save the tokenizer again with a current transformers; if it persists, please report it",
            )


def _first_difference(wanted: list[list[int]], got: list[list[int]]) -> tuple[int, int]:
    for line, (left, right) in enumerate(zip(wanted, got, strict=False)):
        if left != right:
            pairs = enumerate(zip(left, right, strict=False))
            return line, next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))
    return min(len(wanted), len(got)), 0
