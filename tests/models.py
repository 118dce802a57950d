"""Small models built in code, for every test that needs a transformers folder."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.exporting.quiet import kept_environment

WORDS = (
    "the",
    "a",
    "is",
    "not",
    "good",
    "bad",
    "train",
    "lamp",
    "water",
    "people",
    "music",
    "report",
    "##s",
    "##ing",
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LABELS = ("negative", "positive")


@dataclass(frozen=True)
class Size:
    """Dimensions of a tiny encoder."""

    hidden: int = 32
    layers: int = 2
    heads: int = 2
    positions: int = 64


def vocabulary() -> list[str]:
    """Words, and every printable ASCII character as a beginning and as a continuation."""
    characters = [char for char in string.printable.lower() if not char.isspace()]
    unique = list(dict.fromkeys(characters))
    return [*SPECIAL, *WORDS, *unique, *(f"##{char}" for char in unique)]


def tiny_tokenizer(folder: Path, positions: int = 64) -> None:
    """Save a WordPiece tokenizer in the manner of BERT."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    words = {word: index for index, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=positions,
        model_input_names=["input_ids", "attention_mask", "token_type_ids"],
    ).save_pretrained(folder)


@kept_environment()
def tiny_classifier(folder: Path, size: Size | None = None, seed: int = 0) -> Path:
    """A BertForSequenceClassification of some 30,000 random weights, with its tokenizer, in `folder`.

    The weights are large enough for the two logits to differ clearly from text to text.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    size = size or Size()
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=2 * size.hidden,
        max_position_embeddings=size.positions,
        initializer_range=0.2,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    model = BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:  # made as zeros and ones, which an exporter may fold away
                weight.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.1)
    model.save_pretrained(folder)
    tiny_tokenizer(folder, size.positions)
    return folder


@kept_environment()
def random_classifier(folder: Path, config_class: Any, changes: dict[str, Any]) -> Path:
    """A tiny classifier of any transformers family, random weights, with the same tokenizer."""
    import torch
    from transformers import AutoModelForSequenceClassification

    common = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 66,
        "initializer_range": 0.2,
    }
    torch.manual_seed(0)
    known = {} if "d_model" in changes or "n_embd" in changes or "dim" in changes else common
    config = config_class(**{"vocab_size": len(vocabulary()), **known, **changes})
    config.id2label = dict(enumerate(("bad", "middling", "good")))
    AutoModelForSequenceClassification.from_config(config).eval().save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder


@kept_environment()
def tiny_model(folder: Path, family: str, head: str, labels: Sequence[str] = (), **changes: Any) -> Path:
    """A tiny model of random weights in `folder`, with the same tokenizer.

    family, head: "Bert" and "ForTokenClassification" make a BertForTokenClassification. The weights are
    large enough for the outputs to differ clearly from text to text.
    """
    import torch
    import transformers

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    if family == "DistilBert":
        sizes = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
    if family == "Electra":
        sizes["embedding_size"] = 16
    common = (
        {}
        if "text_config" in changes
        else {
            "vocab_size": len(vocabulary()),
            "max_position_embeddings": 66,
            "pad_token_id": 0,
            "initializer_range": 0.2,
            **sizes,
        }
    )
    config = getattr(transformers, f"{family}Config")(**{**common, **changes})
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
    torch.manual_seed(0)
    getattr(transformers, family + head)(config).eval().save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder
