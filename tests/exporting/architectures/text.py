"""Architectures that take text. Each has a tokenizer of its own class, trained here on a few sentences."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edgekit.exporting.quiet import kept_environment, quiet_libraries
from edgekit.exporting.texts import SENTENCES
from tests.exporting.architectures.base import Architecture, Head, Recipe, save_model

#: Tokens that a row may have, and entries of a vocabulary.
POSITIONS, VOCABULARY = 64, 600
CLASSIFY, MULTI, REGRESS = "text-classification", "multi-label-classification", "regression"
TAG, ANSWER, FILL, FEATURES = "token-classification", "question-answering", "fill-mask", "feature-extraction"
WRITE = "text2text-generation"
ALL = (CLASSIFY, MULTI, REGRESS, TAG, ANSWER, FILL, FEATURES)
#: Tokens that models write at most: random ones seldom end by themselves.
_WRITTEN = 10

_SEQUENCE = "AutoModelForSequenceClassification"
HEADS = {
    CLASSIFY: Head(model=_SEQUENCE, labels=("bad", "middling", "good")),
    MULTI: Head(
        model=_SEQUENCE, labels=("sport", "money", "weather", "music"), problem="multi_label_classification"
    ),
    REGRESS: Head(model=_SEQUENCE, labels=("score",), problem="regression"),
    TAG: Head(model="AutoModelForTokenClassification", labels=("O", "B-PER", "I-PER", "B-LOC", "I-LOC")),
    ANSWER: Head(model="AutoModelForQuestionAnswering"),
    FILL: Head(model="AutoModelForMaskedLM"),
    FEATURES: Head(model="AutoModel"),
    WRITE: Head(model="AutoModelForSeq2SeqLM"),
}

# --- tokenizers ---------------------------------------------------------------------------------------

_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_ALBERT = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")


def wordpiece(specials: tuple[str, ...], unknown: str) -> dict[str, Any]:
    """The vocabulary of a WordPiece model."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    alphabet = [char for char in string.printable.lower() if not char.isspace()]
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(specials),
        initial_alphabet=sorted(set(alphabet)),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return {"vocab": tokenizer.get_vocab()}


