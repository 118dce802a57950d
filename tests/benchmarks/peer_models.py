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
class Graph:
    """A file within a tool's output. sizes: of the axes that vary but the batch, which is 1; times: so
    often it is run for one answer.
    """

    path: str
    sizes: Mapping[str, int]
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One purpose, and the graphs that serve it, by tool. runs: of each graph in a launch."""

    name: str
    graphs: Mapping[str, tuple[Graph, ...]]
    runs: int = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """make: saves it in a folder; auto_class: for the plain call, "" where one call does not do it."""

    make: Callable[[Path], None]
    task: str
    peer_task: str
    uses: tuple[Use, ...]
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


_IMAGE = {"pixel_values.1": 3, "pixel_values.2": 224, "pixel_values.3": 224}


def _one_graph(sizes: Mapping[str, int], runs: int = 15) -> Use:
    name = ", ".join(f"{axis} {size}" for axis, size in sizes.items())
    graph = (Graph(path="model.onnx", sizes=sizes),)
    return Use(name=name, graphs=dict.fromkeys(("edgekit", "optimum", "plain"), graph), runs=runs)


def _texts(runs: int = 15) -> tuple[Use, ...]:
    return tuple(_one_graph({"tokens": tokens}, runs) for tokens in (128, 16))


def _answering(source: Mapping[str, int], hidden: int, tokens: int, runs: int) -> tuple[Use, ...]:
    """An answer of `tokens` to a source whose hidden states are `hidden` long.

    edgekit's encoder gives the cross-attention's keys and values as well. The peer's first step is a graph of
    its own, which computes them.
    """
    step = {"tokens": 1, "past": tokens // 2, "source": hidden}
    ours, theirs = (
        Graph(path="encoder/model.onnx", sizes=source),
        Graph(path="encoder_model.onnx", sizes=source),
    )
    decoder = Graph(path="decoder/model.onnx", sizes=step, times=tokens)
    first = Graph(path="decoder_model.onnx", sizes={**step, "past": 0})
    later = Graph(path="decoder_with_past_model.onnx", sizes=step, times=tokens - 1)
    return (
        Use(name="the encoder", graphs={"edgekit": (ours,), "optimum": (theirs,)}, runs=runs),
        Use(name="a step with a cache", graphs={"edgekit": (decoder,), "optimum": (later,)}, runs=40),
        Use(
            name=f"an answer of {tokens} tokens",
            graphs={"edgekit": (ours, decoder), "optimum": (theirs, first, later)},
            runs=runs,
        ),
    )


MODELS: Mapping[str, Model] = {
    "minilm": Model(
        make=_minilm,
        task="feature-extraction",
        peer_task="feature-extraction",
        auto_class="AutoModel",
        uses=_texts(runs=40),
    ),
    "bert-base": Model(
        make=_bert_base,
        task="text-classification",
        peer_task="text-classification",
        auto_class="AutoModelForSequenceClassification",
        uses=_texts(),
    ),
    "vit-base": Model(
        make=_vit,
        task="image-classification",
        peer_task="image-classification",
        auto_class="AutoModelForImageClassification",
        uses=(_one_graph(_IMAGE),),
    ),
    "resnet-50": Model(
        make=_resnet,
        task="image-classification",
        peer_task="image-classification",
        auto_class="AutoModelForImageClassification",
        uses=(_one_graph(_IMAGE),),
    ),
    "t5-small": Model(
        make=_t5_small,
        task="text2text-generation",
        peer_task="text2text-generation-with-past",
        peer_options=("--no-post-process",),
        uses=_answering({"tokens": 64}, 64, tokens=16, runs=15),
    ),
    "whisper-tiny": Model(
        make=_whisper_tiny,
        task="speech-recognition",
        peer_task="automatic-speech-recognition-with-past",
        peer_options=("--no-post-process",),
        uses=_answering({"input_features.1": 80, "input_features.2": 3000}, 1500, tokens=16, runs=5),
    ),
}
