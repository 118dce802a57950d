"""A text processor of whole words, made in code."""

from __future__ import annotations

from pathlib import Path

from edgekit_runtime.processors.text import TextSettings, write_text_processor

WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "ada",
    "wrote",
    "who",
    "yes",
    "no",
    "france",
    "is",
    "up",
    "down",
)
IDS = {word: number for number, word in enumerate(WORDS)}


def word_processor(folder: Path) -> Path:
    """Write it into `folder`. The model's input is `input_ids`; unknown words are one token."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel(IDS, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(WORDS[:5]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", IDS["[CLS]"]), ("[SEP]", IDS["[SEP]"])],
    )
    settings = TextSettings(inputs=("input_ids",), max_length=16, mask_id=IDS["[MASK]"])
    write_text_processor(folder, tokenizer=tokenizer.to_str().encode(), settings=settings, parity=())
    return folder
