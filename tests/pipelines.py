"""A tiny encoder-decoder of random weights as a model directory of two graphs, made without torch.

One layer each, in the contract of parts: cross-attention keys and values from the encoder, past and present
in the decoder. Some ids end an answer, so that lengths vary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.files.directories import new_directory
from edgekit.files.graphs import PIPELINE_FILE, Graph
from edgekit.files.manifests import write_manifest
from edgekit.host.reference import open_reference_graphs
from edgekit.values import ModelTable
from edgekit_runtime.generation import GenerationSettings
from edgekit_runtime.goldens import Golden, write_goldens
from edgekit_runtime.pipelines import ENCODER_DECODER, Pipeline, write_pipeline
from edgekit_runtime.processors.text import TextProcessor, TextSettings, write_text_processor
from edgekit_runtime.values import Signature, TensorSpec, Tolerance

WIDTH, HEADS, INNER, LAYERS = 64, 2, 256, 1
SIZE = WIDTH // HEADS
SPECIAL = ("[PAD]", "[UNK]", "[START]", "[END]")
WORDS = (*SPECIAL, *(f"{first}{rest}" for first in "bdfgklmnprst" for rest in ("a", "e", "i", "o", "u")))
IDS = {word: number for number, word in enumerate(WORDS)}
#: The words that end in "u" end an answer too.
ENDS = (IDS["[END]"], *(number for word, number in IDS.items() if word.endswith("u")))
GENERATION = GenerationSettings(start=(IDS["[START]"],), end=ENDS, pad=0, max_tokens=12, suppress=(0, 1, 2))
TEXTS = ("ba be bi", "do fa ge ki lo mu", "na", "pe ri so tu ta ba do", "le la lo", "ku ki ka so")

_BATCH, _LENGTH, _TOKENS, _PAST = "batch", "sequence", "tokens", "past"


def _spec(name: str, dtype: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def _caches(kind: str, length: int | str) -> tuple[TensorSpec, ...]:
    return tuple(
        _spec(f"{kind}.{layer}.{what}", "float32", _BATCH, HEADS, length, SIZE)
        for layer in range(LAYERS)
        for what in ("key", "value")
    )


TEXT_INPUTS = (
    _spec("input_ids", "int64", _BATCH, _LENGTH),
    _spec("attention_mask", "int64", _BATCH, _LENGTH),
)
ENCODER = Signature(inputs=TEXT_INPUTS, outputs=_caches("cross", _LENGTH))
DECODER = Signature(
    inputs=(
        _spec("input_ids", "int64", _BATCH, _TOKENS),
        _spec("encoder_attention_mask", "int64", _BATCH, _LENGTH),
        *_caches("past", _PAST),
        *_caches("cross", _LENGTH),
    ),
    outputs=(
        _spec("logits", "float32", _BATCH, len(WORDS)),
        *_caches("present", f"{_PAST} + {_TOKENS}"),
    ),
)
WHOLE = Signature(
    inputs=TEXT_INPUTS,
    outputs=(
        _spec("tokens", "int64", _BATCH, "generated"),
        _spec("scores", "float32", _BATCH, "generated", 2),
    ),
)


def tiny_pipeline(directory: Path, task: str = "text2text-generation", seed: int = 0) -> Path:
    """Write the model directory, with goldens by the reference backend; it is replaced when it exists."""
    generator = np.random.default_rng(seed)
    parts = {"encoder": _encoder(generator), "decoder": _decoder(generator)}
    signatures = {"encoder": ENCODER, "decoder": DECODER}
    with new_directory(directory, "model") as work:
        graphs = []
        for part, made in parts.items():
            (work / part).mkdir()
            made.save(work / part / "model.onnx", part, signatures[part])
            graphs.append(Graph(part=part, path=work / part / "model.onnx", signature=signatures[part]))
        write_pipeline(work, Pipeline(kind=ENCODER_DECODER, parts=tuple(parts), generation=GENERATION))
        processor = word_processor(work / "processor")
        with open_reference_graphs(graphs, work / PIPELINE_FILE) as session:
            feeds = [processor.feeds(rows) for rows in (TEXTS[:1], TEXTS[1:2], TEXTS)]
            outputs = session.run_many(feeds)
        write_goldens(
            work / "golden",
            [
                Golden(name=f"case {number}", feeds=given, outputs=found)
                for number, (given, found) in enumerate(zip(feeds, outputs, strict=True))
            ],
        )
        table = ModelTable(
            task=task,
            signature=WHOLE,
            opset=17,
            source={"kind": "made in code"},
            tolerance=Tolerance(atol=1e-4, rtol=1e-4),
            checks=(),
            axes={_BATCH: (1, None), _LENGTH: (1, 32)},
            parts=signatures,
        )
        write_manifest(work, name=directory.name, inputs=(), table=table)
    return directory


def word_processor(folder: Path) -> TextProcessor:
    """Whole words to ids and a mask."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel(IDS, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [END]", special_tokens=[("[END]", IDS["[END]"])]
    )
    settings = TextSettings(inputs=("input_ids", "attention_mask"), max_length=32)
    return write_text_processor(folder, tokenizer=tokenizer.to_str().encode(), settings=settings, parity=())


