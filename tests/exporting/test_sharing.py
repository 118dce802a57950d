"""A weight or table that a model uses twice is stored once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

import edgekit
from edgekit.exporting import onnx as writing
from edgekit.exporting.module import load_module
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.quiet import kept_environment
from tests.models import tiny_tokenizer, vocabulary

ROWS, WIDTH = 300, 64


class Tied(nn.Module):
    """An embedding and an output head of one weight, as in BERT's and GPT's."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(ROWS, WIDTH)
        self.head = nn.Linear(WIDTH, ROWS)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embedding(ids))  # type: ignore[no-any-return]


class Two(nn.Module):
    """Two square layers, each with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(160, 160), nn.Linear(160, 160)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())  # type: ignore[no-any-return]


def written(module: nn.Module, example: Tensor, directory: Path) -> onnx.ModelProto:
    name = "ids" if example.dtype == torch.int64 else "x"
    axes = {name: {0: "batch", 1: "sequence"}}
    options = ExportOptions(example_inputs={name: example}, dynamic_axes=axes)
    subject = load_module(module.eval(), options)
    directory.mkdir()
    path = writing.save(writing.trace(subject, 20), directory, {})
    onnx.checker.check_model(str(path), full_check=True)
    return onnx.load(path)


def large(model: onnx.ModelProto) -> dict[str, Any]:
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {name: array for name, array in arrays.items() if array.nbytes >= 64 * 1024}


def test_a_head_tied_to_the_embedding_is_stored_once_and_answers_as_before(tmp_path: Path) -> None:
    examples = {"ids": torch.arange(10).reshape(2, 5)}
    options = ExportOptions(example_inputs=examples, dynamic_axes={"ids": {0: "batch", 1: "sequence"}})
    made = edgekit.export(Tied().eval(), tmp_path / "model", options=options)
    model = onnx.load(made.path / "model.onnx")
    assert [array.shape for array in large(model).values()] == [(ROWS, WIDTH)]
    assert Counter(node.op_type for node in model.graph.node)["Transpose"] == 1
    assert made.manifest.model is not None
    assert all(check.passed for check in made.manifest.model.checks)
    assert (made.path / "model.onnx").stat().st_size < 1.1 * ROWS * WIDTH * 4


def test_a_masked_language_model_is_no_larger_than_its_folder(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path / "tied"
    with kept_environment():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(vocabulary()),
            hidden_size=128,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=128,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
        BertForMaskedLM(config).eval().save_pretrained(folder)
        tiny_tokenizer(folder)
    made = edgekit.export(folder, tmp_path / "model")
    size = (made.path / "model.onnx").stat().st_size
    assert size < 1.05 * (folder / "model.safetensors").stat().st_size


def test_layers_of_equal_weights_share_them(tmp_path: Path) -> None:
    module = Two()
    module.second.weight.data.copy_(module.first.weight.data)
    assert len(large(written(module, torch.randn(2, 3, 160), tmp_path / "model"))) == 1


def test_one_bit_of_difference_keeps_two_weights_apart(tmp_path: Path) -> None:
    module = Two()
    module.second.weight.data.copy_(module.first.weight.data)
    last = module.second.weight.data[-1, -1]
    last.copy_(torch.nextafter(last, torch.tensor(9.0)))
    assert len(large(written(module, torch.randn(2, 3, 160), tmp_path / "model"))) == 2


def test_a_table_that_each_layer_made_for_itself_is_stored_once(tmp_path: Path) -> None:
    """As the relative positions of BEiT and Swin are."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.randn(100, 4))
            self.register_buffer("places", torch.arange(10_000).reshape(100, 100) % 100)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.bias[self.places].mean((0, 1))  # type: ignore[index]

    model = written(nn.Sequential(Layer(), Layer(), Layer()), torch.randn(2, 3, 4), tmp_path / "model")
    assert [array.shape for array in large(model).values()] == [(100, 100)]
