"""A text classifier of two products as a model directory, made in code: the mean of its words, two layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.files.directories import new_directory
from edgekit.files.manifests import write_manifest
from edgekit.host.reference import open_reference
from edgekit.values import ModelTable
from edgekit_runtime.goldens import Golden, write_goldens
from edgekit_runtime.values import Signature, TensorSpec, Tolerance
from tests.stages.words import IDS, WORDS, word_processor

WIDTH, INNER, LONGEST = 64, 256, 64
TEXTS = (
    ("who", "wrote"),
    ("ada", "wrote", "yes", "up"),
    ("france", "is", "down"),
    ("no", "is", "no"),
    ("up", "up", "down", "yes", "ada"),
)
SIGNATURE = Signature(
    inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence")),),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 2)),),
)


def averaging_model(directory: Path, seed: int = 0) -> Path:
    """Write it, with goldens by the reference backend. At most `LONGEST` tokens."""
    with new_directory(directory, "model") as work:
        _save_graph(work / "model.onnx", np.random.default_rng(seed))
        word_processor(work / "processor")
        feeds = [{"input_ids": _ids(words)} for words in TEXTS]
        with open_reference(work / "model.onnx", SIGNATURE) as session:
            outputs = session.run_many(feeds)
        write_goldens(
            work / "golden",
            [
                Golden(name=" ".join(words), feeds=given, outputs=found)
                for words, given, found in zip(TEXTS, feeds, outputs, strict=True)
            ],
        )
        table = ModelTable(
            task="text-classification",
            signature=SIGNATURE,
            opset=17,
            source={"kind": "made in code"},
            tolerance=Tolerance(atol=1e-4, rtol=1e-4),
            checks=(),
            labels=("negative", "positive"),
            axes={"batch": (1, None), "sequence": (1, LONGEST)},
        )
        write_manifest(work, name=directory.name, inputs=(), table=table)
    return directory


def _ids(words: tuple[str, ...]) -> np.ndarray:
    return np.array([[IDS["[CLS]"], *(IDS[word] for word in words), IDS["[SEP]"]]], np.int64)


def _save_graph(path: Path, generator: np.random.Generator) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"], name="look up"),
        helper.make_node("ReduceMean", ["words"], ["mean"], name="mean", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "first"], ["inner"], name="first"),
        helper.make_node("Relu", ["inner"], ["bent"], name="bend"),
        helper.make_node("MatMul", ["bent", "second"], ["logits"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "averaging",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [weights("table", len(WORDS), WIDTH), weights("first", WIDTH, INNER), weights("second", INNER, 2)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
