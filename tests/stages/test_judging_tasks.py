"""Every kind of task is judged end to end: rows from a file, a processor, runs, answers, a metric."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import seqeval.metrics  # noqa: F401  scikit-learn changes the environment when it is first imported

from edgekit.errors import DataError, PluginBroken, UsageError
from edgekit.host.reference import open_reference
from edgekit.measuring.metrics import BUILT_IN
from edgekit.stages.answers import asking
from edgekit.stages.answers.asking import Answerer, Asker
from edgekit.stages.answers.judging import JudgingOptions, fitting_metric, paired_answers, read_judging_rows
from edgekit.stages.common import quiet
from edgekit.tasks import Mapped, load_task, task_names
from edgekit.tasks.custom import Custom
from edgekit.values import AccuracyRecord
from edgekit_runtime.errors import InputError, MissingDependency, RunFailed
from edgekit_runtime.processors.base import AudioContext, Context, ImageContext, Prepared
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.values import Signature, TensorSpec
from tests.stages.words import IDS, WORDS, word_processor
from tests.tasks.readme_task import installed_task

Run = Callable[[Array], dict[str, Array]]
SIGNATURE = Signature(
    inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence")),),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", "labels")),),
)


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return word_processor(tmp_path_factory.mktemp("processor"))


@dataclass
class Session:
    """A model in numpy. seen: shapes of what it was asked."""

    run: Run
    seen: list[tuple[int, ...]]

    def run_many(self, rows: Sequence[Feeds]) -> list[dict[str, Array]]:
        found = []
        for row in rows:
            (ids,) = row.values()
            assert len(ids) == 1, "every entry is run alone"
            self.seen.append(ids.shape)
            found.append(self.run(np.asarray(ids)))
        return found


def write(folder: Path, *records: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def judge(
    name: str,
    data: Path,
    processor: Path,
    runs: tuple[Run, Run],
    labels: tuple[str, ...] = (),
    how: JudgingOptions | None = None,
) -> AccuracyRecord:
    """The record of an artifact (the second run) against a model (the first)."""
    how = how or JudgingOptions()
    task = load_task(name)
    rows = read_judging_rows(data, task, labels, Mapped(), how.metric)
    asker = Asker(task, labels, processor)
    model, artifact = (Answerer(asker=asker, session=Session(run, []), signature=SIGNATURE) for run in runs)
    return paired_answers((model, artifact), rows, how, quiet, "")


# --- models -------------------------------------------------------------------------------


def holds(*words: str) -> Run:
    """A logit for each word: whether the row has it."""
    return lambda ids: {"logits": np.array([[5.0 if IDS[word] in ids else -5.0 for word in words]])}


def tagger(*words: str) -> Run:
    """Class 1 for these words, class 0 for all others."""
    known = [IDS[word] for word in words]
    return lambda ids: {
        "logits": np.stack([np.where(np.isin(ids, known), -4.0, 4.0), np.zeros(ids.shape)], -1)
    }


def points(word: str) -> Run:
    """Start and end at a word."""
    return lambda ids: {name: np.where(ids == IDS[word], 9.0, 0.0) for name in ("start_logits", "end_logits")}


def guesses(word: str) -> Run:
    """The same word everywhere."""
    return lambda ids: {"logits": np.tile(np.eye(len(WORDS))[IDS[word]] * 9, (*ids.shape, 1))}


def bag(*weights: float) -> Run:
    """How often each word occurs, some of them weighted."""
    weight = np.ones(len(WORDS))
    weight[5 : 5 + len(weights)] = weights
    return lambda ids: {"sentence_embedding": (np.bincount(ids[0], minlength=len(WORDS)) * weight)[None]}


def entails(word: str) -> Run:
    """Whether the hypothesis ends with the word; classes are contradiction, entailment."""
    return lambda ids: {"logits": np.array([[0.0, 5.0 if ids[0, -3] == IDS[word] else -5.0]])}


def length(factor: float) -> Run:
    return lambda ids: {"logits": np.array([[factor * ids.shape[1]]])}


# --- tasks of texts --------------------------------------------------------------------------


def test_labels_that_hold(processor: Path, tmp_path: Path) -> None:
    data = write(tmp_path, {"text": "Ada wrote", "labels": ["A", "W"]}, {"text": "who", "labels": []})
    found = judge(
        "multi-label-classification",
        data,
        processor,
        (holds("ada", "wrote"), holds("ada", "who")),
        ("A", "W"),
    )
    assert (found.metric, found.model, found.artifact, found.flips) == ("labels-f1", 1.0, 0.5, 2)
    assert [(row.label, row.model, row.artifact) for row in found.changed] == [
        ("A, W", "A, W", "A"),
        ("none", "none", "W"),
    ]


def test_numbers(processor: Path, tmp_path: Path) -> None:
    data = write(tmp_path, {"text": "Ada wrote", "value": 4}, {"text": "who", "value": 3})
    found = judge("regression", data, processor, (length(1.0), length(2.0)))
    assert (found.metric, found.model, found.higher_is_better) == ("rmse", 0.0, False)
    assert found.artifact == pytest.approx(np.sqrt((16 + 9) / 2))
    assert (found.changed[0].label, found.changed[0].artifact) == ("4", "8")
    assert (
        judge(
            "regression", data, processor, (length(1), length(2)), how=JudgingOptions(metric="mae")
        ).artifact
        == 3.5
    )


def test_tags_of_words(processor: Path, tmp_path: Path) -> None:
    data = write(tmp_path, {"words": ["Ada", "wrote"], "tags": ["B-PER", "O"]})
    runs = (tagger("ada"), tagger("ada", "wrote"))
    found = judge("token-classification", data, processor, runs, ("O", "B-PER"))
    assert (found.metric, found.model, found.artifact) == ("entity-f1", 1.0, pytest.approx(2 / 3))
    assert found.changed[0].artifact == "B-PER, B-PER"
    how = JudgingOptions(metric="tag-accuracy")
    assert judge("token-classification", data, processor, runs, ("O", "B-PER"), how).artifact == 0.5


def test_answers_in_a_context_are_shown_only_with_the_rows(processor: Path, tmp_path: Path) -> None:
    data = write(tmp_path, {"question": "who?", "context": "Ada wrote", "answers": ["Ada", "she"]})
    for include, told in ((False, "1 words, not shown"), (True, "Ada")):
        how = JudgingOptions(include_rows=include)
        found = judge("question-answering", data, processor, (points("ada"), points("wrote")), how=how)
        assert (found.metric, found.model, found.artifact) == ("span-f1", 1.0, 0.0)
        assert found.changed[0].model == told
        assert found.changed[0].text == ("who? | Ada wrote" if include else "")
        assert ("Ada" in str(found)) is include
    how = JudgingOptions(metric="exact-match")
    found = judge("question-answering", data, processor, (points("ada"), points("wrote")), how=how)
    assert (found.lost, found.gained, found.method) == (1, 0, "paired-score")


def test_the_word_of_a_mask_is_compared_without_regard_to_case(processor: Path, tmp_path: Path) -> None:
    data = write(
        tmp_path, {"text": "[MASK] is up", "word": "France"}, {"text": "is [MASK]", "word": "FRANCE"}
    )
    found = judge("fill-mask", data, processor, (guesses("france"), guesses("who")))
    assert (found.metric, found.model, found.artifact, found.lost) == ("accuracy", 1.0, 0.0, 2)
    found = judge(
        "fill-mask", data, processor, (guesses("france"), guesses("who")), how=JudgingOptions(metric="top-5")
    )
    assert found.model == 1.0
    data = write(tmp_path, {"text": "[MASK]", "word": "France"}, {"text": "no mask", "word": "France"})
    with pytest.raises(DataError, match="row 2: there is no mask token"):
        judge("fill-mask", data, processor, (guesses("france"), guesses("who")))


def test_one_of_any_labels_takes_a_run_for_each(processor: Path, tmp_path: Path) -> None:
    row = {"text": "ada", "candidates": ["up", "down", "france"], "label": "up"}
    labels = ("contradiction", "entailment")
    found = judge(
        "zero-shot-classification", write(tmp_path, row), processor, (entails("up"), entails("down")), labels
    )
    assert (found.metric, found.lost, found.model, found.artifact) == ("accuracy", 1, 1.0, 0.0)
    assert (found.changed[0].model, found.changed[0].artifact) == ("up", "down")
    asker = Asker(load_task("zero-shot-classification"), labels, processor)
    (read,) = read_judging_rows(tmp_path / "rows.jsonl", asker.task, labels, Mapped(), "")
    assert [run.feeds["input_ids"].shape[0] for run in asker.runs(read)] == [1, 1, 1]


def test_how_alike_two_texts_are(processor: Path, tmp_path: Path) -> None:
    pairs = [("ada", "ada", 1), ("ada wrote", "ada who", 0.5), ("ada wrote", "who is", 0)]
    data = write(tmp_path, *({"text": one, "text_pair": two, "score": score} for one, two, score in pairs))
    found = judge("sentence-embedding", data, processor, (bag(), bag(0, 0, 0, 0, 0, 0, 9)))
    assert (found.metric, found.model) == ("spearman", pytest.approx(1.0))
    assert found.artifact < 0.9


def test_embeddings_are_judged_against_the_exported_models(processor: Path, tmp_path: Path) -> None:
    data = write(
        tmp_path, {"text": "ada wrote"}, {"text": "who"}
    )  # no score: no data file tells the right vector
    how = JudgingOptions(metric="cosine")
    found = judge("sentence-embedding", data, processor, (bag(), bag(0)), how=how)
    assert found.model == pytest.approx(1.0)
    assert found.artifact == pytest.approx((3 / np.sqrt(3 * 4) + 1) / 2)
    assert found.changed[0].model == f"{len(WORDS)} numbers"


def test_pairs_are_needed_to_say_how_alike_they_are(processor: Path, tmp_path: Path) -> None:
    data = write(tmp_path, {"text": "ada", "score": 1})
    with pytest.raises(RunFailed, match=r"row 1: .*one row is a vector") as caught:
        judge("sentence-embedding", data, processor, (bag(), bag()))
    assert "pairs" in caught.value.hint


def test_hidden_states_are_judged_by_ones_own_function_only(processor: Path, tmp_path: Path) -> None:
    data = write(tmp_path, {"text": "ada wrote"}, {"text": "who"})
    with pytest.raises(UsageError, match="has no metric of its own") as caught:
        judge("feature-extraction", data, processor, (bag(), bag()))
    assert caught.value.hint == "these fit: your own: --metric path/file.py:function"
    (tmp_path / "mine.py").write_text(
        "def same(answers, truths):\n"
        "    return sum(float((a['sentence_embedding'] == t['sentence_embedding']).all()) for a, t in "
        "zip(answers, truths)) / len(truths)\n",
        "utf-8",
    )
    how = JudgingOptions(metric=f"{tmp_path / 'mine.py'}:same")
    found = judge("feature-extraction", data, processor, (bag(), bag(2)), how=how)
    assert (found.model, found.artifact, found.flips) == (1.0, 0.5, 1)


def test_outputs_that_cannot_be_read_are_named_by_their_row(processor: Path, tmp_path: Path) -> None:
    data = write(tmp_path, {"text": "ada", "labels": []}, {"text": "no" * 9, "labels": ["A"]})

    def fails(ids: Array) -> dict[str, Array]:
        return {"logits": np.full((1, 2), np.nan if IDS["[UNK]"] in ids else 1.0)}

    with pytest.raises(RunFailed, match=r"row 2: .*not finite"):
        judge("multi-label-classification", data, processor, (fails, fails), ("A", "W"))


# --- tasks of images and sound: the processor is a stand-in ------------------------------------


class Eye:
    """Takes any file for four pixels, of which the model sees all."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def prepare(self, rows: Sequence[object], *, pad_to: int | None = None) -> Prepared:
        (row,) = rows
        if "broken" in str(row):
            raise InputError(f"row 0: {row} cannot be read")
        return Prepared(feeds={"pixel_values": np.zeros((1, 3, 2, 2), np.float32)}, contexts=(self.context,))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(" abc"[number] for number in ids)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from PIL import Image

    image = ImageContext(size=(2, 2), seen=(0.0, 0.0, 2.0, 2.0))
    monkeypatch.setattr(asking, "load_processor", lambda path: Eye(image))
    Image.new("RGB", (2, 2)).save(tmp_path / "1.png")
    mask = Image.new("L", (2, 2), 1)
    mask.putpixel((0, 0), 255)
    mask.save(tmp_path / "m.png")
    return tmp_path


