"""The graph is plain, carries nothing of the machine that made it, and is the same each time."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from edgekit.exporting import onnx as writing
from edgekit.exporting.folder import load_folder
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.source import inspect_folder
from edgekit.exporting.subject import Subject


@pytest.fixture(scope="module")
def subject(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    options = ExportOptions()
    return load_folder(inspect_folder(tiny, options), options, tmp_path_factory.mktemp("made") / "processor")


def write(subject: Subject, directory: Path) -> Path:
    directory.mkdir()
    return writing.save(writing.trace(subject, 20), directory, writing.model_notes(subject.facts))


@pytest.fixture(scope="module")
def model(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return onnx.load(write(subject, tmp_path_factory.mktemp("graph") / "model"))


def plain_export(subject: Subject) -> Any:
    """What torch.onnx.export gives for the model as it was loaded."""
    feeds = tuple(torch.from_numpy(array) for array in subject.trace.values())
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=64)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns of its own internals here
        program = torch.onnx.export(
            subject.module, feeds, dynamo=True, dynamic_shapes=(dims, dims, dims), verbose=False
        )
    assert program is not None
    return program.model_proto


def test_the_graph_is_a_quarter_smaller_than_the_exporters_own(model: Any, subject: Subject) -> None:
    assert len(model.graph.node) <= 0.75 * len(plain_export(subject).graph.node)


def test_attention_is_products_one_softmax_and_one_mask(model: Any) -> None:
    kinds = Counter(node.op_type for node in model.graph.node)
    assert not {"IsNaN", "GatherND", "Range", "Expand", "GreaterOrEqual"} & set(kinds)
    assert kinds["Softmax"] == 2
    assert kinds["Where"] == 1


def test_nothing_of_this_machine_is_in_the_file(model: Any) -> None:
    content = model.SerializeToString()
    assert b"/" + b"edgekit" not in content
    assert b"site-packages" not in content
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        assert not part.metadata_props
        assert not part.doc_string


def test_inner_shapes_are_left_to_the_engines(model: Any) -> None:
    assert not model.graph.value_info


def test_inputs_outputs_and_axes_have_names_people_know(subject: Subject, tmp_path: Path) -> None:
    signature = writing.signature(writing.trace(subject, 20))
    assert [(spec.name, spec.dtype, spec.shape) for spec in signature.inputs] == [
        (name, "int64", ("batch", "sequence")) for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    assert [(spec.name, spec.shape) for spec in signature.outputs] == [("logits", ("batch", 2))]


def test_weights_keep_their_names(model: Any, subject: Subject) -> None:
    names = {tensor.name for tensor in model.graph.initializer}
    assert {"bert.embeddings.word_embeddings.weight", "classifier.bias"} <= names
    assert names & set(subject.module.state_dict())
    assert not any(name.startswith("model.") for name in names)


def test_the_model_says_what_it_is(model: Any) -> None:
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert notes["edgekit.task"] == "text-classification"
    assert notes["edgekit.labels"] == '["negative", "positive"]'
    assert notes["edgekit.tool.torch"].startswith(torch.__version__.split("+")[0])
    assert model.producer_name == "edgekit"


def test_the_file_is_valid_onnx(subject: Subject, tmp_path: Path) -> None:
    onnx.checker.check_model(str(write(subject, tmp_path / "model")), full_check=True)


def test_two_exports_are_the_same_bytes(subject: Subject, tmp_path: Path) -> None:
    digests = {hashlib.sha256(write(subject, tmp_path / name).read_bytes()).hexdigest() for name in "ab"}
    assert len(digests) == 1


def test_the_original_is_left_as_it_was(subject: Subject) -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask

    before = subject.module.config._attn_implementation  # type: ignore[union-attr]
    levels = {name: logging.getLogger(name).level for name in ("torch", "transformers", "onnxscript")}
    writing.trace(subject, 20)
    assert subject.module.config._attn_implementation == before == "sdpa"  # type: ignore[union-attr]
    assert ALL_MASK_ATTENTION_FUNCTIONS["eager"] is eager_mask
    assert {name: logging.getLogger(name).level for name in levels} == levels


def test_large_weights_lie_in_a_file_beside(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "EXTERNAL_OVER_BYTES", 1000)
    path = write(subject, tmp_path / "model")
    assert {found.name for found in path.parent.iterdir()} == {"model.onnx", "model.onnx.data"}
    assert path.stat().st_size < (tmp_path / "model" / "model.onnx.data").stat().st_size
    onnx.checker.check_model(str(path))


def test_no_checked_shape_is_the_traced_one(subject: Subject) -> None:
    traced = {name: array.shape for name, array in subject.trace.items()}
    shapes = [{name: array.shape for name, array in case.feeds.items()} for case in subject.cases]
    assert traced not in shapes
    assert {shape["input_ids"][0] for shape in shapes} >= {1, 2, 7}
    lengths = {shape["input_ids"][1] for shape in shapes}
    assert max(lengths) == 64
    assert min(lengths) == 3
    assert any(length % 2 for length in lengths)


def test_some_checked_rows_are_padded_and_some_are_not(subject: Subject) -> None:
    masks = [case.feeds["attention_mask"] for case in subject.cases if len(case.feeds["input_ids"]) > 1]
    assert any(mask.all() for mask in masks)
    assert any(not mask.all() for mask in masks)


def test_goldens_are_a_dozen_sentences_and_a_padded_batch(subject: Subject) -> None:
    golden = [case for case in subject.cases if case.golden]
    assert len(golden) == 13
    assert all(case.rows for case in golden)
    assert not golden[-1].feeds["attention_mask"].all()
