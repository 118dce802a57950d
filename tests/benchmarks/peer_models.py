"""The models that export_peers.py compares, as folders that old and new transformers both read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.models import tiny_tokenizer
from tests.real_whisper import whisper_tiny_en

ENCODER = Path(__file__).resolve().parents[2] / "build" / "tests" / "encoder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Files of one purpose. files: by tool, within its output; sizes: of the axes that vary but the
    batch, which is 1; runs: of each file in a launch.
    """

    name: str
    files: Mapping[str, str]
    sizes: tuple[Mapping[str, int], ...]
    runs: int = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """make: saves it in a folder; auto_class: for the plain call, "" where one call does not do it."""

    make: Callable[[Path], None]
    task: str
    peer_task: str
    files: tuple[Files, ...]
    auto_class: str = ""
    peer_options: tuple[str, ...] = ()


def make_model(name: str, folder: Path) -> None:
    """Save the model, unless it is there."""
    if folder.exists():
        return
    import torch

    torch.manual_seed(0)
    MODELS[name].make(folder)


def _minilm(folder: Path) -> None:
    """The real 6-layer encoder of the tests."""
    shutil.copytree(ENCODER, folder)


def _bert_base(folder: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    BertForSequenceClassification(BertConfig()).eval().save_pretrained(folder)
    _tokenizer(folder, 512)


def _vit(folder: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    ViTForImageClassification(ViTConfig()).eval().save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)


def _resnet(folder: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    ResNetForImageClassification(ResNetConfig()).eval().save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)


def _t5_small(folder: Path) -> None:
    """T5-small's shape. A tokenizer of few words: what it writes means nothing."""
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(T5Config(decoder_start_token_id=0, pad_token_id=0, eos_token_id=3))
    model.generation_config.max_new_tokens = 8
    model.eval().save_pretrained(folder)
    _tokenizer(folder, 512)


def _whisper_tiny(folder: Path) -> None:
    """The real Whisper tiny.en."""
    whisper_tiny_en(folder, ENCODER.parent / "downloads")


def _tokenizer(folder: Path, positions: int) -> None:
    """A tokenizer whose class transformers 4 knows as well."""
    tiny_tokenizer(folder, positions)
    path = folder / "tokenizer_config.json"
    settings: dict[str, Any] = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "tokenizer_class": "PreTrainedTokenizerFast"}))


_ONE = {"edgekit": "model.onnx", "optimum": "model.onnx", "plain": "model.onnx"}
_TEXTS = ({"tokens": 128}, {"tokens": 16})
_IMAGE = {"pixel_values.1": 3, "pixel_values.2": 224, "pixel_values.3": 224}


_ENCODER = {"edgekit": "encoder/model.onnx", "optimum": "encoder_model.onnx"}
_STEP = {"edgekit": "decoder/model.onnx", "optimum": "decoder_with_past_model.onnx"}


def _answering(
    encoder: Mapping[str, int], step: Mapping[str, int], encoder_runs: int = 15
) -> tuple[Files, ...]:
    """The encoder of edgekit gives the cross-attention's keys and values too; elsewhere a decoder does."""
    return (
        Files(name="encoder", files=_ENCODER, sizes=(encoder,), runs=encoder_runs),
        Files(name="decoder, one step with a cache", files=_STEP, sizes=(step,), runs=40),
    )


MODELS: Mapping[str, Model] = {
    "minilm": Model(
        make=_minilm,
        task="feature-extraction",
        peer_task="feature-extraction",
        auto_class="AutoModel",
        files=(Files(name="the graph", files=_ONE, sizes=_TEXTS, runs=40),),
    ),
    "bert-base": Model(
        make=_bert_base,
        task="text-classification",
        peer_task="text-classification",
        auto_class="AutoModelForSequenceClassification",
        files=(Files(name="the graph", files=_ONE, sizes=_TEXTS),),
    ),
    "vit-base": Model(
        make=_vit,
        task="image-classification",
        peer_task="image-classification",
        auto_class="AutoModelForImageClassification",
        files=(Files(name="the graph", files=_ONE, sizes=(_IMAGE,)),),
    ),
    "resnet-50": Model(
        make=_resnet,
        task="image-classification",
        peer_task="image-classification",
        auto_class="AutoModelForImageClassification",
        files=(Files(name="the graph", files=_ONE, sizes=(_IMAGE,)),),
    ),
    "t5-small": Model(
        make=_t5_small,
        task="text2text-generation",
        peer_task="text2text-generation-with-past",
        peer_options=("--no-post-process",),
        files=_answering({"tokens": 64}, {"tokens": 1, "past": 16, "source": 64}),
    ),
    "whisper-tiny": Model(
        make=_whisper_tiny,
        task="speech-recognition",
        peer_task="automatic-speech-recognition-with-past",
        peer_options=("--no-post-process",),
        files=_answering(
            {"input_features.1": 80, "input_features.2": 3000},
            {"tokens": 1, "past": 16, "source": 1500},
            encoder_runs=5,
        ),
    ),
}
