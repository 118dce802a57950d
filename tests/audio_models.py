"""Tiny random models of recordings, built in code."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

from edgekit.exporting.quiet import kept_environment

#: The symbols of a CTC head: the blank first, as wav2vec 2.0 has them.
SYMBOLS = ("<pad>", "<s>", "</s>", "<unk>", "|", "'", *string.ascii_uppercase)
SOUND_LABELS = ("low", "middle", "high")

#: The convolutions over samples that wav2vec 2.0 has, narrow: they take most of the time of tracing. The one
#: for positions is large enough for the exporter to leave its weight a formula.
USUAL: dict[str, Any] = {
    "conv_dim": (16,) * 7,
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 1,
}
#: Three of them that see 165 samples at once, and a small encoder behind.
_WAVE = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 3,
    "conv_kernel": (10, 8, 4),
    "conv_stride": (5, 8, 4),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
    "initializer_range": 0.1,
}


def _labels() -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(SOUND_LABELS)),
        "label2id": {label: index for index, label in enumerate(SOUND_LABELS)},
    }


@kept_environment()
def wave_model(folder: Path, family: str, head: str, *, masked: bool = False, **changes: Any) -> Path:
    """A `{family}For{head}` of waveforms. masked: of the kind that is trained with a mask."""
    import torch
    import transformers

    torch.manual_seed(0)
    known = _WAVE | (_labels() if head == "SequenceClassification" else {"vocab_size": len(SYMBOLS)})
    if masked:
        known |= {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    config = getattr(transformers, f"{family}Config")(**(known | changes))
    getattr(transformers, f"{family}For{head}")(config).eval().save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=masked).save_pretrained(folder)
    if head == "CTC":
        ctc_tokenizer(folder)
    return folder


def ctc_tokenizer(folder: Path, **changes: Any) -> Any:
    """Save a Wav2Vec2CTCTokenizer of `SYMBOLS`."""
    from transformers import Wav2Vec2CTCTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vocab.json"
    path.write_text(json.dumps({symbol: index for index, symbol in enumerate(SYMBOLS)}), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(str(path), **changes)
    tokenizer.save_pretrained(folder)
    return tokenizer


@kept_environment()
def spectrogram_transformer(folder: Path, frames: int = 50, bands: int = 32) -> Any:
    """An ASTForAudioClassification with its extractor; the model, still to be trained or saved."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ASTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        patch_size=8,
        time_stride=8,
        frequency_stride=8,
        max_length=frames,
        num_mel_bins=bands,
        initializer_range=0.2,
        **_labels(),
    )
    model = transformers.ASTForAudioClassification(config).eval()
    model.save_pretrained(folder)
    transformers.ASTFeatureExtractor(max_length=frames, num_mel_bins=bands).save_pretrained(folder)
    return model


@kept_environment()
def whisper_classifier(folder: Path, seconds: int = 2) -> Path:
    """A WhisperForAudioClassification that hears some seconds at a time."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        d_model=32,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=64,
        max_source_positions=50 * seconds,
        num_mel_bins=32,
        classifier_proj_size=16,
        init_std=0.2,
        **_labels(),
    )
    transformers.WhisperForAudioClassification(config).eval().save_pretrained(folder)
    extractor = transformers.WhisperFeatureExtractor(feature_size=32, chunk_length=seconds)
    extractor.save_pretrained(folder)
    return folder


#: What Whisper's tokenizer has behind its bytes; the times are no special tokens, as in the published one.
WHISPER_SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|de|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
WHISPER_TIMES = tuple(f"<|{0.02 * step:.2f}|>" for step in range(50))


@kept_environment()
def whisper_writer(folder: Path, *, english: bool = False, seed: int = 0, **generation: Any) -> Path:
    """A WhisperForConditionalGeneration that hears a second and writes 40 tokens at most.

    generation: keys of its generation_config, beside those that its languages need.
    """
    import torch
    import transformers

    ids = whisper_tokenizer(folder)
    special: dict[str, Any] = dict.fromkeys(
        ("bos_token_id", "eos_token_id", "pad_token_id"), ids["<|endoftext|>"]
    )
    special["decoder_start_token_id"] = ids["<|startoftranscript|>"]
    torch.manual_seed(seed)
    config = transformers.WhisperConfig(
        vocab_size=len(ids),
        d_model=32,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=64,
        max_source_positions=50,
        max_target_positions=64,
        num_mel_bins=16,
        init_std=0.4,
        begin_suppress_tokens=None,
        **special,
    )
    model = transformers.WhisperForConditionalGeneration(config).eval()
    languages: dict[str, Any] = {
        "is_multilingual": True,
        "lang_to_id": {token: ids[token] for token in ("<|en|>", "<|de|>")},
        "task_to_id": {task: ids[f"<|{task}|>"] for task in ("translate", "transcribe")},
    }
    settings: dict[str, Any] = {
        "max_length": 40,
        "suppress_tokens": [ids[token] for token in WHISPER_SPECIAL[1:]],
        "begin_suppress_tokens": [ids["Ġ"], ids["<|endoftext|>"]],
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "return_timestamps": False,
        **({"is_multilingual": False} if english else languages),
    }
    model.generation_config = transformers.GenerationConfig(**(special | settings | generation))
    model.save_pretrained(folder)
    extractor = transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    extractor.save_pretrained(folder)
    return folder


def whisper_tokenizer(folder: Path, **changes: Any) -> dict[str, int]:
    """Save a WhisperTokenizer of bytes, a few pairs of them, special tokens and times; ids by token."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    folder.mkdir(parents=True, exist_ok=True)
    merges = [("t", "h"), ("Ġ", "a"), ("Ġ", "th"), ("e", "r"), ("Ġth", "e")]
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in merges)]
    tokenizer = Tokenizer(BPE({symbol: at for at, symbol in enumerate(symbols)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in WHISPER_SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in WHISPER_TIMES])
    tokenizer.save(str(folder / "tokenizer.json"))
    kind = {"tokenizer_class": "WhisperTokenizer", "model_max_length": 64, **changes}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind), encoding="utf-8")
    return dict(tokenizer.get_vocab())
