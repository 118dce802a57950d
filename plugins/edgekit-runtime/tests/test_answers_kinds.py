"""Every kind of answers keeps the same promises; labels, numbers and vectors are read as they should be."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit_runtime.answers import KINDS, AnswerKind, Asked, Entry
from edgekit_runtime.answers.base import (
    BOXES,
    LABEL,
    LABELS,
    MASK,
    NUMBER,
    RANKING,
    TAGS,
    TEXT,
    VECTOR,
)
from edgekit_runtime.answers.classification import classify
from edgekit_runtime.answers.zero_shot import choice_of, hypothesis
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.processors.base import AudioContext, Context, ImageContext, TextContext
from edgekit_runtime.session import Array

FORMS = {
    "classification": (LABEL, RANKING),
    "multi-label": (LABELS,),
    "zero-shot": (LABEL, RANKING),
    "tags": (TAGS,),
    "span": (TEXT,),
    "fill-mask": (LABEL, RANKING, TEXT),
    "number": (NUMBER,),
    "vector": (VECTOR, NUMBER),
    "boxes": (BOXES,),
    "mask": (MASK,),
    "transcript": (TEXT,),
    "text": (TEXT,),
    "tensor": (),
}
TYPES: Mapping[str, type] = {
    LABEL: str,
    RANKING: tuple,
    LABELS: tuple,
    TAGS: tuple,
    TEXT: str,
    BOXES: list,
    MASK: np.ndarray,
    VECTOR: np.ndarray,
    NUMBER: float,
}


def letters(ids: object) -> str:
    return "".join("abcdefgh"[place] for place in ids)  # type: ignore[attr-defined]


def tokens(row: str | tuple[str, str], count: int, text: int = 0) -> TextContext:
    """A context of one-letter words."""
    return TextContext(
        row=row,
        offsets=tuple((2 * place, 2 * place + 1) for place in range(count)),
        texts=(text,) * count,
        words=tuple(range(count)),
        masked=(1,),
    )


IMAGE = ImageContext(size=(6, 8), seen=(0.0, 0.0, 6.0, 8.0))


def outputs_of(kind: str, seed: int = 0) -> dict[str, Array]:
    """Outputs that the kind reads, of one row of four tokens or a small image, with three labels."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "tags": {"logits": (1, 4, 3)},
        "span": {"start_logits": (1, 4), "end_logits": (1, 4)},
        "fill-mask": {"logits": (1, 4, 8)},
        "number": {"logits": (1, 1)},
        "vector": {"sentence_embedding": (1, 5)},
        "boxes": {"logits": (1, 6, 4), "pred_boxes": (1, 6, 4)},
        "mask": {"logits": (1, 3, 3, 4)},
        "transcript": {"logits": (1, 9, 8)},
        "tensor": {"last_hidden_state": (1, 2, 3), "pooled": (1, 3)},
    }
    random = np.random.default_rng(seed)
    if kind == "text":
        scores = -np.abs(random.normal(size=(1, 4, 2))).astype(np.float32)
        return {"tokens": random.integers(0, 8, size=(1, 4)), "scores": scores}
    wanted = shapes.get(kind, {"logits": (1, 3)})
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in wanted.items()}


def context_of(kind: str) -> Context:
    contexts: dict[str, Context] = {
        "zero-shot": tokens(("a text", hypothesis("art")), 4),
        "span": tokens(("q", "a b c d"), 4, text=1),
        "boxes": IMAGE,
        "mask": IMAGE,
        "transcript": AudioContext(seconds=1.0),
    }
    return contexts.get(kind, tokens("a b c d", 4))


def asked(kind: str, outputs: Mapping[str, Array] | None = None, labels: tuple[str, ...] = ()) -> Asked:
    words = labels or ("B-x", "O", "entailment")
    entry = Entry(outputs=outputs_of(kind) if outputs is None else outputs, context=context_of(kind))
    return Asked(entries=(entry,), labels=words, decode=letters)