@dataclass
class _Graph:
    """Nodes and weights as they are added; every method gives the name of what it computed."""

    generator: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def add(self, op: str, *inputs: str, output: str = "", **attributes: object) -> str:
        from onnx import helper

        name = output or f"{op.lower()}_{len(self.nodes)}"
        node = helper.make_node(op, list(inputs), [name], name=f"/{op}_{len(self.nodes)}", **attributes)
        self.nodes.append(node)
        return name

    def constant(self, value: object, dtype: type = np.int64) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def random(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(self.generator.normal(0, scale / np.sqrt(shape[0]), shape), np.float32)

    def embedded(self, ids: str) -> str:
        table = self.constant(self.generator.normal(0, 1, (len(WORDS), WIDTH)), np.float32)
        return self.add("Gather", table, ids)

    def projected(self, x: str, inner: int = WIDTH, outer: int = WIDTH, scale: float = 1.0) -> str:
        return self.add("MatMul", x, self.random(inner, outer, scale=scale))

    def heads(self, x: str, output: str = "") -> str:
        """[batch, length, WIDTH] to [batch, HEADS, length, SIZE]."""
        apart = self.add("Reshape", x, self.constant([0, 0, HEADS, SIZE]))
        return self.add("Transpose", apart, output=output, perm=[0, 2, 1, 3])

    def attended(self, query: str, key: str, value: str, bias: str = "") -> str:
        turned = self.add("Transpose", key, perm=[0, 1, 3, 2])
        found = self.add("MatMul", query, turned)
        found = self.add("Mul", found, self.constant(1 / np.sqrt(SIZE), np.float32))
        if bias:
            found = self.add("Add", found, bias)
        mixed = self.add("MatMul", self.add("Softmax", found, axis=-1), value)
        together = self.add("Transpose", mixed, perm=[0, 2, 1, 3])
        return self.add("Reshape", together, self.constant([0, 0, WIDTH]))

    def fed_forward(self, x: str) -> str:
        wide = self.add("Relu", self.projected(x, WIDTH, INNER))
        return self.add("Add", x, self.projected(wide, INNER, WIDTH))

    def save(self, path: Path, name: str, signature: Signature) -> None:
        import onnx
        from onnx import helper

        def infos(specs: Sequence[TensorSpec]) -> list[object]:
            types = {"int64": onnx.TensorProto.INT64, "float32": onnx.TensorProto.FLOAT}
            return [helper.make_tensor_value_info(spec.name, types[spec.dtype], spec.shape) for spec in specs]

        graph = helper.make_graph(
            self.nodes, name, infos(signature.inputs), infos(signature.outputs), self.weights
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def _encoder(generator: np.random.Generator) -> _Graph:
    graph = _Graph(generator)
    x = graph.embedded("input_ids")
    mask = graph.add("Cast", "attention_mask", to=1)
    x = graph.fed_forward(graph.add("Mul", x, graph.add("Unsqueeze", mask, graph.constant([2]))))
    graph.heads(graph.projected(x), "cross.0.key")
    graph.heads(graph.projected(x, scale=2.0), "cross.0.value")
    return graph


def _decoder(generator: np.random.Generator) -> _Graph:
    graph = _Graph(generator)
    x = graph.embedded("input_ids")
    query, key, value = (graph.heads(graph.projected(x)) for _ in range(3))
    key = graph.add("Concat", "past.0.key", key, output="present.0.key", axis=2)
    value = graph.add("Concat", "past.0.value", value, output="present.0.value", axis=2)
    x = graph.add("Add", x, graph.projected(graph.attended(query, key, value)))
    mask = graph.add("Cast", "encoder_attention_mask", to=1)
    away = graph.add("Mul", graph.add("Sub", mask, graph.constant(1, np.float32)), _large(graph))
    bias = graph.add("Unsqueeze", away, graph.constant([1, 2]))
    query = graph.heads(graph.projected(x))
    seen = graph.attended(query, "cross.0.key", "cross.0.value", bias)
    x = graph.fed_forward(graph.add("Add", x, graph.projected(seen, scale=2.0)))
    last = graph.add("Gather", x, graph.constant(-1), axis=1)
    graph.add("MatMul", last, graph.random(WIDTH, len(WORDS), scale=1.0), output="logits")
    return graph


def _large(graph: _Graph) -> str:
    return graph.constant(1e4, np.float32)


__all__ = ["ENDS", "GENERATION", "TEXTS", "WORDS", "tiny_pipeline", "word_processor"]
