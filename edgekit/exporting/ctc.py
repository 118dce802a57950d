"""The vocabulary of a model with a CTC head, proven to give the text that transformers gives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from edgekit.errors import ExportWrong, SourceError
from edgekit.exporting.loading import load_tokenizer
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.quiet import quiet_libraries
from edgekit_runtime.processors.vocabulary import Vocabulary

#: Classes whose text is their tokens put together. Others put spaces between sounds, or have no blank.
_KNOWN = ("Wav2Vec2CTCTokenizer",)
#: Random sequences of ids that are compared, and the most ids of one.
_SEQUENCES, _LONGEST = 200, 60


class HubVocabulary(Protocol):
    """What is used of a Wav2Vec2CTCTokenizer."""

    all_special_tokens: list[str]
    all_special_ids: list[int]
    pad_token_id: int | None
    word_delimiter_token: str
    replace_word_delimiter_char: str
    do_lower_case: bool
    clean_up_tokenization_spaces: bool

    def get_vocab(self) -> dict[str, int]: ...
    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]: ...
    def batch_decode(self, sequences: Sequence[Sequence[int]]) -> list[str]: ...
    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool, group_tokens: bool) -> str: ...


def ctc_vocabulary(folder: Path, options: ExportOptions) -> Vocabulary:
    """The vocabulary of the folder's tokenizer. Raises SourceError, or ExportWrong where texts differ."""
    tokenizer = load_tokenizer(folder, options)
    name = type(tokenizer).__name__
    if name not in _KNOWN:
        raise SourceError(
            f"{folder}: the tokenizer {name} is not known here, so no text could be read from the model",
            hint=f"known: {', '.join(_KNOWN)}; export the model as a torch module",
        )
    hub = cast(HubVocabulary, tokenizer)
    with quiet_libraries():
        vocabulary = derive_vocabulary(hub)
        prove_vocabulary(hub, vocabulary, options.seed)
    return vocabulary


def derive_vocabulary(hub: HubVocabulary) -> Vocabulary:
    """The text of each id."""
    size = max(hub.get_vocab().values(), default=-1) + 1
    return Vocabulary(
        tokens=tuple(_text(hub, token) for token in hub.convert_ids_to_tokens(list(range(size)))),
        lower_case=bool(hub.do_lower_case),
        clean_up=bool(hub.clean_up_tokenization_spaces),
    )


def prove_vocabulary(hub: HubVocabulary, vocabulary: Vocabulary, seed: int) -> None:
    """Random ids, repeated as the frames of a recording repeat them. Raises ExportWrong.

    transformers' `batch_decode` merges repetitions and drops the blank, and writes other special tokens
    out ("<unk>"), which no transcript should show: on ids with those, it is told to leave them out.
    """
    random = np.random.default_rng(seed)
    size = len(vocabulary.tokens)
    others = [place for place in hub.all_special_ids if place != hub.pad_token_id]
    plain = np.setdiff1d(np.arange(size), others)
    for number in range(_SEQUENCES):
        pool = np.arange(size) if number % 4 == 3 else plain
        if not pool.size:
            continue
        drawn = random.choice(pool, size=random.integers(1, _LONGEST))
        ids = np.repeat(drawn, random.integers(1, 4, drawn.size)).tolist()
        merged = [place for place, _ in groupby(ids)]
        if number % 4 == 3:
            wanted = hub.decode(merged, skip_special_tokens=True, group_tokens=False)
        else:
            wanted = hub.batch_decode([ids])[0]
        got = vocabulary.decode(merged)
        if got != wanted:
            raise ExportWrong(
                f"the vocabulary that would travel reads the ids {merged[:12]} as {got[:60]!r},"
                f" and transformers as {wanted[:60]!r}",
                hint="please report it with the folder's vocab.json and tokenizer_config.json",
            )


def _text(hub: HubVocabulary, token: str) -> str | None:
    if token == hub.word_delimiter_token:
        return hub.replace_word_delimiter_char
    return None if token in hub.all_special_tokens else token