def test_every_kind_is_found_by_its_own_name() -> None:
    assert all(isinstance(kind, AnswerKind) and kind.name == name for name, kind in KINDS.items())
    assert set(KINDS) == set(FORMS)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_the_forms_that_metrics_take(name: str) -> None:
    kind = KINDS[name]
    assert tuple(kind.forms) == FORMS[name]
    answer = kind.read(asked(name))
    for form, function in kind.forms.items():
        if (name, form) != ("vector", NUMBER):  # of two rows
            assert isinstance(function(answer), TYPES[form])


@pytest.mark.parametrize("name", KINDS)
def test_every_answer_is_json_and_one_line(name: str) -> None:
    kind = KINDS[name]
    answer = kind.read(asked(name))
    assert json.loads(json.dumps(kind.json(answer), allow_nan=False)) == kind.json(answer)
    assert kind.text(answer)
    assert len(kind.text(answer).splitlines()) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", KINDS)
def test_values_that_are_not_finite_are_no_answer(name: str, value: float) -> None:
    floats = [output for output, array in outputs_of(name).items() if array.dtype.kind == "f"]
    assert floats
    for broken in floats:
        outputs = outputs_of(name)
        outputs[broken].flat[-1] = value
        with pytest.raises(RunFailed, match=f"{broken}.*not finite"):
            KINDS[name].read(asked(name, outputs))


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"tensor", "number"}))
def test_outputs_of_another_shape_are_refused_by_name(name: str) -> None:
    for broken, good in outputs_of(name).items():
        for bad in (good[0], good[None], np.concatenate([good, good]), good[:0]):
            with pytest.raises(RunFailed, match=rf"{broken}.*shape|hold 2 rows|hold 0 rows"):
                KINDS[name].read(asked(name, {**outputs_of(name), broken: bad}))


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"tensor"}))
def test_outputs_of_other_names_are_refused(name: str) -> None:
    other = np.zeros((1, 3), np.float32)
    for outputs in ({}, {"one": other, "other": other}):
        with pytest.raises(RunFailed, match=r"there are none|none at all|one, other"):
            KINDS[name].read(asked(name, outputs))


@pytest.mark.parametrize("name", ["classification", "multi-label", "zero-shot", "tags", "boxes", "mask"])
def test_another_number_of_labels_is_refused(name: str) -> None:
    with pytest.raises(RunFailed, match=r"has \d classes, but there are 7 labels"):
        KINDS[name].read(asked(name, labels=tuple("abcdefg")))


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"zero-shot", "vector"}))
def test_a_row_that_was_run_twice_has_no_answer(name: str) -> None:
    one = asked(name)
    with pytest.raises(RunFailed, match="by one run, not by 2"):
        KINDS[name].read(Asked(entries=one.entries * 2, labels=one.labels, decode=letters))


@pytest.mark.parametrize("name", ["zero-shot", "tags", "span", "fill-mask", "boxes", "mask"])
def test_a_row_of_another_sort_is_refused(name: str) -> None:
    entry = Entry(outputs=outputs_of(name), context=Context())
    with pytest.raises(RunFailed, match="Context"):
        KINDS[name].read(Asked(entries=(entry,), labels=("B-x", "O", "entailment"), decode=letters))


@pytest.mark.parametrize("name", ["fill-mask", "transcript", "text"])
def test_without_a_vocabulary_there_are_no_words(name: str) -> None:
    one = asked(name)
    with pytest.raises(RunFailed, match="no vocabulary"):
        KINDS[name].read(Asked(entries=one.entries, labels=one.labels))


# --- one label ----------------------------------------------------------------------------------------


