"""The tokenizer by which a device reads what a model of speech writes, proven to read as transformers does.

What transformers does behind the `tokenizers` library (tidy the spaces of English, leave out Whisper's times)
is written into the decoder of the tokenizer.json that travels, so that a device needs no rule of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from edgekit.errors import ExportWrong, SourceError
from edgekit.exporting.loading import load_tokenizer
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.quiet import quiet_libraries
from edgekit.exporting.texts import SENTENCES
from edgekit_runtime.processors.audio_tokens import TextCase, Transcriber
from edgekit_runtime.processors.vocabulary import TIDIED

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Random sequences of ids that are compared, and the most ids of one.
_SEQUENCES, _LONGEST = 200, 60
#: Texts that are read back: tidied spaces show in the first, Whisper's times in the second.
_TEXTS = (
    "He is n't here . Is it ' so ' , or they 've gone ? I 'm sure she 's in !",
    "<|0.00|> one <|2.40|><|2.40|> two <|12.08|>",
    *SENTENCES,
    "naïve coöperation 👍🏽 \u65e5\u672c\u8a9e <|endoftext|> don't  two  spaces ",
)


class HubReader(Protocol):
    """What is used of a transformers tokenizer."""

    all_special_ids: list[int]
    is_fast: bool

    def __len__(self) -> int: ...
    def __call__(self, text: str, *, add_special_tokens: bool) -> Mapping[str, list[int]]: ...
    def batch_decode(self, sequences: Sequence[Sequence[int]], *, skip_special_tokens: bool) -> list[str]: ...
    def decode(
        self, token_ids: Sequence[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool
    ) -> str: ...


def transcriber(folder: Path, options: ExportOptions) -> tuple[HubReader, Transcriber]:
    """The folder's tokenizer, and what travels of it.

    Raises SourceError for one that cannot, ExportWrong where texts differ.
    """
    hub = cast(HubReader, load_tokenizer(folder, options))
    backend = getattr(hub, "backend_tokenizer", None)
    if not hub.is_fast or backend is None:
        raise SourceError(
            f"{folder}: a {type(hub).__name__} runs in Python only and cannot travel to a device",
            hint="convert it to a fast tokenizer (tokenizer.json) first",
        )
    with quiet_libraries():
        tokenizer = _travelling(hub, str(backend.to_str(pretty=False)))
        written = [hub(text, add_special_tokens=False)["input_ids"] for text in _TEXTS]
        made = Transcriber(tokenizer, [TextCase(ids=tuple(ids), text=_original(hub, ids)) for ids in written])
        prove_reading(hub, made, [*written, *_random(hub, options.seed)])
    return hub, made


def prove_reading(hub: HubReader, made: Transcriber, sequences: Sequence[Sequence[int]]) -> None:
    """Read tokens by both. Raises ExportWrong for the first that read differently."""
    for ids in sequences:
        wanted, got = _original(hub, ids), made.decode(ids)
        if got != wanted:
            raise ExportWrong(
                f"the tokenizer that would travel reads the tokens {list(ids)[:12]} as {got[:60]!r},"
                f" and transformers as {wanted[:60]!r}",
                hint="please report it with the folder's tokenizer.json and tokenizer_config.json",
            )


def _travelling(hub: HubReader, content: str) -> Tokenizer:
    from tokenizers import Tokenizer

    replaced: list[tuple[dict[str, str], str]] = []
    if _tidies(hub):
        replaced += [({"String": found}, tidy) for found, tidy in TIDIED]
    times = getattr(hub, "timestamp_pat", None)
    if isinstance(times, re.Pattern):
        replaced.append(({"Regex": times.pattern}, ""))
    if replaced:
        table = json.loads(content)
        steps = [table["decoder"]] if table["decoder"] else []
        steps.append({"type": "Fuse"})
        steps += [{"type": "Replace", "pattern": pattern, "content": text} for pattern, text in replaced]
        table["decoder"] = {"type": "Sequence", "decoders": steps}
        content = json.dumps(table, ensure_ascii=False)
    return Tokenizer.from_str(content)


def _tidies(hub: HubReader) -> bool:
    """Whether transformers tidies spaces: a setting of the folder that some versions do not heed."""
    ids = hub(_TEXTS[0], add_special_tokens=False)["input_ids"]
    plain = hub.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return _original(hub, ids) != plain


def _original(hub: HubReader, ids: Sequence[int]) -> str:
    return hub.batch_decode([list(ids)], skip_special_tokens=True)[0]


def _random(hub: HubReader, seed: int) -> list[list[int]]:
    """Ids of the whole vocabulary, special ones among them but not first, and some beyond it.

    What begins with a special token transformers may take for a prompt, which no model writes.
    """
    random = np.random.default_rng(seed)
    plain = np.setdiff1d(np.arange(len(hub)), hub.all_special_ids)
    sequences = []
    for _ in range(_SEQUENCES):
        rest = random.integers(0, len(hub) + 8, size=random.integers(1, _LONGEST))
        sequences.append([int(random.choice(plain)), *rest.tolist()])
    return sequences
