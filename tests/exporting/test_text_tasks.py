"""Each task of texts: a right graph passes, a spoilt one does not, and goldens hold what answers hang on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgekit
from edgekit.errors import ExportWrong, SourceError
from edgekit.exporting.asking import Asking
from edgekit.exporting.checks import Expected, judge
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.processor import travelling_processor
from edgekit.exporting.reference import reference_outputs
from edgekit.exporting.subject import Case, Facts
from edgekit.exporting.text import TextCases
from edgekit.stages.export import ExportedModel
from edgekit.stages.inspect import summary
from edgekit.tasks import load_task
from edgekit.values import ModelTable
from edgekit_runtime.answers import KINDS, Asked, Entry
from edgekit_runtime.goldens import Golden, read_goldens
from edgekit_runtime.processors import TextProcessor, load_processor
from edgekit_runtime.processors.base import Words
from tests.models import tiny_model

pytestmark = pytest.mark.slow

TAGS = ("O", "B-PER", "I-PER", "B-LOC")


@dataclass(frozen=True)
class Kind:
    """A task with a model of it. asked: whether --task must name it; outputs: with their axes."""

    task: str
    family: str
    head: str
    outputs: Mapping[str, tuple[str | int, ...]]
    labels: tuple[str, ...] = ()
    asked: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)


TOKENS = ("batch", "sequence")
KINDS_OF_MODELS = [
    Kind(
        "multi-label-classification",
        "Bert",
        "ForSequenceClassification",
        {"logits": ("batch", 3)},
        ("food", "music", "travel"),
        changes={"problem_type": "multi_label_classification"},
    ),
    Kind("regression", "Roberta", "ForSequenceClassification", {"logits": ("batch", 1)}, ("score",)),
    Kind(
        "zero-shot-classification",
        "DistilBert",
        "ForSequenceClassification",
        {"logits": ("batch", 3)},
        ("contradiction", "neutral", "entailment"),
        asked=True,
    ),
    Kind("token-classification", "Electra", "ForTokenClassification", {"logits": (*TOKENS, 4)}, TAGS),
    Kind("token-classification", "Roberta", "ForTokenClassification", {"logits": (*TOKENS, 4)}, TAGS),
    Kind(
        "question-answering",
        "Bert",
        "ForQuestionAnswering",
        {"start_logits": TOKENS, "end_logits": TOKENS},
    ),
    Kind("fill-mask", "MPNet", "ForMaskedLM", {"logits": (*TOKENS, "vocabulary")}),
    Kind("feature-extraction", "Bert", "Model", {"last_hidden_state": (*TOKENS, 32)}),
]


@dataclass(frozen=True)
class Made:
    """A model exported by `edgekit.export`."""

    kind: Kind
    model: ExportedModel

    @property
    def table(self) -> ModelTable:
        table = self.model.manifest.model
        assert table is not None
        return table

    @property
    def goldens(self) -> tuple[Golden, ...]:
        return read_goldens(self.model.path / "golden")

    @property
    def processor(self) -> TextProcessor:
        processor = load_processor(self.model.path / "processor")
        assert isinstance(processor, TextProcessor)
        return processor


@pytest.fixture(scope="module", params=KINDS_OF_MODELS, ids=lambda kind: f"{kind.task}-{kind.family}")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    kind: Kind = request.param
    place = tmp_path_factory.mktemp("made")
    folder = tiny_model(place / "source", kind.family, kind.head, kind.labels, **kind.changes)
    options = ExportOptions(task=kind.task) if kind.asked else ExportOptions()
    return Made(kind=kind, model=edgekit.export(folder, place / "model", options=options))


def test_a_model_of_each_task_passes_at_shapes_that_were_not_traced(made: Made) -> None:
    table, kind = made.table, made.kind
    assert table.task == kind.task
    found = {spec.name: spec.shape for spec in table.signature.outputs}
    wide = found["logits"][-1] if kind.task == "fill-mask" else ""
    wanted = {
        name: tuple(wide if dim == "vocabulary" else dim for dim in dims)
        for name, dims in kind.outputs.items()
    }
    assert found == wanted
    assert all(check.passed for check in table.checks)
    assert {check.shape["batch"] for check in table.checks} >= {1, 2, 7}
    assert max(check.shape["sequence"] for check in table.checks) == 64


def test_labels_are_recorded_only_where_answers_are_told_in_them(made: Made) -> None:
    told = made.kind.task in (
        "multi-label-classification",
        "zero-shot-classification",
        "token-classification",
    )
    assert made.table.labels == (made.kind.labels if told else ())


def test_the_manifest_and_inspect_tell_how_far_each_axis_goes(made: Made) -> None:
    low, high = made.table.axes["sequence"]
    assert low == 1
    assert high is not None
    assert 64 <= high <= 66
    assert made.table.axes["batch"] == (1, None)
    assert f"axes        batch 1 and more, sequence 1 to {high}" in summary(
        made.model.path, made.model.manifest
    )


def spoilt(graph: Path, place: Path) -> Path:
    """A copy with another head: the last weights that the graph applies are changed."""
    proto = onnx.load(graph)
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in reversed(proto.graph.node):
        for name in node.input:
            values = onnx.numpy_helper.to_array(weights[name]).copy() if name in weights else np.zeros(1, int)
            if values.dtype.kind == "f" and values.ndim:
                slope = np.linspace(0.5, 1.5, values.size, dtype=np.float32)
                weights[name].CopyFrom(
                    onnx.numpy_helper.from_array(values + slope.reshape(values.shape), name)
                )
                onnx.save(proto, place / "model.onnx")
                return place / "model.onnx"
    raise AssertionError("the graph has no weights")


def test_a_spoilt_graph_of_each_task_is_refused(made: Made, tmp_path: Path) -> None:
    expected = [
        Expected(case=Case(name=each.name, feeds=each.feeds), outputs=each.outputs) for each in made.goldens
    ]
    feeds = [each.feeds for each in made.goldens]
    axes = {name: {0: "batch", 1: "sequence"} for name in feeds[0]}
    answers = load_task(made.kind.task).answers
    facts = Facts(task=made.kind.task, answers=answers, axes=axes, source={})
    right = reference_outputs(made.model.path / "model.onnx", made.table.signature, feeds)
    assert all(check.agreement == 1.0 for check in judge(facts, expected, right, made.table.tolerance))
    wrong = reference_outputs(spoilt(made.model.path / "model.onnx", tmp_path), made.table.signature, feeds)
    with pytest.raises(ExportWrong, match="not the same model"):
        judge(facts, expected, wrong, made.table.tolerance)


def test_goldens_are_what_the_task_asks_and_an_answer_can_be_read_of_each(made: Made) -> None:
    """As a device does it: the row through the processor, the outputs through the kind of answers."""
    kind = KINDS[load_task(made.kind.task).answers]
    processor = made.processor
    alone = [golden for golden in made.goldens if len(golden.rows) == 1]
    assert len(alone) >= 6
    for golden in alone:
        prepared = processor.prepare(golden.rows)
        for name, array in prepared.feeds.items():
            np.testing.assert_array_equal(array, golden.feeds[name])
        entry = Entry(outputs=golden.outputs, context=prepared.contexts[0])
        answer = kind.read(Asked(entries=(entry,), labels=made.table.labels, decode=processor.decode))
        assert kind.text(answer)
        if kind.name not in ("number", "tensor"):
            assert all(decision.counts.any() for decision in kind.decisions(golden.outputs, golden.feeds))
    assert any(not golden.feeds["attention_mask"].all() for golden in made.goldens)


def test_rows_have_the_form_that_data_files_give_them(made: Made) -> None:
    rows = [row for golden in made.goldens for row in golden.rows]
    task, settings = made.kind.task, made.processor.settings
    if task == "token-classification":
        assert all(isinstance(row, Words) for row in rows)
        assert any(isinstance(case.row, Words) for case in made.processor.parity)
    elif task in ("question-answering", "zero-shot-classification"):
        assert all(isinstance(row, tuple) for row in rows)
    elif task == "fill-mask":
        assert all(
            golden.feeds["input_ids"].tolist()[0].count(settings.mask_id) == 1 for golden in made.goldens
        )
    else:
        assert all(isinstance(row, str) for row in rows)
    assert settings.truncation == ("only_second" if task == "question-answering" else "longest_first")
    assert made.processor.check_parity() >= 20


# --- parity of what these tasks read --------------------------------------------------------------------


@pytest.fixture
def tokenizer(tiny: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def test_words_are_read_as_transformers_reads_them(tokenizer: Any, tmp_path: Path) -> None:
    reading = Asking(task=load_task("token-classification")).reading()
    processor = travelling_processor(tokenizer, INPUTS, 64, tmp_path / "p", reading)
    rows = [row for row in reading.rows if isinstance(row, Words)]
    assert len(rows) > 30
    for row in rows:
        wanted = tokenizer(list(row.words), is_split_into_words=True, truncation=True, max_length=64)
        prepared = processor.prepare([row])
        assert prepared.feeds["input_ids"].tolist() == [wanted["input_ids"]]
        assert list(prepared.contexts[0].words) == wanted.word_ids(0)  # type: ignore[attr-defined]


def test_of_a_question_and_its_context_only_the_context_is_cut(tokenizer: Any, tmp_path: Path) -> None:
    reading = Asking(task=load_task("question-answering")).reading()
    processor = travelling_processor(tokenizer, INPUTS, 32, tmp_path / "p", reading)
    question, context = "is the water good", "the train is not bad " * 30
    wanted = tokenizer([question], [context], truncation="only_second", max_length=32)
    feeds = processor.feeds([(question, context)])
    assert feeds["input_ids"].tolist() == wanted["input_ids"]
    assert feeds["input_ids"].shape == (1, 32)


class Shifting:
    """A tokenizer whose words are numbered otherwise than the travelling part numbers them."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, *rows: Any, **settings: Any) -> Any:
        encoded = self._inner(*rows, **settings)
        numbers = encoded.word_ids
        encoded.word_ids = lambda at: [None if word is None else word + 1 for word in numbers(at)]
        return encoded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_tokens_of_other_words_are_found_out(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportWrong, match="of other words"):
        travelling_processor(Shifting(tokenizer), INPUTS, 64, tmp_path / "p")