def test_masks_are_compared_pixel_by_pixel_and_told_by_their_size(files: Path) -> None:
    data = write(files, {"image": "1.png", "mask": "m.png"})

    def whole(choice: int) -> Run:
        return lambda ids: {"logits": np.eye(2)[choice].reshape(1, 2, 1, 1) * np.ones((1, 2, 2, 2))}

    found = judge("semantic-segmentation", data, files, (whole(1), whole(0)), ("sky", "road"))
    assert (found.metric, found.model, found.artifact) == ("miou", 1.0, 0.0)
    assert (found.changed[0].model, found.changed[0].label) == ("2 x 2 classes",) * 2


def test_boxes_are_compared_in_pixels(files: Path) -> None:
    data = write(files, {"image": "1.png", "boxes": [{"box": [0, 0, 1, 1], "label": "cat"}]})

    def at(place: float) -> Run:
        return lambda ids: {
            "logits": np.array([[[9.0, 0.0]]]),
            "pred_boxes": np.array([[[place, place, 0.5, 0.5]]]),
        }

    found = judge("object-detection", data, files, (at(0.25), at(0.75)), ("cat",))
    assert (found.metric, found.model, found.artifact) == ("map", pytest.approx(1.0), 0.0)
    assert found.changed[0].label == "cat at (0, 0, 1, 1)"
    assert found.changed[0].model == "cat 1.00 at (0, 0, 1, 1)"


