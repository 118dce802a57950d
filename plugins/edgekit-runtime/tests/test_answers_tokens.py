"""Answers made of tokens: tags, spans, masked words, transcripts, texts."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit_runtime.answers import KINDS, Asked, Entry
from edgekit_runtime.answers.base import LABEL, RANKING, TAGS, TEXT
from edgekit_runtime.answers.span import LONGEST, Span, best_span
from edgekit_runtime.answers.tags import Tagging
from edgekit_runtime.errors import InputError, RunFailed
from edgekit_runtime.processors.base import AudioContext, Context, TextContext, Words
from edgekit_runtime.session import Array

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
SPECIAL = (0, 0)


def logits_for(choices: Sequence[int], classes: int, *, lead: float = 4.0) -> Array:
    """float32 [1, places, classes] in which each choice leads."""
    return (lead * np.eye(classes, dtype=np.float32)[list(choices)])[None]


def read(kind: str, outputs: dict[str, Array], context: Context, labels: tuple[str, ...] = ()) -> object:
    return KINDS[kind].read(Asked(entries=(Entry(outputs=outputs, context=context),), labels=labels))


# --- tags ---------------------------------------------------------------------------------------------


def tag(context: TextContext, tags: Sequence[str], *, before: int = 0, after: int = 0) -> Tagging:
    """The answer where the tokens of the row have these tags; tokens around them are padding."""
    choices = [LABELS.index("I-LOC")] * before + [LABELS.index(word) for word in tags]
    choices += [LABELS.index("I-LOC")] * after
    found = read("tags", {"logits": logits_for(choices, len(LABELS))}, context, LABELS)
    assert isinstance(found, Tagging)
    return found


def words_context(*, words: Sequence[int | None], row: tuple[str, ...], first: int = 0) -> TextContext:
    return TextContext(
        row=Words(row),
        offsets=tuple(SPECIAL if word is None else (0, 1) for word in words),
        texts=tuple(None if word is None else 0 for word in words),
        words=tuple(words),
        first=first,
    )


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 3), (2, 0)])
def test_a_word_has_the_tag_of_its_first_token(before: int, after: int) -> None:
    context = words_context(words=(None, 0, 0, 1, 2, 2, None), row=("Ada", "saw", "Rome"), first=before)
    tags = ("B-LOC", "B-PER", "O", "O", "B-LOC", "I-PER", "I-LOC")
    answer = tag(context, tags, before=before, after=after)
    assert KINDS["tags"].forms[TAGS](answer) == ("B-PER", "O", "B-LOC")
    assert (answer.words, answer.entities) == (("Ada", "saw", "Rome"), ())
    assert KINDS["tags"].text(answer) == "Ada/B-PER\tsaw/O\tRome/B-LOC"


def test_a_word_that_the_model_never_saw_is_outside() -> None:
    context = words_context(words=(None, 0, 2, None), row=("Ada", "\u200b", "Rome", "and", "Oslo"))
    answer = tag(context, ("O", "B-PER", "B-LOC", "O"))
    assert answer.tags == ("B-PER", "O", "B-LOC", "O", "O")
    other = read("tags", {"logits": logits_for([1, 1, 1, 1], 2)}, context, ("NOUN", "VERB"))
    assert isinstance(other, Tagging)
    assert other.tags == ("VERB", "NOUN", "VERB", "NOUN", "NOUN"), "the first label, where none is called O"


def text_context(text: str) -> TextContext:
    """Tokens of at most three characters, a special one at each end, as a tokenizer gives them."""
    pieces: list[tuple[int, int, int]] = []
    for number, word in enumerate(re.finditer(r"\S+", text)):
        for start in range(word.start(), word.end(), 3):
            pieces.append((number, start, min(start + 3, word.end())))
    return TextContext(
        row=text,
        offsets=(SPECIAL, *((start, end) for _, start, end in pieces), SPECIAL),
        texts=(None, *(0 for _ in pieces), None),
        words=(None, *(number for number, _, _ in pieces), None),
    )


def test_entities_are_cut_from_the_text_by_their_characters() -> None:
    text = "In  Ada Lovelace's\tRome Oslo"
    context = text_context(text)
    by_word = ("O", "B-PER", "I-PER", "B-LOC", "B-LOC")
    tags = ["O" if word is None else by_word[word] for word in context.words]
    answer = tag(context, tags)
    found = [(entity.label, entity.text, entity.start, entity.end) for entity in answer.entities]
    assert found == [
        ("PER", "Ada Lovelace's", 4, 18),
        ("LOC", "Rome", 19, 23),
        ("LOC", "Oslo", 24, 28),
    ]
    assert all(text[entity.start : entity.end] == entity.text for entity in answer.entities)
    assert answer.words == ("In", "Ada", "Lovelace's", "Rome", "Oslo")
    score = np.exp(4) / (np.exp(4) + 4)
    assert answer.entities[0].score == pytest.approx(score)
    line = KINDS["tags"].text(answer)
    assert line == f"PER Ada Lovelace's {score:.2f}\tLOC Rome {score:.2f}\tLOC Oslo {score:.2f}"


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        (("O", "O", "O"), []),
        (("B-PER", "I-PER", "I-PER"), ["PER a b c"]),
        (("B-PER", "B-PER", "I-PER"), ["PER a", "PER b c"]),
        (("I-PER", "I-LOC", "I-LOC"), ["PER a", "LOC b c"]),
        (("B-PER", "O", "I-PER"), ["PER a", "PER c"]),
    ],
)
def test_entities_follow_the_prefixes_of_tags(tags: tuple[str, ...], entities: list[str]) -> None:
    answer = tag(text_context("a b c"), ("O", *tags, "O"))
    assert [f"{entity.label} {entity.text}" for entity in answer.entities] == entities


def test_spaces_in_a_token_are_no_part_of_an_entity() -> None:
    context = TextContext(row=" Ada ", offsets=((0, 4), (4, 5)), texts=(0, 0), words=(0, 1))
    answer = tag(context, ("B-PER", "B-LOC"))
    assert [(entity.text, entity.start, entity.end) for entity in answer.entities] == [("Ada", 1, 4)]
    assert answer.words == ("Ada",)


def test_pairs_have_no_tags_and_outputs_must_hold_the_row() -> None:
    pair = TextContext(row=("a", "b"), offsets=(SPECIAL,), texts=(0,), words=(0,))
    with pytest.raises(RunFailed, match="not of a pair"):
        tag(pair, ("O",))
    with pytest.raises(RunFailed, match="'logits' has 1 tokens, the row needs 3"):
        tag(text_context("a"), ("O",))


# --- spans --------------------------------------------------------------------------------------------

SCORES = hnp.arrays(np.float32, st.integers(1, 45), elements=st.floats(-9, 9, width=32))


@given(SCORES, st.data())
def test_the_best_span_is_the_one_that_trying_all_finds(starts: Array, data: st.DataObject) -> None:
    ends = data.draw(hnp.arrays(np.float32, starts.shape, elements=st.floats(-9, 9, width=32)))
    first, last, score = best_span(starts, ends, LONGEST)
    start, end = (np.exp(side.astype(float)) / np.exp(side.astype(float)).sum() for side in (starts, ends))
    tried = [start[i] * end[j] for i in range(len(start)) for j in range(i, min(i + LONGEST, len(start)))]
    assert score == pytest.approx(max(tried))
    assert score == pytest.approx(start[first] * end[last])
    assert 0 <= last - first < LONGEST


def span(question: str, passage: str, start: int, end: int, *, first: int = 0) -> Span:
    """The answer where two tokens of the row lead; a special token, the question, another, the passage."""
    asked, told = (re.finditer(r"\S+", text) for text in (question, passage))
    offsets: list[tuple[int, int]] = [SPECIAL, *(word.span() for word in asked), SPECIAL]
    texts: list[int | None] = [None, *[0] * (len(offsets) - 2), None]
    offsets += [word.span() for word in told]
    texts += [1] * (len(offsets) - len(texts))
    context = TextContext(
        row=(question, passage),
        offsets=tuple(offsets),
        texts=tuple(texts),
        words=(None,) * len(offsets),
        first=first,
    )
    width = first + len(offsets) + 2
    starts, ends = np.zeros((1, width), np.float32), np.zeros((1, width), np.float32)
    starts[0, start], ends[0, end] = 8.0, 8.0
    found = read("span", {"start_logits": starts, "end_logits": ends}, context)
    assert isinstance(found, Span)
    return found


def test_the_answer_is_cut_from_the_context() -> None:
    passage = "It was  Ada Lovelace, they say."
    answer = span("Who was it?", passage, 7, 8)
    assert (answer.text, answer.start, answer.end) == ("Ada Lovelace,", 8, 21)
    assert passage[answer.start : answer.end] == KINDS["span"].forms[TEXT](answer)
    assert answer.score == pytest.approx((np.exp(8) / (np.exp(8) + 5)) ** 2)
    assert span("Who was it?", passage, 10, 11, first=3) == answer, "padding on the left"
    assert KINDS["span"].text(answer) == f"Ada Lovelace,\t{answer.score:.4f}\t8-21"


def test_the_question_special_tokens_and_padding_are_no_answer() -> None:
    for place in (0, 1, 2, 4, 11, 12):
        answer = span("Who was it?", "It was  Ada Lovelace, they say.", place, place)
        assert answer.score == pytest.approx(1 / 36), "all tokens of the context are equally likely"
        assert answer.text == "It"


def test_a_context_without_tokens_gives_an_empty_answer() -> None:
    assert span("Who?", " ", 0, 0) == Span(text="", start=0, end=0, score=0.0)


def test_one_text_alone_answers_nothing() -> None:
    outputs = {name: np.zeros((1, 3), np.float32) for name in ("start_logits", "end_logits")}
    with pytest.raises(RunFailed, match="second text of a pair"):
        read("span", outputs, text_context("a"))


# --- masked words -------------------------------------------------------------------------------------

VOCABULARY = ("<pad>", " the", "the", " cat", " sat", "\n", " mat", " on")


def fill(logits: Array, *, masked: tuple[int, ...] = (2, 3), first: int = 0) -> object:
    context = TextContext(
        row="a [MASK]", offsets=(SPECIAL,) * 4, texts=(0,) * 4, words=(0,) * 4, masked=masked, first=first
    )
    asked = Asked(
        entries=(Entry(outputs={"logits": logits}, context=context),),
        decode=lambda ids: "".join(VOCABULARY[place] for place in ids if place),
    )
    return KINDS["fill-mask"].read(asked)


def test_the_first_mask_is_filled_with_the_likeliest_words() -> None:
    logits = np.zeros((1, 6, 8), np.float32)
    logits[0, :, 7] = 9.0
    logits[0, 3] = [0, 2, 5, 4, 3, -1, 1, -2]
    kind = KINDS["fill-mask"]
    answer = fill(logits, first=1)
    assert kind.forms[LABEL](answer) == kind.forms[TEXT](answer) == "the"
    assert kind.forms[RANKING](answer) == ("the", "cat", "sat", "mat"), "of two spellings the likelier"
    powers = np.exp(logits[0, 3].astype(float))
    assert answer.scores == pytest.approx(  # type: ignore[attr-defined]
        dict(zip(("the", "cat", "sat", "mat"), powers[[2, 3, 4, 6]] / powers.sum(), strict=True))
    )


def test_a_text_without_a_mask_is_told_what_it_lacks() -> None:
    with pytest.raises(InputError, match="no mask token") as caught:
        fill(np.zeros((1, 4, 8)), masked=())
    assert "[MASK]" in caught.value.hint


# --- transcripts --------------------------------------------------------------------------------------

ALPHABET = "_|abcde"


def spell(ids: Sequence[int]) -> str:
    """As an audio processor decodes: no blanks, spaces between words."""
    return "".join(ALPHABET[place] for place in ids if place).replace("|", " ")


def transcribe(frames: Sequence[int]) -> object:
    entry = Entry(
        outputs={"logits": logits_for(frames, len(ALPHABET))}, context=AudioContext(seconds=len(frames) / 50)
    )
    return KINDS["transcript"].read(Asked(entries=(entry,), decode=spell))


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ("aaa", "a"),
        ("a_a", "aa"),
        ("aa__aab", "aab"),
        ("__b_a_d||c_ab_|", "bad cab"),
        ("____", ""),
        ("a||_||b", "a  b"),
    ],
)
def test_repetitions_are_merged_before_blanks_are_dropped(frames: str, text: str) -> None:
    assert transcribe([ALPHABET.index(symbol) for symbol in frames]) == text


@given(st.lists(st.integers(0, len(ALPHABET) - 1), min_size=1, max_size=60))
def test_a_transcript_is_the_collapse_of_its_best_path(frames: list[int]) -> None:
    kept, before = [], None
    for symbol in frames:
        if symbol not in (before, 0):
            kept.append(symbol)
        before = symbol
    assert transcribe(frames) == "".join(ALPHABET[symbol] for symbol in kept).replace("|", " ").strip()


# --- what is generated --------------------------------------------------------------------------------


def generated(tokens: Sequence[int], length: int, *, runner_up: float = -2.0) -> dict[str, Array]:
    """Outputs of one row: `length` tokens were generated, the rest fills it."""
    scores = np.zeros((1, len(tokens), 2), np.float32)
    scores[0, :length] = (0.0, runner_up)
    return {"tokens": np.array([tokens]), "scores": scores}


def written(kind: str, outputs: dict[str, Array]) -> object:
    entry = Entry(outputs=outputs, context=AudioContext(seconds=1.0))
    return KINDS[kind].read(Asked(entries=(entry,), decode=spell))


@pytest.mark.parametrize("kind", ["text", "transcript"])
def test_a_generated_answer_is_its_tokens_up_to_the_end_and_nothing_merged(kind: str) -> None:
    assert written(kind, generated([1, 3, 3, 1, 4, 0], 6)) == "bb c"
    assert written(kind, generated([3, 4, 0, 6, 6], 3)) == "bc", (
        "what fills the row is not read, whatever it is"
    )
    assert written(kind, generated([3, 0], 2, runner_up=-1e9)) == "b", "forced tokens are read too"


@pytest.mark.parametrize("kind", ["text", "transcript"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": None}, "no output 'scores'"),
        ({"scores": np.zeros((1, 2, 2), np.float32)}, "scores .*, tokens"),
        ({"scores": np.zeros((1, 3), np.float32)}, "'scores' has the shape"),
        ({"tokens": np.zeros((1, 3))}, "what is generated comes as tokens"),
        ({"tokens": np.zeros((2, 3), np.int64)}, "'tokens' has the shape"),
    ],
)
def test_outputs_that_were_not_generated_are_refused(
    kind: str, change: dict[str, Array | None], message: str
) -> None:
    outputs = {**generated([3, 4, 0], 3), **change}
    with pytest.raises(RunFailed, match=message):
        written(kind, {name: array for name, array in outputs.items() if array is not None})


def test_a_text_of_lines_is_one_line_for_people_and_whole_in_json() -> None:
    kind = KINDS["text"]
    assert kind.text("one\ntwo\tthree") == "one two three"
    assert kind.json("one\ntwo\tthree") == "one\ntwo\tthree"
    assert kind.forms[TEXT]("one\ntwo") == "one\ntwo"
