"""Each metric against an example worked by hand and against the library or source that defines it."""

from __future__ import annotations

import contextlib
import io
import math
import sys
from typing import Any

import jiwer
import numpy as np
import pytest
import scipy.stats
import seqeval.metrics
import sklearn.metrics
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression

from edgekit.errors import DataError, UnknownName
from edgekit.measuring.metrics import BUILT_IN, Metric, load_metric, metrics_for
from edgekit_runtime.errors import MissingDependency


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[Any], NDArray[Any]]:
    """Probabilities of a weak classifier of digits, and what was written."""
    data, truths = load_digits(return_X_y=True)
    model = LogisticRegression(C=1e-4, max_iter=50, solver="lbfgs").fit(data[:200] / 16, truths[:200])
    return model.predict_proba(data[200:] / 16), truths[200:]


def words(numbers: NDArray[Any]) -> list[str]:
    return [f"digit {number}" for number in numbers]


# --- labels -----------------------------------------------------------------------------------------


def test_accuracy_is_the_share_of_equal_labels(digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    assert load_metric("accuracy").score(["a", "b", "c"], ["a", "b", "b"]) == 2 / 3
    probabilities, truths = digits
    found = probabilities.argmax(axis=1)
    expected = sklearn.metrics.accuracy_score(truths, found)
    assert load_metric("accuracy").score(words(found), words(truths)) == pytest.approx(expected)
    assert 0.2 < expected < 0.95


def test_f1_of_labels_is_scikit_learns(digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    probabilities, truths = digits
    found = probabilities.argmax(axis=1)
    for average in ("macro", "micro"):
        expected = sklearn.metrics.f1_score(truths, found, average=average)
        assert load_metric(f"{average}-f1").score(words(found), words(truths)) == pytest.approx(expected)


def test_macro_f1_by_hand() -> None:
    """a: 1 right, 1 wrong answer, none missed: 2/3. b: 1 right, none wrong, 1 missed: 2/3. c: 1."""
    metric = load_metric("macro-f1")
    assert metric.score(["a", "a", "b", "c"], ["a", "b", "b", "c"]) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert metric.score(["x"], ["a"]) == 0.0


def test_top_k_is_scikit_learns(digits: tuple[NDArray[Any], NDArray[Any]]) -> None:
    assert load_metric("top-5").score([["a", "b"], ["a", "b"]], ["b", "c"]) == 0.5
    probabilities, truths = digits
    ranked = [words(row) for row in np.argsort(-probabilities, axis=1)]
    for count in (1, 3, 5):
        expected = sklearn.metrics.top_k_accuracy_score(truths, probabilities, k=count)
        assert load_metric(f"top-{count}").score(ranked, words(truths)) == pytest.approx(expected)


def test_f1_of_label_sets_is_scikit_learns() -> None:
    metric = load_metric("labels-f1")
    assert metric.score([("a", "b"), (), ("c",)], [("a",), ("b",), ("c",)]) == pytest.approx(2 * 2 / (3 + 3))
    assert metric.score([()], [()]) == 0.0
    generator = np.random.default_rng(0)
    answers, truths = generator.random((2, 50, 4)) < 0.4
    sets = [[tuple(np.flatnonzero(row).tolist()) for row in side] for side in (answers, truths)]
    expected = sklearn.metrics.f1_score(truths, answers, average="micro")
    assert metric.score(*sets) == pytest.approx(expected)


# --- sequences, texts and speech ----------------------------------------------------------------------

TAGGED = [
    (["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "I-PER", "O", "B-LOC"]),
    (["B-PER", "O", "O", "B-ORG"], ["B-PER", "I-PER", "O", "B-LOC"]),
    (["O", "I-LOC", "I-LOC", "B-LOC"], ["O", "B-LOC", "I-LOC", "B-LOC"]),
    (["O", "O"], ["O", "O"]),
]


def test_entity_f1_is_seqevals() -> None:
    answers, truths = zip(*TAGGED, strict=True)
    found = load_metric("entity-f1").score(answers, truths)
    assert found == pytest.approx(seqeval.metrics.f1_score(list(truths), list(answers)))
    assert found == pytest.approx(4 / 6)  # 4 right of 6 found and 6 there
    generator = np.random.default_rng(0)
    tags = np.array(["O", "B-A", "I-A", "B-B", "I-B"])
    truths = tuple(tags[generator.integers(0, 5, 12)].tolist() for _ in range(200))
    answers = tuple(
        [tag if generator.random() < 0.8 else str(generator.choice(tags)) for tag in row] for row in truths
    )
    expected = seqeval.metrics.f1_score(list(truths), list(answers))
    assert load_metric("entity-f1").score(answers, truths) == pytest.approx(expected)


def test_tags_one_by_one_are_scikit_learns_accuracy() -> None:
    answers, truths = [["NOUN", "VERB"], ["NOUN"]], [["NOUN", "NOUN"], ["NOUN"]]
    flat = ([tag for row in side for tag in row] for side in (truths, answers))
    expected = sklearn.metrics.accuracy_score(*flat)
    assert (
        load_metric("tag-accuracy").score(answers, truths) == pytest.approx(expected) == pytest.approx(2 / 3)
    )
    with pytest.raises(DataError, match="'NOUN' is no IOB2 tag") as caught:
        load_metric("entity-f1").score(answers, truths)
    assert "tag-accuracy" in caught.value.hint


def test_question_answers_are_compared_as_squad_does() -> None:
    """Of the script evaluate-v1.1.py: articles, punctuation, case and white space do not count."""
    exact, f1 = load_metric("exact-match"), load_metric("span-f1")
    truths = [["Denver Broncos", "The Denver Broncos!"], "1879", "the Nile river"]
    answers = ["denver  broncos", "in 1879", "Amazon"]
    assert exact.right(answers, truths) == (True, False, False)
    assert exact.score(answers, truths) == pytest.approx(1 / 3)
    # row 2: precision 1/2, recall 1; row 3: nothing shared
    assert f1.score(answers, truths) == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert f1.score(["cat sat on a mat"], ["the cat sat cat"]) == pytest.approx(2 * 2 / (4 + 3))
    assert f1.score([""], ["a"]) == 0.0 and exact.score([""], ["a"]) == 1.0


def test_wer_is_jiwers_over_all_rows() -> None:
    truths = ["the cat sat", "hello world again", "one"]
    answers = ["the cat sat down", "hello word", ""]
    found = load_metric("wer").score(answers, truths)
    assert found == pytest.approx(jiwer.wer(truths, answers))
    assert found == pytest.approx((1 + 2 + 1) / 7)
    assert not load_metric("wer").higher_is_better


def test_chrf_is_sacrebleus_over_all_rows() -> None:
    """By `sacrebleu.corpus_chrf` 2.6.0: white space does not count, letter case does, and the n-grams of an
    answer whose truth has none of that length do not either."""
    chrf = load_metric("chrf")
    rows = [("a cat sat", "the cat sat"), ("", "a dog"), ("hi", "hi"), ("Ein Übel  naht", "ein Übel naht")]
    each = [53.60977455172623, 0.0, 100.0, 87.72426647426647]
    assert [100 * chrf.score([answer], [truth]) for answer, truth in rows] == pytest.approx(each)
    assert 100 * chrf.score(*zip(*rows, strict=True)) == pytest.approx(69.12178218396654)
    assert 100 * chrf.score(["hello", "fine day"], ["hi", "so fine"]) == pytest.approx(30.0380346676643)
    with pytest.raises(DataError, match="row 1: 3 is no text"):
        chrf.score(["a"], [3])


# --- boxes and masks -----------------------------------------------------------------------------------


def boxes(generator: np.random.Generator, images: int) -> tuple[list[Any], list[Any]]:
    """Images with some boxes of three kinds, crowds too, and what a detector says."""
    truths, answers = [], []
    for _ in range(images):
        there, found = [], []
        for _ in range(generator.integers(0, 5)):
            box = [*generator.uniform(0, 80, 2), *generator.uniform(8, 40, 2)]
            label = str(generator.choice(["cat", "dog", "bird"]))
            crowd = bool(generator.random() < 0.1)
            there.append({"box": [float(x) for x in box], "label": label, "crowd": crowd})
            if generator.random() < 0.8:
                moved = [float(x) for x in np.array(box) + generator.normal(0, 1.5, 4)]
                said = label if generator.random() < 0.9 else "dog"
                found.append({"box": moved, "label": said, "score": float(generator.random())})
        if generator.random() < 0.5:
            found.append({"box": [1.0, 2.0, 20.0, 9.0], "label": "cat", "score": float(generator.random())})
        truths.append(there)
        answers.append(found)
    return truths, answers


def coco_map(truths: list[Any], answers: list[Any]) -> float:
    """COCOeval from its files' form to `summarize`, the first number it prints."""
    labels = {"bird": 1, "cat": 2, "dog": 3}
    images = [{"id": place} for place in range(1, len(truths) + 1)]
    annotations = [
        {
            "image_id": place,
            "category_id": labels[box["label"]],
            "bbox": box["box"],
            "area": box["box"][2] * box["box"][3],
            "iscrowd": int(box["crowd"]),
        }
        for place, row in enumerate(truths, start=1)
        for box in row
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    results = [
        {"image_id": p, "category_id": labels[b["label"]], "bbox": b["box"], "score": b["score"]}
        for p, row in enumerate(answers, start=1)
        for b in row
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = {
            "images": images,
            "categories": [{"id": number, "name": name} for name, number in labels.items()],
            "annotations": annotations,
            "info": {},
        }
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def test_map_is_pycocotools_own_figure() -> None:
    truths, answers = boxes(np.random.default_rng(0), 60)
    expected = coco_map(truths, answers)
    assert load_metric("map").score(answers, truths) == pytest.approx(expected, abs=1e-12)
    assert 0.2 < expected < 0.8


def test_map_by_hand() -> None:
    """Two cats, one found exactly: precision 1 up to recall 0.5, so 51 of 101 recalls have it."""
    cat = {"box": [0, 0, 10, 10], "label": "cat"}
    far = {"box": [50, 50, 10, 10], "label": "cat"}
    metric = load_metric("map")
    assert metric.score([[{**cat, "score": 0.9}]], [[cat, far]]) == pytest.approx(51 / 101)
    # an IoU of 0.8 counts at the thresholds 0.50, 0.55, ... 0.80: 7 of 10
    part = {"box": [0, 0, 8, 10], "label": "cat", "score": 0.9}
    assert metric.score([[part]], [[cat]]) == pytest.approx(0.7)
    assert metric.score([[]], [[cat]]) == 0.0


def test_miou_is_scikit_learns_on_all_pixels() -> None:
    generator = np.random.default_rng(0)
    truths = [generator.integers(0, 4, (9, 7)) for _ in range(5)]
    answers = [np.where(generator.random((9, 7)) < 0.8, mask, (mask + 1) % 4) for mask in truths]
    flat = (np.concatenate([mask.ravel() for mask in side]) for side in (truths, answers))
    matrix = sklearn.metrics.confusion_matrix(*flat)
    expected = np.mean(np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix)))
    assert load_metric("miou").score(answers, truths) == pytest.approx(expected)


def test_miou_by_hand_leaves_out_pixels_that_nobody_labelled() -> None:
    """Class 0: 1 of 2. Class 1: 1 of 2. The pixel of 255 is not judged."""
    found = load_metric("miou").score([np.array([[0, 1, 1, 0]])], [np.array([[0, 0, 1, 255]])])
    assert found == pytest.approx(0.5)


# --- numbers ---------------------------------------------------------------------------------------------


def test_numbers_are_judged_as_their_libraries_do() -> None:
    data, _ = load_iris(return_X_y=True)
    answers, truths = data[:, 0].tolist(), data[:, 2].tolist()
    figures = {
        "rmse": math.sqrt(sklearn.metrics.mean_squared_error(truths, answers)),
        "mae": sklearn.metrics.mean_absolute_error(truths, answers),
        "spearman": scipy.stats.spearmanr(answers, truths).statistic,
    }
    for name, expected in figures.items():
        assert load_metric(name).score(answers, truths) == pytest.approx(expected)
    assert load_metric("rmse").score([1.0, 2.0], [1.0, 4.0]) == pytest.approx(math.sqrt(2.0))
    assert load_metric("mae").score([1.0, 2.0], [1.0, 4.0]) == 1.0
    assert load_metric("spearman").score([1, 2, 3], [10, 30, 20]) == pytest.approx(0.5)
    assert [load_metric(name).higher_is_better for name in figures] == [False, False, True]


def test_cosine_is_scikit_learns_mean() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(2, 20, 8))
    expected = np.diag(sklearn.metrics.pairwise.cosine_similarity(one, other)).mean()
    assert load_metric("cosine").score(list(one), list(other)) == pytest.approx(expected)
    assert load_metric("cosine").score([[1, 0], [3, 4]], [[0, 1], [6, 8]]) == pytest.approx(0.5)


def test_perplexity_weighs_every_token_alike() -> None:
    """Tokens of likelihood 1/2, 1/2 and 1/4: exp of the mean of log 2, log 2, log 4 = 2^(4/3)."""
    rows = [[math.log(0.5), math.log(0.5)], [math.log(0.25)]]
    assert load_metric("perplexity").score(rows, [None, None]) == pytest.approx(2 ** (4 / 3))
    probabilities = np.random.default_rng(0).dirichlet(np.ones(5), 40)
    truths = np.arange(40) % 5
    expected = math.exp(sklearn.metrics.log_loss(truths, probabilities, labels=range(5)))
    chosen = np.log(probabilities[np.arange(40), truths])
    found = load_metric("perplexity").score(np.split(chosen, [3, 20]), ["", "", ""])
    assert found == pytest.approx(expected)


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_rows_and_answers_that_do_not_pair_are_refused(name: str) -> None:
    metric = load_metric(name)
    assert isinstance(metric, Metric) and metric.name == name
    for answers, truths in (([], []), (["a"], ["a", "b"])):
        with pytest.raises(DataError, match=name):
            metric.score(answers, truths)


BOX = {"box": [0, 0, 1, 1], "label": "cat", "score": 0.5}
BAD: dict[str, tuple[Any, Any, str]] = {
    "top-5": ("a", "a", "no list of labels"),
    "labels-f1": ("joy", ("joy",), "no list of labels"),
    "entity-f1": (["O"], ["O", "O"], "1 tags for 2 tokens"),
    "tag-accuracy": (["O"], ["O", "O"], "1 tags for 2 tokens"),
    "exact-match": (3, "a", "not text"),
    "span-f1": ("a", [], "no text"),
    "map": ([{"box": [0, 0, 1, 1], "label": "cat"}], [BOX], "lacks one of box, label, score"),
    "miou": (np.zeros((2, 2), int), np.zeros((2, 3), int), "the truth \\(2, 3\\)"),
    "wer": ("a", " ", "holds no word"),
    "perplexity": ([0.5], "", "log-likelihoods"),
    "rmse": (math.nan, 1.0, "no finite number"),
    "mae": ("much", 1.0, "no number"),
    "cosine": ([0.0, 0.0], [1.0, 0.0], "other than 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_cannot_be_judged_is_named(name: str) -> None:
    answer, truth, message = BAD[name]
    with pytest.raises(DataError, match=rf"{name}: row 1: .*{message}") as caught:
        load_metric(name).score([answer], [truth])
    assert caught.value.hint


MORE_BAD: list[tuple[str, Any, Any]] = [
    ("entity-f1", "OO", ["O", "O"]),
    ("tag-accuracy", [1], ["O"]),
    ("entity-f1", ["PER"], ["O"]),
    ("map", "cat", [BOX]),
    ("map", [{**BOX, "box": [0, 0, -1, 1]}], [BOX]),
    ("map", [{**BOX, "box": 3}], [BOX]),
    ("map", [{**BOX, "score": "high"}], [BOX]),
    ("miou", np.array([0.5]), np.array([0])),
    ("miou", np.array([256]), np.array([0])),
    ("perplexity", [], ""),
    ("cosine", [1.0, 2.0], [1.0]),
    ("cosine", "ab", [1.0]),
    ("spearman", 1.0, 1.0),
]


@pytest.mark.parametrize(("name", "answer", "truth"), MORE_BAD)
def test_other_rows_that_cannot_be_judged_are_refused(name: str, answer: Any, truth: Any) -> None:
    with pytest.raises(DataError, match=name):
        load_metric(name).score([answer], [truth])


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match="macro_f1") as caught:
        load_metric("macro_f1")
    assert "macro-f1" in caught.value.hint and "path/file.py:function" in caught.value.hint
    for name in ("", "top-0", "top-five"):
        with pytest.raises(UnknownName):
            load_metric(name)


@pytest.mark.parametrize(
    ("name", "module", "answer"),
    [
        ("entity-f1", "seqeval.metrics.sequence_labeling", ["O"]),
        ("wer", "jiwer", "a"),
        ("map", "pycocotools.coco", [BOX]),
    ],
)
def test_a_library_that_is_missing_is_named_with_the_way_to_install_it(
    name: str, module: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingDependency, match=f"metric '{name}' needs {module.partition('.')[0]}"
    ) as caught:
        load_metric(name).score([answer], [answer])
    assert "edgekit[metrics]" in caught.value.hint


def test_metrics_are_listed_by_what_they_judge() -> None:
    assert metrics_for(("label", "ranking")) == ("accuracy", "top-5", "macro-f1", "micro-f1")
    assert metrics_for(()) == ()