def test_what_is_heard_is_compared_word_by_word(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "load_processor", lambda path: Eye(AudioContext(seconds=1.0)))
    (files / "1.wav").write_bytes(b"RIFF")
    data = write(files, {"audio": "1.wav", "text": "a b"})

    def says(*numbers: int) -> Run:
        return lambda ids: {"logits": np.eye(4)[list(numbers)][None] * 9.0}

    found = judge("speech-recognition", data, files, (says(1, 0, 2), says(1, 0, 3)))
    assert (found.metric, found.model, found.artifact) == ("wer", 0.0, 0.5)
    assert found.changed[0].model == "2 words, not shown"


def test_a_picture_that_cannot_be_read_is_named_by_its_row(files: Path) -> None:
    (files / "broken.png").write_bytes(b"")
    data = write(files, {"image": "1.png"}, {"image": "broken.png"})
    with pytest.raises(DataError, match=r"^row 2: .*broken\.png cannot be read"):
        judge("image-embedding", data, files, (bag(), bag()))


def test_rows_are_held_in_chunks_by_what_they_take(
    processor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_CHUNK_BYTES", 100)
    data = write(tmp_path, *({"text": "ada wrote", "value": 4} for _ in range(5)))
    task = load_task("regression")
    rows = read_judging_rows(data, task, (), Mapped(), "")
    side = Answerer(asker=Asker(task, (), processor), session=Session(length(1), []), signature=SIGNATURE)
    seen: list[int] = []
    paired_answers((side, side), rows, JudgingOptions(), lambda done, of, what: seen.append(done), "")
    assert seen == [3, 5]  # a row holds 4 tokens of 8 bytes and about 4 logits of 4 bytes


# --- a task of a third party -------------------------------------------------------------------


def test_a_third_partys_task_is_judged_on_its_own_models(
    processor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model in ONNX that says yes when two questions have as many tokens "who" as a bias asks for."""
    data = write(
        tmp_path,
        {"one": "who is up", "other": "who", "same": "yes"},
        {"one": "is ada up", "other": "is ada down", "same": "no"},
    )
    with installed_task(tmp_path, monkeypatch) as name:
        task = load_task(name)
        rows = read_judging_rows(data, task, ("no", "yes"), Mapped(), "")
        asker = Asker(task, ("no", "yes"), processor)
        good, bad = (counting_model(tmp_path / f"{bias}", bias) for bias in (0.5, 5.0))
        with open_reference(good, SIGNATURE) as first, open_reference(bad, SIGNATURE) as second:
            model, artifact = (
                Answerer(asker=asker, session=session, signature=SIGNATURE) for session in (first, second)
            )
            found = paired_answers((model, artifact), rows, JudgingOptions(), quiet, "")
    assert (found.metric, found.model, found.artifact, found.lost, found.gained) == (
        "accuracy",
        1.0,
        0.5,
        1,
        0,
    )
    assert [(row.number, row.label, row.model, row.artifact) for row in found.changed] == [
        (1, "yes", "yes", "no")
    ]
    assert found.max_logit_distance == 4.5


def counting_model(folder: Path, bias: float) -> Path:
    """logits = [bias, how often "who" occurs]."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    table = np.zeros((len(WORDS), 2), np.float32)
    table[IDS["who"], 1] = 1.0
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([bias, 0.0], np.float32), "bias"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["found"]),
        helper.make_node("ReduceSum", ["found", "axis"], ["summed"], keepdims=0),
        helper.make_node("Add", ["summed", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "counting",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "labels"])],
        constants,
    )
    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