def test_a_tokenizer_without_a_mask_cannot_fill_one(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = tiny_model(tmp_path / "source", "Bert", "ForMaskedLM")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(folder)
    table = json.loads((folder / "tokenizer_config.json").read_text())
    table.pop("mask_token", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(table))
    with pytest.raises(SourceError, match="no mask token"):
        edgekit.export(folder, tmp_path / "model")


# --- what is recorded -----------------------------------------------------------------------------------


def test_goldens_of_a_large_vocabulary_stay_small(tokenizer: Any, tmp_path: Path) -> None:
    """250,000 scores for each token would make goldens of hundreds of megabytes."""
    processor = travelling_processor(tokenizer, INPUTS, 64, tmp_path / "p")
    asking = Asking(task=load_task("fill-mask"), mask="[MASK]")
    small = TextCases(processor=processor, asking=asking, token_bytes=4 * 100)
    large = TextCases(processor=processor, asking=asking, token_bytes=4 * 250_000)
    sizes = [case.feeds["input_ids"].size for case in large.goldens()]
    assert len(sizes) == 3
    assert max(sizes[:2]) < 40
    assert len(list(small.goldens())) == 13
    assert len(list(large.checks())) < len(list(small.checks()))
    assert max(case.feeds["input_ids"].shape[1] for case in large.checks()) == 64


def test_a_text_model_saved_without_its_pooler_gives_the_same_hidden_states(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tiny_model(tmp_path / "source", "Bert", "Model")
    whole = edgekit.export(folder, tmp_path / "whole")
    weights = load_file(folder / "model.safetensors")
    left = {name: values for name, values in weights.items() if not name.startswith("pooler.")}
    assert len(left) < len(weights)
    save_file(left, folder / "model.safetensors", {"format": "pt"})
    bare = edgekit.export(folder, tmp_path / "bare")
    for one, other in zip(
        read_goldens(whole.path / "golden"), read_goldens(bare.path / "golden"), strict=True
    ):
        np.testing.assert_array_equal(one.outputs["last_hidden_state"], other.outputs["last_hidden_state"])


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A tiny CLIP whose texts end with the tiny tokenizer's [SEP]."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    text = {**sizes, "vocab_size": 300, "max_position_embeddings": 64, "bos_token_id": 2, "eos_token_id": 3}
    vision = {**sizes, "image_size": 32, "patch_size": 16}
    return tiny_model(tmp_path / "source", "CLIP", "Model", text_config=text, vision_config=vision)


def test_the_text_tower_of_clip_is_a_sentence_embedding(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="fits several tasks") as caught:
        edgekit.export(clip, tmp_path / "model")
    assert "image-embedding" in caught.value.hint
    made = edgekit.export(clip, tmp_path / "model", options=ExportOptions(task="sentence-embedding"))
    assert made.manifest.model is not None
    [output] = made.manifest.model.signature.outputs
    assert output.name == "sentence_embedding"
    assert [spec.name for spec in made.manifest.model.signature.inputs] == ["input_ids", "attention_mask"]
