"""What a transformers config says about the task of a model. Each gives why not, or ""."""

from __future__ import annotations

from collections.abc import Mapping

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
#: Keys that only models of sound have.
_SOUND = (
    "feat_extract_norm",
    "feature_projection_input_dim",
    "num_mel_bins",
    "input_feat_per_channel",
    "conv_kernel",
    "codevector_dim",
)
#: Models of sound whose config has no such key.
_SOUND_TYPES = ("moonshine", "moonshine_streaming")
#: Keys of models that take images or sound beside, or in the place of, text.
_OTHER_INPUTS = ("vision_config", "audio_config", "image_size", "audio_encoder")


def _labels(config: Mapping[str, object]) -> int:
    table, count = config.get("id2label"), config.get("num_labels", 2)
    if isinstance(table, dict):
        return len(table)
    return count if isinstance(count, int) else 2


def _problem(config: Mapping[str, object]) -> str:
    """The kind of problem that the head was trained for, as transformers decides it."""
    found = config.get("problem_type")
    if isinstance(found, str):
        return found
    return REGRESSION if _labels(config) == 1 else SINGLE


def hears(config: Mapping[str, object]) -> bool:
    """Whether the model takes sound."""
    return any(key in config for key in _SOUND) or config.get("model_type") in _SOUND_TYPES


def not_single_label(config: Mapping[str, object]) -> str:
    """Of one label in two or more."""
    if hears(config):
        return "it takes sound"
    if _problem(config) != SINGLE:
        return f"its problem_type is {_problem(config)}"
    return "" if _labels(config) > 1 else "it has one label"


def not_multi_label(config: Mapping[str, object]) -> str:
    """Of any number of labels at once."""
    if hears(config):
        return "it takes sound"
    return "" if _problem(config) == MULTI else f"its problem_type is {_problem(config)}, not {MULTI}"


def not_regression(config: Mapping[str, object]) -> str:
    """Of one number."""
    if hears(config):
        return "it takes sound"
    if _problem(config) != REGRESSION:
        return f"its problem_type is {_problem(config)}, not {REGRESSION}"
    return "" if _labels(config) == 1 else f"it gives {_labels(config)} numbers, not one"


def not_entailment(config: Mapping[str, object]) -> str:
    """A classifier that says whether one text follows from another."""
    table = config.get("id2label")
    words = [str(word).lower() for word in table.values()] if isinstance(table, dict) else []
    if any(word.startswith("entail") for word in words):
        return not_single_label(config)
    return "none of its labels is called 'entailment'"


def not_of_sound(config: Mapping[str, object]) -> str:
    """A classifier of sound, of one label in two or more."""
    if not hears(config):
        return "it takes no sound"
    return "" if _labels(config) > 1 else "it has one label"


def not_an_encoder_of_text(config: Mapping[str, object]) -> str:
    """One whose hidden states stand for a text."""
    if "vocab_size" not in config or hears(config) or "vision_config" in config:
        return "it takes no text, or more than text"
    return "it has an encoder and a decoder" if config.get("is_encoder_decoder") is True else ""


def not_text_to_text(config: Mapping[str, object]) -> str:
    """An encoder of texts with a decoder that writes."""
    encoder = config.get("encoder")
    parts = [config, encoder] if isinstance(encoder, dict) else [config]
    if any(hears(part) for part in parts):
        return "it takes sound"
    if any(key in part for part in parts for key in _OTHER_INPUTS):
        return "it takes images, or more than text"
    return _not_encoder_decoder(config)


def not_speech_to_text(config: Mapping[str, object]) -> str:
    """An encoder of sound with a decoder that writes."""
    return _not_encoder_decoder(config) if hears(config) else "it takes no sound"


def _not_encoder_decoder(config: Mapping[str, object]) -> str:
    return "" if config.get("is_encoder_decoder") is True else "it has no encoder with a decoder beside it"