class Mute(Custom):
    answers = "silence"


def test_a_task_that_answers_what_nobody_reads_is_a_broken_plugin() -> None:
    with pytest.raises(PluginBroken, match="'silence', which is none of classification"):
        fitting_metric("accuracy", Mute())


# --- which metric fits which task ----------------------------------------------------------------

ONE_LABEL = {"accuracy", "top-5", "macro-f1", "micro-f1"}
A_TEXT = {"exact-match", "span-f1", "wer", "chrf"}
FITTING = {
    "text-classification": ONE_LABEL,
    "multi-label-classification": {"labels-f1"},
    "zero-shot-classification": ONE_LABEL,
    "regression": {"rmse", "mae", "spearman"},
    "token-classification": {"entity-f1", "tag-accuracy"},
    "question-answering": A_TEXT,
    "fill-mask": ONE_LABEL | A_TEXT,
    "text2text-generation": A_TEXT,
    "sentence-embedding": {"cosine", "spearman", "rmse", "mae"},
    "feature-extraction": set(),
    "image-classification": ONE_LABEL,
    "object-detection": {"map"},
    "semantic-segmentation": {"miou"},
    "image-embedding": {"cosine", "spearman", "rmse", "mae"},
    "audio-classification": ONE_LABEL,
    "speech-recognition": A_TEXT,
    "custom": set(),
}


