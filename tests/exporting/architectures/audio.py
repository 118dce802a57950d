"""Architectures that take recordings. Each has a feature extractor of its own class."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edgekit.exporting.quiet import kept_environment, quiet_libraries
from tests.audio_models import whisper_tokenizer
from tests.exporting.architectures.base import Architecture, Head, Recipe, save_model

CLASSIFY, TRANSCRIBE = "audio-classification", "speech-recognition"
BOTH = (CLASSIFY, TRANSCRIBE)
HEADS = {
    CLASSIFY: Head(model="AutoModelForAudioClassification", labels=("yes", "no", "stop")),
    TRANSCRIBE: Head(model="AutoModelForCTC"),
}
#: Symbols of the models with a CTC head: special ones, the space between words, letters.
SYMBOLS = ("<pad>", "<s>", "</s>", "<unk>", "|", *string.ascii_uppercase, "'")


def _build(
    folder: Path,
    task: str,
    *,
    config: str,
    changes: Mapping[str, Any],
    extractor: tuple[str, Mapping[str, Any]],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name, options = extractor
    words = {"vocab_size": len(SYMBOLS)} if task == TRANSCRIBE else {}
    with kept_environment(), quiet_libraries():
        import transformers

        getattr(transformers, name)(**options).save_pretrained(folder)
        if task == TRANSCRIBE:
            symbols = {symbol: index for index, symbol in enumerate(SYMBOLS)}
            (folder / "vocab.json").write_text(json.dumps(symbols), encoding="utf-8")
            tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
            tokenizer.save_pretrained(folder)
    save_model(folder, Recipe(config=config, changes={**changes, **words}), HEADS[task])


def _whisper(folder: Path, task: str) -> None:
    """Its encoder classifies; with its decoder it writes, ten tokens at most."""
    if task == CLASSIFY:
        _build(folder, task, config="WhisperConfig", changes=_WHISPER, extractor=WHISPER)
        return
    ids = whisper_tokenizer(folder)
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids["<|endoftext|>"])
    special["decoder_start_token_id"] = ids["<|startoftranscript|>"]
    with kept_environment(), quiet_libraries():
        import transformers

        transformers.WhisperFeatureExtractor(**WHISPER[1]).save_pretrained(folder)
    recipe = Recipe(config="WhisperConfig", changes={**_WHISPER, **special, "vocab_size": len(ids)})
    save_model(folder, recipe, Head(model="AutoModelForSpeechSeq2Seq"))
    settings = {**special, "max_new_tokens": 10, "no_timestamps_token_id": ids["<|notimestamps|>"]}
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _writing(folder: Path, task: str, *, config: str, changes: Mapping[str, Any], extractor: Any) -> None:
    """Another model that writes what is said; Whisper's tokenizer stands for its own."""
    ids = whisper_tokenizer(folder)
    name, options = extractor
    with kept_environment(), quiet_libraries():
        import transformers

        getattr(transformers, name)(**options).save_pretrained(folder)
    recipe = Recipe(config=config, changes={**changes, "vocab_size": len(ids)})
    save_model(folder, recipe, Head(model="AutoModelForSpeechSeq2Seq"))


def _audio(
    name: str,
    config: str,
    extractor: tuple[str, Mapping[str, Any]],
    tasks: tuple[str, ...] = (CLASSIFY,),
    **changes: object,
) -> Architecture:
    build = partial(_build, config=config, changes=changes, extractor=extractor)
    return Architecture(name=name, kind="audio", tasks=tasks, build=build)


#: Models that group-normalise their first features were trained without a mask, the others with one.
UNMASKED = ("Wav2Vec2FeatureExtractor", {"do_normalize": True, "return_attention_mask": False})
MASKED = ("Wav2Vec2FeatureExtractor", {"do_normalize": True, "return_attention_mask": True})
AST = ("ASTFeatureExtractor", {"num_mel_bins": 32, "max_length": 96})
WHISPER: tuple[str, dict[str, Any]] = ("WhisperFeatureExtractor", {"feature_size": 16, "chunk_length": 1})
FILTERS = ("Speech2TextFeatureExtractor", {"feature_size": 16, "num_mel_bins": 16})
MELS = ("SeamlessM4TFeatureExtractor", {"num_mel_bins": 16, "feature_size": 16})

_ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "classifier_proj_size": 16,
}
_WAVES = {
    **_ENCODER,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
_SEW = {**_WAVES, "conv_dim": [16] * 13, "squeeze_factor": 2}
_WHISPER: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_mel_bins": 16,
    "max_source_positions": 50,
    "classifier_proj_size": 16,
    "vocab_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "begin_suppress_tokens": None,
}
_AST = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_mel_bins": 32,
    "max_length": 96,
}
_SPEECH2TEXT = {
    **{key: value for key, value in _WHISPER.items() if key not in ("num_mel_bins", "classifier_proj_size")},
    "input_feat_per_channel": 16,
    "conv_channels": 32,
    "max_source_positions": 200,
    "max_target_positions": 64,
}
_MOONSHINE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "encoder_num_hidden_layers": 2,
    "decoder_num_hidden_layers": 2,
    "encoder_num_attention_heads": 4,
    "decoder_num_attention_heads": 4,
}

ARCHITECTURES = (
    _audio("Wav2Vec2", "Wav2Vec2Config", UNMASKED, BOTH, **_WAVES),
    _audio("Wav2Vec2 (layer norm)", "Wav2Vec2Config", MASKED, BOTH, **_WAVES, **_LAYER_NORM),
    _audio("HuBERT", "HubertConfig", UNMASKED, BOTH, **_WAVES),
    _audio("WavLM", "WavLMConfig", UNMASKED, BOTH, **_WAVES, num_buckets=16, max_bucket_distance=64),
    _audio("UniSpeech", "UniSpeechConfig", UNMASKED, **_WAVES),
    _audio("UniSpeech-SAT", "UniSpeechSatConfig", UNMASKED, **_WAVES),
    _audio("SEW", "SEWConfig", UNMASKED, **_SEW),
    _audio("SEW-D", "SEWDConfig", UNMASKED, **_SEW, position_buckets=8, max_position_embeddings=64),
    _audio(
        "Data2VecAudio",
        "Data2VecAudioConfig",
        MASKED,
        BOTH,
        **{**_WAVES, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
    ),
    _audio("Wav2Vec2-Conformer", "Wav2Vec2ConformerConfig", MASKED, **_WAVES, feat_extract_norm="layer"),
    _audio(
        "Wav2Vec2-BERT",
        "Wav2Vec2BertConfig",
        MELS,
        **_ENCODER,
        feature_projection_input_dim=32,
        conv_depthwise_kernel_size=7,
    ),
    _audio("AST", "ASTConfig", AST, **_AST),
    Architecture(name="Whisper", kind="audio", tasks=BOTH, build=_whisper),
    Architecture(
        name="Speech2Text",
        kind="audio",
        tasks=(TRANSCRIBE,),
        build=partial(_writing, config="Speech2TextConfig", changes=_SPEECH2TEXT, extractor=FILTERS),
    ),
    Architecture(
        name="Moonshine",
        kind="audio",
        tasks=(TRANSCRIBE,),
        build=partial(_writing, config="MoonshineConfig", changes=_MOONSHINE, extractor=MASKED),
    ),
)
