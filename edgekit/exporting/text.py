"""Text models: choose lengths, write and prove the processor, plan what to check."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ExportWrong, SourceError
from edgekit.exporting.asking import Asking, ask
from edgekit.exporting.attention import plain_attention
from edgekit.exporting.encoder_decoder import Source, encoder_decoder
from edgekit.exporting.generating import generating
from edgekit.exporting.loaded import Loaded
from edgekit.exporting.loading import load_tokenizer, position_limit, text_config
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.processor import HubTokenizer, choose_max_length, text_inputs, travelling_processor
from edgekit.exporting.subject import Assembly, Case, Range, Subject
from edgekit.exporting.texts import LONG, PAIR, SENTENCES
from edgekit_runtime.processors import TextProcessor
from edgekit_runtime.processors.base import TextRow, Words

if TYPE_CHECKING:
    import torch

    from edgekit_runtime.session import Array

#: Rows and tokens of the trace. No case has this shape: every check is at one that was not traced.
TRACE_ROWS, TRACE_TOKENS = 3, 11
#: A model that takes more tokens than this is checked at its longest with one row, not two.
_TWO_ROWS_UP_TO = 1024
#: Padding adds only zeros to sums: a right model moves by fp32 rounding, one without its mask by 1e-2.
_PADDING_TOLERANCE = 1e-4
#: Of a model that scores its whole vocabulary for each token: the largest batch that is checked (with
#: one row any length is), and how much is recorded in goldens, which travel with the model.
_LARGEST_CASE_BYTES, _GOLDEN_BYTES = 256 * 1024 * 1024, 16 * 1024 * 1024
#: Goldens that are recorded whatever their size.
_LEAST_GOLDENS = 2
#: Sentences that are recorded of a model that generates: each answer takes many runs of its decoder.
_RECORDED_ANSWERS = 6


def text_subject(loaded: Loaded, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
    """Load the tokenizer, write and prove the processor, and plan what to check."""
    return tokenized_subject(loaded, load_tokenizer(loaded.folder, options), options, processor_dir)


def tokenized_subject(
    loaded: Loaded, tokenizer: HubTokenizer, options: ExportOptions, processor_dir: Path
) -> Subject | Assembly:
    """The same, with a tokenizer at hand."""
    model = loaded.model
    asking = ask(loaded.task, tokenizer)
    inputs = text_inputs(tokenizer, _parameters(loaded))
    positions = position_limit(model)
    max_length = choose_max_length(tokenizer, positions, options.max_length)
    processor = travelling_processor(tokenizer, inputs, max_length, processor_dir, asking.reading())
    vocabulary = _vocabulary(model)
    planner = TextCases(
        processor=processor,
        asking=asking,
        token_bytes=4 * vocabulary if asking.mask else 0,
        recorded=_RECORDED_ANSWERS if loaded.pipeline else len(SENTENCES),
    )
    axes = {name: {0: "batch", 1: "sequence"} for name in inputs}
    ranges: dict[str, Range] = {"batch": (1, None), "sequence": (1, positions)}
    cases = [
        *planner.checks(),
        *planner.random_ids(vocabulary, tokenizer.all_special_ids, options.seed),
        *planner.goldens(),
    ]
    if loaded.pipeline:
        _prove_decoding(tokenizer, processor, cases)
        source = Source(trace=planner.trace(), cases=cases, axes=axes, ranges=ranges)
        return encoder_decoder(loaded, source, generating(model, tokenizer, options), options)
    subject = Subject(
        module=loaded.module,
        call=loaded.call,
        facts=loaded.facts(axes),
        trace=planner.trace(),
        ranges=ranges,
        outputs=loaded.outputs,
        cases=cases,
        tracing=lambda: plain_attention(model),
    )
    if loaded.task.answers == "vector":
        _refuse_padding_that_counts(subject, loaded.folder, processor)
    return subject


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCases:
    """Shapes at which a text model is compared with its original, by real texts.

    token_bytes: what the model gives for a token where that is much, otherwise 0; recorded: sentences that
    become goldens.
    """

    processor: TextProcessor
    asking: Asking
    token_bytes: int = 0
    recorded: int = len(SENTENCES)

    def trace(self) -> dict[str, Array]:
        """Feeds of the trace."""
        tokens = max(TRACE_TOKENS, self._shortest() + 2)
        return self.processor.feeds([self.asking.row(LONG)] * TRACE_ROWS, pad_to=min(tokens, self._longest))

    def checks(self) -> Iterator[Case]:
        """Batches of 1, 2 and 7; shortest, odd and longest; padded and not."""
        yield from self._case("one row, shortest", SENTENCES[:1], pad_to=self._shortest())
        yield from self._case("one row, odd length", [LONG], pad_to=33)
        yield from self._case("two rows, unpadded", [LONG, LONG[200:]], pad_to=29)
        yield from self._case("two rows, padded", SENTENCES[2:4])
        yield from self._case("seven rows, padded", SENTENCES[4:11])
        yield from self._case("seven rows, much padding", SENTENCES[:7], pad_to=97)
        if "token_type_ids" in self.processor.input_names and self.asking.plain:
            yield self._of_rows("two pairs of texts, padded", [PAIR, (SENTENCES[0], SENTENCES[1])])
        yield from self._case("one row, longest", [LONG], pad_to=self._longest)
        if self._longest <= _TWO_ROWS_UP_TO:
            yield from self._case("two rows, longest, one padded", [SENTENCES[0], LONG], pad_to=self._longest)

    def random_ids(self, vocabulary: int, special: Sequence[int], seed: int) -> Iterator[Case]:
        """Ids from the whole vocabulary, which sentences never reach; special tokens stay in place."""
        feeds = self.processor.feeds([self.asking.row(LONG)] * 2, pad_to=self._width(41))
        rng = np.random.default_rng(seed)
        plain = np.setdiff1d(np.arange(vocabulary), special)
        drawn = rng.choice(plain, size=feeds["input_ids"].shape).astype(np.int64)
        ids = np.where(np.isin(feeds["input_ids"], special), feeds["input_ids"], drawn)
        yield Case(name="two rows, random ids", feeds={**feeds, "input_ids": ids})

    def goldens(self) -> Iterator[Case]:
        """One case a sentence, and one padded batch, recorded in the model directory.

        Of a model that scores its whole vocabulary the shortest sentences, and two of them together.
        """
        cases = [
            self._of_rows(f"sentence {number}", [self.asking.row(sentence)], golden=True)
            for number, sentence in enumerate(SENTENCES[: self.recorded], start=1)
        ]
        if not self.token_bytes:
            yield from cases
            rows = [self.asking.row(sentence) for sentence in SENTENCES[:5]]
            yield self._of_rows("five sentences, padded", rows, golden=True)
            return
        kept = self._shortest_cases(cases)
        yield from kept
        yield self._of_rows("two sentences, padded", [case.rows[0] for case in kept[:2]], golden=True)

    def _shortest_cases(self, cases: Sequence[Case]) -> list[Case]:
        kept: list[Case] = []
        total = 0
        for case in sorted(cases, key=lambda case: case.feeds["input_ids"].size):
            total += case.feeds["input_ids"].size * self.token_bytes
            if total > _GOLDEN_BYTES and len(kept) >= _LEAST_GOLDENS:
                break
            kept.append(case)
        return kept

    def _case(self, name: str, texts: Sequence[str], pad_to: int | None = None) -> Iterator[Case]:
        """The case, unless what the model gives for it is too much."""
        width = None if pad_to is None else self._width(pad_to)
        case = self._of_rows(name, [self.asking.row(text) for text in texts], width)
        if len(texts) == 1 or case.feeds["input_ids"].size * self.token_bytes <= _LARGEST_CASE_BYTES:
            yield case

    def _of_rows(
        self, name: str, rows: Sequence[TextRow | Words], width: int | None = None, golden: bool = False
    ) -> Case:
        feeds = self.processor.feeds(rows, pad_to=width)
        return Case(name=name, feeds=feeds, rows=tuple(rows), golden=golden)

    @property
    def _longest(self) -> int:
        return self.processor.settings.max_length

    def _width(self, tokens: int) -> int:
        return min(max(tokens, self._shortest()), self._longest)

    def _shortest(self) -> int:
        """Tokens of the row of the shortest text: its special tokens, what the task adds, and one more."""
        return int(self.processor.feeds([self.asking.row("a")])["input_ids"].shape[1])


def _parameters(loaded: Loaded) -> tuple[str, ...]:
    """Inputs by name: of what is traced where it takes them by name, else of the model inside it."""
    traced = inspect.signature(loaded.module.forward).parameters
    return tuple(traced if "input_ids" in traced else inspect.signature(loaded.model.forward).parameters)


def _vocabulary(model: torch.nn.Module) -> int:
    size = getattr(text_config(model), "vocab_size", None)
    if not isinstance(size, int) or size < 1:
        raise SourceError("config.json has no vocab_size", hint="is it a text model?")
    return size


def _prove_decoding(tokenizer: HubTokenizer, processor: TextProcessor, cases: Sequence[Case]) -> None:
    """Tokens of every case as texts, by transformers and on a device. Raises ExportWrong.

    White space before punctuation that transformers may be told to remove afterwards stays on a device.
    """
    for ids in (row.tolist() for case in cases for row in case.feeds["input_ids"]):
        wanted = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        found = processor.decode(ids)
        if found.strip() != wanted.strip():
            raise ExportWrong(
                f"tokens become another text on a device: {found[:80]!r} instead of {wanted[:80]!r}",
                hint="save the tokenizer again with a current transformers",
            )


def _refuse_padding_that_counts(subject: Subject, folder: Path, processor: TextProcessor) -> None:
    """Compare each row by itself with the same row in a padded batch."""
    rows = [SENTENCES[0], SENTENCES[3], LONG]
    together = _run(subject, processor.feeds(rows))
    for at, row in enumerate(rows):
        alone = _run(subject, processor.feeds([row]))[0]
        error = float(np.abs(alone - together[at]).max())
        if not error <= _PADDING_TOLERANCE * max(1.0, float(np.abs(alone).max())):
            raise SourceError(
                f"{folder}: padding changes an embedding by {error:.1e}: the original itself reads "
                f"padding tokens ({row[:40]!r})",
                hint="does the model heed attention_mask, and does the tokenizer give one?",
            )


def _run(subject: Subject, feeds: dict[str, Array]) -> Array:
    """The first output."""
    import torch

    with torch.inference_mode():
        outputs = subject.call({name: torch.from_numpy(array) for name, array in feeds.items()})
    found: Array = outputs[subject.outputs[0]].numpy()
    return found