def test_every_task_is_in_the_table() -> None:
    assert set(FITTING) == set(task_names())


@pytest.mark.parametrize("name", task_names())
@pytest.mark.parametrize("metric", [*BUILT_IN, "top-3", "statistics:covariance"])
def test_a_metric_fits_the_tasks_whose_answers_it_takes_and_no_other(name: str, metric: str) -> None:
    task = load_task(name)
    fits = metric in FITTING[name] or ":" in metric or (metric == "top-3" and "top-5" in FITTING[name])
    if fits:
        assert fitting_metric(metric, task).name == metric
        return
    with pytest.raises(UsageError, match=f"metric '{metric}' judges .*'{name}'") as caught:
        fitting_metric(metric, task)
    assert all(word in caught.value.hint for word in (*FITTING[name], "path/file.py:function"))


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("token-classification", "seqeval"),
        ("object-detection", "pycocotools"),
        ("sentence-embedding", "scipy"),
        ("speech-recognition", "jiwer"),
    ],
)
def test_a_library_that_a_metric_lacks_is_told_before_anything_runs(
    name: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependency, match=f"needs {library}") as caught:
        fitting_metric("", load_task(name))
    assert "edgekit[metrics]" in caught.value.hint


@pytest.mark.parametrize("name", task_names())
def test_a_tasks_own_metric_fits_it(name: str) -> None:
    task = load_task(name)
    if task.metric:
        assert fitting_metric("", task).name == task.metric in FITTING[name]
    else:
        with pytest.raises(UsageError, match="has no metric of its own"):
            fitting_metric("", task)