def test_logits_become_labels_with_probabilities() -> None:
    found = classify({"logits": np.array([[0.0, np.log(3)], [1000.0, -1000.0]], np.float32)}, ("bad", "good"))
    assert [item.label for item in found] == ["good", "bad"]
    assert found[0].score == pytest.approx(0.75)
    assert found[0].scores == pytest.approx({"bad": 0.25, "good": 0.75})
    assert found[1].score == 1.0
    assert classify({"only": np.array([[0.0, 1.0, 0.0]])}, ())[0].label == "1"


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"logits": np.zeros((1, 3))}, "has 3 classes, but there are 2 labels"),
        ({"logits": np.zeros((1, 2, 2))}, "has the shape"),
        ({"logits": np.zeros((1, 1))}, "has the shape"),
        ({"logits": np.array([[0.0, np.nan]])}, "not finite"),
        ({"a": np.zeros((1, 2)), "b": np.zeros((1, 2))}, "none of the outputs a, b"),
        ({}, "there are none"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(outputs: dict[str, Array], message: str) -> None:
    with pytest.raises(RunFailed) as caught:
        classify(outputs, ("bad", "good"))
    assert message in str(caught.value)


@given(hnp.arrays(np.float32, (1, 5), elements=st.integers(-30, 30), unique=True))
def test_the_ranking_is_in_the_order_of_the_logits(logits: Array) -> None:
    kind = KINDS["classification"]
    answer = kind.read(asked("classification", {"logits": logits}, labels=tuple("abcde")))
    order = [int(label, 36) - 10 for label in kind.forms[RANKING](answer)]
    assert (np.diff(logits[0][order]) <= 0).all()
    assert kind.forms[LABEL](answer) == kind.forms[RANKING](answer)[0] == "abcde"[logits.argmax()]
    assert math.isclose(sum(answer.scores.values()), 1.0, abs_tol=1e-9)


# --- several labels -----------------------------------------------------------------------------------


def test_the_labels_that_hold_are_those_above_one_half() -> None:
    kind = KINDS["multi-label"]
    outputs = {"logits": np.array([[-1.0, 0.0, 1e-3, 900.0, -900.0]])}
    answer = kind.read(asked("multi-label", outputs, labels=tuple("abcde")))
    assert kind.forms[LABELS](answer) == ("c", "d"), "one half is not above one half"
    assert answer.scores["a"] == pytest.approx(1 / (1 + math.e))
    assert (answer.scores["d"], answer.scores["e"]) == (1.0, 0.0)
    assert kind.text(answer) == "c 0.5002\td 1.0000"


def test_no_label_may_hold() -> None:
    kind = KINDS["multi-label"]
    answer = kind.read(asked("multi-label", {"logits": np.array([[-1.0, -2.0, -3.0]])}))
    assert (answer.labels, kind.text(answer)) == ((), "-")


# --- any labels ---------------------------------------------------------------------------------------


def candidates(logits: Mapping[str, list[float]], labels: tuple[str, ...]) -> Asked:
    entries = tuple(
        Entry(
            outputs={"logits": np.array([values])},
            context=TextContext(row=("a text", hypothesis(choice)), offsets=(), texts=(), words=()),
        )
        for choice, values in logits.items()
    )
    return Asked(entries=entries, labels=labels)


def test_the_candidate_that_is_entailed_most_wins() -> None:
    logits = {"art": [9.0, 9.0, 0.0], "sport": [0.0, 0.0, math.log(3)], "a {} c.": [5.0, 5.0, -50.0]}
    kind = KINDS["zero-shot"]
    answer = kind.read(candidates(logits, ("contradiction", "neutral", "ENTAILMENT")))
    assert (answer.label, answer.score) == ("sport", pytest.approx(0.75))
    assert kind.forms[RANKING](answer) == ("sport", "art", "a {} c.")
    first = kind.read(candidates(logits, ("entailment", "neutral", "contradiction")))
    assert first.label == "art"


@given(st.text())
def test_a_hypothesis_gives_its_candidate_back(choice: str) -> None:
    assert choice_of(hypothesis(choice)) == choice


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("contradiction", "neutral", "support"), "one label must be called 'entailment'"),
        (("entailment", "entailed", "neutral"), "one label must be called 'entailment'"),
    ],
)
def test_a_model_that_does_not_tell_entailment_is_refused(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(RunFailed, match=message):
        KINDS["zero-shot"].read(candidates({"art": [0.0, 1.0, 2.0]}, labels))


def test_rows_that_are_no_candidates_are_refused() -> None:
    labels = ("contradiction", "neutral", "entailment")
    one = candidates({"art": [0.0, 1.0, 2.0]}, labels).entries
    with pytest.raises(RunFailed, match="no candidates"):
        KINDS["zero-shot"].read(Asked(entries=(), labels=labels))
    with pytest.raises(RunFailed, match="given twice: art, art"):
        KINDS["zero-shot"].read(Asked(entries=one * 2, labels=labels))
    for row, message in ((("a", "b"), "not made of the template"), ("a", "the text and a hypothesis")):
        context = TextContext(row=row, offsets=(), texts=(), words=())
        entry = Entry(outputs=one[0].outputs, context=context)
        with pytest.raises(RunFailed, match=message):
            KINDS["zero-shot"].read(Asked(entries=(entry,), labels=labels))


# --- numbers, vectors, tensors ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1,), ()])
def test_the_one_number_of_a_regression_is_its_answer(shape: tuple[int, ...]) -> None:
    kind = KINDS["number"]
    answer = kind.read(asked("number", {"score": np.full(shape, 2.5, np.float32)}))
    assert (answer, kind.forms[NUMBER](answer), kind.text(answer)) == (2.5, 2.5, "2.5")


def test_several_numbers_are_no_number() -> None:
    with pytest.raises(RunFailed, match=r"'logits' has the shape \(1, 2\), expected one number"):
        KINDS["number"].read(asked("number", {"logits": np.zeros((1, 2))}))


def vectors(*values: list[float]) -> Asked:
    entries = tuple(
        Entry(outputs={"sentence_embedding": np.array([value])}, context=Context()) for value in values
    )
    return Asked(entries=entries)


def test_one_run_gives_a_vector_and_two_give_their_cosine() -> None:
    kind = KINDS["vector"]
    one = kind.read(vectors([3.0, 4.0]))
    assert (one.tolist(), one.dtype) == ([3.0, 4.0], np.float32)
    assert kind.json(one) == [3.0, 4.0]
    two = kind.read(vectors([3.0, 4.0], [400.0, 300.0]))
    assert two == kind.forms[NUMBER](two) == pytest.approx(0.96)
    assert kind.read(vectors([3.0, 4.0], [0.0, 0.0])) == 0.0
    with pytest.raises(RunFailed, match="is their cosine"):
        kind.forms[VECTOR](two)
    with pytest.raises(RunFailed, match="is a vector"):
        kind.forms[NUMBER](one)


@pytest.mark.parametrize("values", [(), ([1.0],) * 3, ([1.0], [1.0, 2.0])])
def test_other_numbers_of_vectors_are_refused(values: tuple[list[float], ...]) -> None:
    with pytest.raises(RunFailed, match="one embedding or two of one size"):
        KINDS["vector"].read(vectors(*values))


def test_of_several_outputs_the_one_called_embedding_is_taken() -> None:
    outputs = {"tokens": np.zeros((1, 2, 3)), "image_embedding": np.ones((1, 3))}
    assert KINDS["vector"].read(asked("vector", outputs)).tolist() == [1.0, 1.0, 1.0]


def test_a_tensor_is_told_as_it_is() -> None:
    kind = KINDS["tensor"]
    answer = kind.read(asked("tensor", {"y": np.array([[1, 2]], np.int64)}))
    assert kind.json(answer) == {"y": [[1, 2]]}
    assert kind.text(answer) == "y int64 [1, 2]"
