"""Text rows to token feeds, by the model's own tokenizer.json. No transformers needed.

processor.json    {"schema": 1, "kind": "text", "inputs": [...], "max_length": 128, ...}
tokenizer.json    as the `tokenizers` library saves it; its own padding and truncation are not used
parity.json       {"schema": 1, "cases": [{"row": ROW, "input_ids": [...]}]}, ROW as `row_json` has it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit_runtime.errors import InputError, MissingDependency, ProcessorError, SelfTestFailed
from edgekit_runtime.processors.base import (
    PROCESSOR_FILE,
    PROCESSOR_SCHEMA,
    Prepared,
    Row,
    TextContext,
    TextRow,
    Words,
    check_rows,
    row_from_json,
    row_json,
)
from edgekit_runtime.processors.parity import read_cases, write_cases
from edgekit_runtime.session import Array
from edgekit_runtime.strictjson import Fields, check_schema, dump_json, nearest, read_json_file

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

TOKENIZER_FILE = "tokenizer.json"

#: Model inputs this processor can make.
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")

#: How pairs are cut: a token at a time from the longer text, or the second text alone.
LONGEST_FIRST, ONLY_SECOND = "longest_first", "only_second"

_CHOICES = {
    "padding_side": ("left", "right"),
    "truncation_side": ("left", "right"),
    "truncation": (LONGEST_FIRST, ONLY_SECOND),
}
_WHOLE = ("pad_id", "pad_type_id", "mask_id")
_KEYS = ("schema", "kind", "inputs", "max_length", *_CHOICES, *_WHOLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """The content of processor.json.

    inputs: the model's inputs, a subset of `TEXT_INPUTS` in the order of its graph;
    max_length: tokens a row may have, special tokens counted; longer rows are cut;
    truncation: which text of a pair is cut; mask_id: the token that stands for a missing word, None
    when the model has none.
    """

    inputs: tuple[str, ...]
    max_length: int
    padding_side: str = "right"
    truncation_side: str = "right"
    truncation: str = LONGEST_FIRST
    pad_id: int = 0
    pad_type_id: int = 0
    mask_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityCase:
    """A row and the ids that the original tokenizer made of it, cut but not padded."""

    row: TextRow | Words
    input_ids: tuple[int, ...]


class TextProcessor:
    """A tokenizer with fixed settings. Not for use by several threads at once."""

    kind = "text"

    def __init__(
        self, tokenizer: Tokenizer, settings: TextSettings, parity: Sequence[ParityCase] = ()
    ) -> None:
        self.settings = settings
        self.parity = tuple(parity)
        self._tokenizer = tokenizer
        self._cut = (0, "")
        tokenizer.no_padding()
        reserved = tokenizer.num_special_tokens_to_add(False)
        if settings.max_length <= reserved:
            raise ProcessorError(
                f"max_length {settings.max_length} leaves no room for text beside {reserved} special tokens"
            )

    @property
    def input_names(self) -> tuple[str, ...]:
        """The model inputs that `feeds` makes."""
        return self.settings.inputs

    def prepare(self, rows: Sequence[Row], *, pad_to: int | None = None) -> Prepared:
        """One batch of int64 feeds, padded to the longest row or to exactly `pad_to` tokens."""
        checked = check_rows(rows)
        if not checked:
            raise InputError("there are no rows to make feeds of")
        limit = self._row_limit(pad_to)
        encodings = [self._encode(row, index, limit) for index, row in enumerate(checked)]
        width = max(len(encoding.ids) for encoding in encodings) if pad_to is None else pad_to
        values = {
            "input_ids": ([e.ids for e in encodings], self.settings.pad_id),
            "attention_mask": ([[1] * len(e.ids) for e in encodings], 0),
            "token_type_ids": ([e.type_ids for e in encodings], self.settings.pad_type_id),
        }
        contexts = [self._context(*pair, width=width) for pair in zip(checked, encodings, strict=True)]
        return Prepared(
            feeds={name: self._fill(*values[name], width=width) for name in self.settings.inputs},
            contexts=tuple(contexts),
        )

    def feeds(self, rows: Sequence[Row], *, pad_to: int | None = None) -> dict[str, Array]:
        """The feeds of `prepare`."""
        return self.prepare(rows, pad_to=pad_to).feeds

    def decode(self, ids: Sequence[int]) -> str:
        """The text that these tokens stand for, special tokens left out."""
        return self._tokenizer.decode([int(token) for token in ids], skip_special_tokens=True)

    def check_parity(self) -> int:
        """Tokenize the recorded cases again; raise `SelfTestFailed` for the first that differs."""
        for number, case in enumerate(self.parity):
            ids = self._encode(case.row, number, self.settings.max_length).ids
            if tuple(ids) != case.input_ids:
                raise SelfTestFailed(
                    f"parity case {number}, {_shown(case.row)}: {_difference(ids, case.input_ids)}",
                    hint="the installed `tokenizers` reads text differently; install the model's version",
                )
        return len(self.parity)

    def _row_limit(self, pad_to: int | None) -> int:
        if pad_to is None:
            return self.settings.max_length
        if not 1 <= pad_to <= self.settings.max_length:
            raise InputError(
                f"rows cannot be padded to {pad_to} tokens: this model takes 1 to {self.settings.max_length}"
            )
        return pad_to

    def _encode(self, row: TextRow | Words, index: int, limit: int) -> Encoding:
        pair = isinstance(row, tuple)
        # `tokenizers` does not cut at all, without a word, when the special tokens alone fill the limit.
        if limit <= self._tokenizer.num_special_tokens_to_add(pair):
            raise InputError(f"row {index} does not fit: {limit} tokens hold no more than the special tokens")
        self._cut_to(limit, self.settings.truncation if pair else LONGEST_FIRST)
        try:
            if isinstance(row, Words):
                encoding = self._tokenizer.encode(list(row.words), is_pretokenized=True)
            else:
                encoding = self._tokenizer.encode(*((row,) if isinstance(row, str) else row))
        except Exception as exc:
            if type(exc) is not Exception:  # the library's own error class
                raise
            room = f"the first text must leave room for some of the second in {limit} tokens"
            only_second = pair and self.settings.truncation == ONLY_SECOND
            raise InputError(
                f"row {index} cannot be made into tokens: {exc}", hint=room if only_second else ""
            ) from exc
        if not encoding.ids:
            raise InputError(f"row {index} gives no tokens: {_shown(row)}")
        return encoding

    def _cut_to(self, limit: int, strategy: str) -> None:
        if (limit, strategy) != self._cut:
            side = self.settings.truncation_side
            self._tokenizer.enable_truncation(limit, strategy=strategy, direction=side)
            self._cut = (limit, strategy)

    def _context(self, row: TextRow | Words, encoding: Encoding, *, width: int) -> TextContext:
        ids = encoding.ids
        return TextContext(
            row=row,
            offsets=tuple(encoding.offsets),
            texts=tuple(encoding.sequence_ids),
            words=tuple(encoding.word_ids),
            first=0 if self.settings.padding_side == "right" else width - len(ids),
            masked=tuple(place for place, token in enumerate(ids) if token == self.settings.mask_id),
        )

    def _fill(self, rows: Sequence[Sequence[int]], filler: int, *, width: int) -> Array:
        batch = np.full((len(rows), width), filler, dtype=np.int64)
        for line, values in zip(batch, rows, strict=True):
            if self.settings.padding_side == "right":
                line[: len(values)] = values
            else:
                line[width - len(values) :] = values
        return batch


def load_text(directory: Path) -> TextProcessor:
    """Open a text processor. Raises `ProcessorError`, or `MissingDependency` without `tokenizers`."""
    settings = _read_settings(directory / PROCESSOR_FILE)
    parity = read_cases(directory, _parity_case)
    try:
        return TextProcessor(read_tokenizer(directory / TOKENIZER_FILE), settings, parity)
    except ProcessorError as exc:
        raise ProcessorError(f"{directory}: {exc.message}", hint=exc.hint) from exc


def write_text_processor(
    directory: Path, *, tokenizer: bytes, settings: TextSettings, parity: Sequence[ParityCase]
) -> TextProcessor:
    """Write a processor directory (made when missing) and open it as a device would."""
    directory.mkdir(parents=True, exist_ok=True)
    table: dict[str, object] = {"schema": PROCESSOR_SCHEMA, "kind": TextProcessor.kind}
    table |= {key: getattr(settings, key) for key in _KEYS if key not in table}
    if settings.mask_id is None:
        del table["mask_id"]
    (directory / PROCESSOR_FILE).write_bytes(dump_json(table))
    (directory / TOKENIZER_FILE).write_bytes(tokenizer)
    cases = [{"row": row_json(case.row), "input_ids": list(case.input_ids)} for case in parity]
    write_cases(directory, cases)
    return load_text(directory)


def _read_settings(path: Path) -> TextSettings:
    value = read_json_file(path, error=ProcessorError)
    check_schema(value, PROCESSOR_SCHEMA, where=str(path), error=ProcessorError)
    fields = Fields(value, known=_KEYS, where=str(path), error=ProcessorError)
    inputs = fields.texts("inputs")
    for name in inputs:
        if name not in TEXT_INPUTS:
            raise ProcessorError(
                f"{path}: a text processor cannot make {name!r}", hint=nearest(name, TEXT_INPUTS)
            )
    if "input_ids" not in inputs or len(set(inputs)) != len(inputs):
        raise ProcessorError(f"{path}: inputs must name 'input_ids' and none twice, found {list(inputs)}")
    words = {key: fields.text(key) for key in _CHOICES if fields.has(key)}
    for key, word in words.items():
        if word not in _CHOICES[key]:
            known = " or ".join(map(repr, _CHOICES[key]))
            raise ProcessorError(f"{path}: {key} must be {known}, found {word!r}")
    ids = {key: fields.whole(key) for key in _WHOLE if fields.has(key)}
    return TextSettings(
        inputs=inputs,
        max_length=fields.whole("max_length", low=1),
        padding_side=words.get("padding_side", "right"),
        truncation_side=words.get("truncation_side", "right"),
        truncation=words.get("truncation", LONGEST_FIRST),
        pad_id=ids.get("pad_id", 0),
        pad_type_id=ids.get("pad_type_id", 0),
        mask_id=ids.get("mask_id"),
    )


def _parity_case(item: object, where: str) -> ParityCase:
    fields = Fields(item, known=("row", "input_ids"), where=where, error=ProcessorError)
    ids = fields.items("input_ids")
    whole = tuple(
        value for value in ids if isinstance(value, int) and not isinstance(value, bool) and value >= 0
    )
    if len(whole) != len(ids):
        raise ProcessorError(f"{where}: input_ids must be token ids")
    return ParityCase(
        row=row_from_json(fields.raw("row"), where=where, error=ProcessorError), input_ids=whole
    )


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a file. Raises `ProcessorError`, or `MissingDependency` without `tokenizers`."""
    try:
        from tokenizers import Tokenizer
    except ImportError as exc:
        raise MissingDependency(
            f"reading text needs the library `tokenizers`: {exc}", hint="pip install edgekit-runtime[text]"
        ) from exc
    if not path.is_file():
        raise ProcessorError(f"{path} is missing", hint="export the model again")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as exc:
        if type(exc) is not Exception:  # the library's own error class
            raise
        raise ProcessorError(
            f"{path} is not a tokenizer that this version of `tokenizers` can read: {exc}",
            hint="update `tokenizers`, or export the model again",
        ) from exc


def _difference(found: Sequence[int], recorded: Sequence[int]) -> str:
    place = next((i for i, (a, b) in enumerate(zip(found, recorded, strict=False)) if a != b), None)
    if place is None:
        return f"{len(found)} tokens instead of {len(recorded)}"
    return f"token {place} is {found[place]} instead of {recorded[place]}"


def _shown(row: TextRow | Words) -> str:
    text = repr(row)
    return text if len(text) <= 60 else text[:57] + "..."