def byte_pairs(specials: tuple[str, ...], suffix: str = "") -> dict[str, Any]:
    """The vocabulary and merges of a BPE model over bytes. suffix: of a word's last piece."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    ending = {"end_of_word_suffix": suffix} if suffix else {}
    tokenizer = Tokenizer(models.BPE(**ending))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=2 * VOCABULARY if suffix else VOCABULARY,
        special_tokens=[*specials, *(byte + suffix for byte in bytes_ if suffix)],
        initial_alphabet=bytes_,
        **ending,
        show_progress=False,
    )
    tokenizer.train_from_iterator((text.lower() if suffix else text for text in SENTENCES), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def pieces_with_bytes(specials: tuple[str, ...]) -> dict[str, Any]:
    """The vocabulary and merges of a BPE model over characters that falls back to bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[*specials, *fallback], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def unigram(specials: tuple[str, ...], unknown: str) -> dict[str, Any]:
    """The pieces of a Unigram model with their scores, special ones first."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY, special_tokens=list(specials), unk_token=unknown, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return {"vocab": [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]}


Maker = Callable[[], Any]


def _own(name: str, model: Callable[..., dict[str, Any]], *arguments: object, **options: object) -> Maker:
    """Makes a tokenizer of the transformers class called `name`."""

    def make() -> Any:
        import transformers

        kind = getattr(transformers, name)
        return kind(**model(*arguments), model_max_length=POSITIONS, **options)

    return make


def _plain(specials: Mapping[str, str], *, over_bytes: bool) -> Maker:
    """Makes a tokenizer of no class of its own: specials by role, the text between the first and the last."""

    def make() -> Any:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast

        words = tuple(dict.fromkeys(specials.values()))
        if over_bytes:
            tokenizer = Tokenizer(models.BPE(**byte_pairs(words)))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
        else:
            unknown = specials["unk_token"]
            tokenizer = Tokenizer(models.WordPiece(**wordpiece(words, unknown), unk_token=unknown))
            tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
            tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        first, last = specials["cls_token"], specials["sep_token"]
        ids = [(word, tokenizer.token_to_id(word)) for word in dict.fromkeys((first, last))]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}", pair=f"{first} $A {last} $B {last}", special_tokens=ids
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            model_max_length=POSITIONS,
            model_input_names=["input_ids", "attention_mask"],
            **specials,
        )

    return make


_ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
BERT = _own("BertTokenizer", wordpiece, _BERT, "[UNK]")
ROBERTA = _own("RobertaTokenizer", byte_pairs, _ROBERTA)
XLM_ROBERTA = _own("XLMRobertaTokenizer", unigram, _ROBERTA, "<unk>")
ALBERT = _own("AlbertTokenizer", unigram, _ALBERT, "<unk>")
MODERN = _plain(dict(zip(_ROLES, _BERT, strict=True)), over_bytes=True)
#: XLM's and Flaubert's own tokenizers run in Python only; a fast one stands for them.
OF_XLM = _plain(
    dict(zip(_ROLES, ("<pad>", "<unk>", "<s>", "</s>", "<special1>"), strict=True)), over_bytes=False
)
GPT2 = _own("GPT2Tokenizer", byte_pairs, ("<|endoftext|>", "<|pad|>"), pad_token="<|pad|>")
LLAMA = _own("LlamaTokenizer", pieces_with_bytes, ("<unk>", "<s>", "</s>", "<pad>"), pad_token="<pad>")
CLIP = _own("CLIPTokenizer", byte_pairs, ("<|startoftext|>", "<|endoftext|>"), "</w>")
T5 = _own("T5Tokenizer", unigram, ("<pad>", "</s>", "<unk>"), "<unk>", extra_ids=0)
MBART = _own("MBartTokenizer", unigram, _ROBERTA, "<unk>", src_lang="en_XX")
NLLB = _own("NllbTokenizer", pieces_with_bytes, ("<s>", "<pad>", "</s>", "<unk>"), src_lang="eng_Latn")
BLENDERBOT = _own("BlenderbotTokenizer", byte_pairs, ("<pad>", "<s>", "</s>", "<unk>", "<mask>"))

# --- folders ------------------------------------------------------------------------------------------

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS + 2,
}
_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id")


def vocabulary_of(tokenizer: Any) -> dict[str, int]:
    """What a config must know of its tokenizer."""
    ids = {name: getattr(tokenizer, name, None) for name in _IDS}
    return {
        "vocab_size": len(tokenizer),
        **{name: number for name, number in ids.items() if number is not None},
    }


def _build(folder: Path, task: str, *, config: str, changes: Mapping[str, Any], tokenizer: Maker) -> None:
    with kept_environment(), quiet_libraries():
        made = tokenizer()
        made.save_pretrained(folder)
    save_model(folder, Recipe(config=config, changes={**vocabulary_of(made), **changes}), HEADS[task])
    if task == WRITE:
        _bound(folder)


def _bert2bert(folder: Path, task: str) -> None:
    """Two BERTs, of which the second reads the first; each has a config of its own."""
    with kept_environment(), quiet_libraries():
        made = BERT()
        made.save_pretrained(folder)
    part = {**_SIZES, **vocabulary_of(made), "model_type": "bert"}
    changes = {
        "encoder": part,
        "decoder": {**part, "is_decoder": True, "add_cross_attention": True},
        "decoder_start_token_id": made.cls_token_id,
        "eos_token_id": made.sep_token_id,
        "pad_token_id": made.pad_token_id,
    }
    save_model(folder, Recipe(config="EncoderDecoderConfig", changes=changes), HEADS[task])
    _bound(folder)


def _bound(folder: Path) -> None:
    """A random model does not end an answer by itself."""
    path = folder / "generation_config.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(said | {"max_new_tokens": _WRITTEN}), encoding="utf-8")


def _text(
    name: str, config: str, tokenizer: Maker, tasks: tuple[str, ...], changes: Mapping[str, Any]
) -> Architecture:
    build = partial(_build, config=config, tokenizer=tokenizer, changes=changes)
    return Architecture(name=name, kind="text", tasks=tasks, build=build)


def _encoder(name: str, config: str, tokenizer: Maker, *tasks: str, **changes: object) -> Architecture:
    """One whose config has BERT's words; text-classification is always tried."""
    return _text(name, config, tokenizer, tuple(dict.fromkeys((CLASSIFY, *tasks))), {**_SIZES, **changes})


_DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": POSITIONS + 2}
_XLM = {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "max_position_embeddings": POSITIONS + 2}
_DISENTANGLED = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": -1}
_FUNNEL = {"d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64, "block_sizes": [1, 1]}
_XLNET = {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS + 2}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
_BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": POSITIONS + 2,
}
#: Marian's own tokenizer runs in Python only; T5's stands for it.
_MARIAN = {"decoder_start_token_id": 0, "forced_eos_token_id": None}
#: By itself its config forbids n-grams of the source, a rule that is refused.
_BLENDERBOT = {"encoder_no_repeat_ngram_size": 0}
_LED = {
    "attention_window": 16,
    "max_encoder_position_embeddings": POSITIONS + 2,
    "max_decoder_position_embeddings": POSITIONS + 2,
}

ARCHITECTURES = (
    _encoder("BERT", "BertConfig", BERT, *ALL),
    _encoder("RoBERTa", "RobertaConfig", ROBERTA, *ALL),
    _text("DistilBERT", "DistilBertConfig", BERT, ALL, _DISTIL),
    _encoder("ALBERT", "AlbertConfig", ALBERT, FILL, FEATURES, embedding_size=16),
    _encoder("ELECTRA", "ElectraConfig", BERT, TAG, ANSWER, embedding_size=16),
    _encoder(
        "MPNet",
        "MPNetConfig",
        _own("MPNetTokenizer", wordpiece, ("<s>", "<pad>", "</s>", "[UNK]", "<mask>"), "[UNK]"),
        FEATURES,
    ),
    _encoder("XLM-RoBERTa", "XLMRobertaConfig", XLM_ROBERTA, TAG),
    _encoder(
        "CamemBERT",
        "CamembertConfig",
        _own(
            "CamembertTokenizer", unigram, (*_ROBERTA, "<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"), "<unk>"
        ),
        FILL,
    ),
    _encoder(
        "DeBERTa",
        "DebertaConfig",
        _own("DebertaTokenizer", byte_pairs, ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")),
        ANSWER,
        **_DISENTANGLED,
    ),
    _encoder(
        "DeBERTa-v2",
        "DebertaV2Config",
        _own("DebertaV2Tokenizer", unigram, ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"), "[UNK]"),
        TAG,
        **_DISENTANGLED,
        position_buckets=8,
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
    ),
    _encoder("MobileBERT", "MobileBertConfig", BERT, ANSWER, embedding_size=16, intra_bottleneck_size=16),
    _encoder("SqueezeBERT", "SqueezeBertConfig", BERT, FEATURES, embedding_size=32),
    _encoder("Longformer", "LongformerConfig", ROBERTA, attention_window=[16, 16]),
    _encoder(
        "BigBird",
        "BigBirdConfig",
        _own(
            "BigBirdTokenizer",
            unigram,
            ("<pad>", "</s>", "<s>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
            "<unk>",
        ),
        FILL,
    ),
    _encoder("FNet", "FNetConfig", _own("FNetTokenizer", unigram, _ALBERT, "<unk>")),
    _encoder("Nystromformer", "NystromformerConfig", ALBERT),
    _encoder("ConvBERT", "ConvBertConfig", BERT, TAG, embedding_size=32),
    _text(
        "Funnel",
        "FunnelConfig",
        _own(
            "FunnelTokenizer",
            wordpiece,
            ("<pad>", "<unk>", "<cls>", "<sep>", "<mask>", "<s>", "</s>"),
            "<unk>",
        ),
        (CLASSIFY,),
        _FUNNEL,
    ),
    _encoder("RoFormer", "RoFormerConfig", BERT, FILL),
    _encoder("ERNIE", "ErnieConfig", BERT, TAG),
    _encoder("Data2VecText", "Data2VecTextConfig", ROBERTA, REGRESS),
    _encoder("ModernBERT", "ModernBertConfig", MODERN, ANSWER, FILL, local_attention=16),
    _encoder("EuroBERT", "EuroBertConfig", MODERN, FILL),
    _encoder("NomicBERT", "NomicBertConfig", BERT, FEATURES),
    _encoder("LayoutLM", "LayoutLMConfig", BERT, TAG),
    _encoder("LiLT", "LiltConfig", ROBERTA, hidden_size=48),
    _encoder("Megatron-BERT", "MegatronBertConfig", BERT, MULTI),
    _encoder("I-BERT", "IBertConfig", ROBERTA),
    _encoder(
        "RemBERT",
        "RemBertConfig",
        _own("RemBertTokenizer", unigram, ("<pad>", "</s>", "<unk>", "[CLS]", "[SEP]", "[MASK]"), "<unk>"),
        input_embedding_size=16,
        output_embedding_size=48,
    ),
    _encoder("RoBERTa-PreLayerNorm", "RobertaPreLayerNormConfig", ROBERTA),
    _encoder("XLM-RoBERTa-XL", "XLMRobertaXLConfig", XLM_ROBERTA),
    _encoder("X-MOD", "XmodConfig", XLM_ROBERTA, default_language="en_XX"),
    _encoder("YOSO", "YosoConfig", ALBERT),
    _text("XLM", "XLMConfig", OF_XLM, (CLASSIFY, ANSWER), _XLM),
    _text("FlauBERT", "FlaubertConfig", OF_XLM, (CLASSIFY,), _XLM),
    _text(
        "XLNet",
        "XLNetConfig",
        _own(
            "XLNetTokenizer",
            unigram,
            ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"),
            "<unk>",
        ),
        (CLASSIFY,),
        _XLNET,
    ),
    _text("GPT-2", "GPT2Config", GPT2, (CLASSIFY, TAG), _GPT2),
    _encoder("Llama", "LlamaConfig", LLAMA, TAG, num_key_value_heads=2),
    _encoder("Mistral", "MistralConfig", LLAMA, num_key_value_heads=2, sliding_window=16),
    _encoder(
        "Qwen2",
        "Qwen2Config",
        _own("Qwen2Tokenizer", byte_pairs, ("<|endoftext|>",)),
        MULTI,
        num_key_value_heads=2,
    ),
    _text("T5", "T5Config", T5, (TAG, CLASSIFY, WRITE), _T5),
    _text("BART", "BartConfig", ROBERTA, (CLASSIFY, ANSWER, WRITE), _BART),
    _text("mT5", "MT5Config", T5, (WRITE,), {**_T5, "feed_forward_proj": "gated-gelu"}),
    _text("UMT5", "UMT5Config", T5, (WRITE,), _T5),
    _text("mBART", "MBartConfig", MBART, (WRITE,), {**_BART, "decoder_start_token_id": 2}),
    _text("NLLB (M2M100)", "M2M100Config", NLLB, (WRITE,), {**_BART, "forced_bos_token_id": 9}),
    _text("Marian", "MarianConfig", T5, (WRITE,), {**_BART, **_MARIAN}),
    _text("Pegasus", "PegasusConfig", T5, (WRITE,), _BART),
    _text("Blenderbot", "BlenderbotConfig", BLENDERBOT, (WRITE,), {**_BART, **_BLENDERBOT}),
    _text("MVP", "MvpConfig", ROBERTA, (WRITE,), _BART),
    _text("LED", "LEDConfig", ROBERTA, (WRITE,), {**_BART, **_LED}),
    Architecture(name="BERT2BERT", kind="text", tasks=(WRITE,), build=_bert2bert),
)
