"""Rows become the feeds the model was trained on, whatever the rows hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgekit_runtime.errors import (
    EdgekitError,
    InputError,
    MissingDependency,
    ProcessorError,
    SelfTestFailed,
)
from edgekit_runtime.processors import (
    KINDS,
    ParityCase,
    Processor,
    Row,
    TextProcessor,
    TextSettings,
    load_processor,
    write_text_processor,
)
from edgekit_runtime.processors.base import Words

ALL = ("input_ids", "attention_mask", "token_type_ids")
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "a",
    "fine",
    "film",
    "bad",
    "電",
    "影",
    "😀",
    "שלום",
    "مرحبا",
    "##s",
]
PAD, UNK, CLS, SEP, A, FINE, FILM, BAD = range(8)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)


def tokenizer_json(*, special: bool = True) -> bytes:
    """A WordPiece tokenizer as BERT has it, made in code, with padding and truncation left on in the file."""
    tokenizer = Tokenizer(
        models.WordPiece({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if special:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    tokenizer.enable_padding(length=77)
    tokenizer.enable_truncation(5)
    return tokenizer.to_str().encode()


def make(
    directory: Path,
    *,
    settings: TextSettings | None = None,
    parity: tuple[ParityCase, ...] = (),
    special: bool = True,
) -> TextProcessor:
    settings = settings or TextSettings(inputs=ALL, max_length=8)
    return write_text_processor(
        directory, tokenizer=tokenizer_json(special=special), settings=settings, parity=parity
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> TextProcessor:
    return make(tmp_path_factory.mktemp("processor"))


def test_rows_are_padded_to_the_longest_with_mask_and_types(shared: TextProcessor) -> None:
    feeds = shared.feeds(["a fine film", ("bad", "film")])
    assert feeds["input_ids"].tolist() == [[CLS, A, FINE, FILM, SEP], [CLS, BAD, SEP, FILM, SEP]]
    assert feeds["token_type_ids"].tolist() == [[0] * 5, [0, 0, 0, 1, 1]]
    feeds = shared.feeds(["a", ""])
    assert feeds["input_ids"].tolist() == [[CLS, A, SEP], [CLS, SEP, PAD]]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize("inputs", [("input_ids",), ("attention_mask", "input_ids"), ALL])
def test_exactly_the_models_inputs_are_made_in_its_order(tmp_path: Path, inputs: tuple[str, ...]) -> None:
    processor = make(tmp_path, settings=TextSettings(inputs=inputs, max_length=8))
    assert tuple(processor.feeds(["a"])) == processor.input_names == inputs


def test_long_rows_are_cut_and_keep_their_special_tokens(shared: TextProcessor) -> None:
    assert shared.feeds(["film " * 100_000])["input_ids"].tolist() == [[CLS, *[FILM] * 6, SEP]]
    pair = shared.feeds([("a " * 50, "film " * 50)])["input_ids"][0].tolist()
    assert pair == [CLS, A, A, A, SEP, FILM, FILM, SEP] or pair == [CLS, A, A, SEP, FILM, FILM, FILM, SEP]


def test_pad_to_gives_exactly_that_length(shared: TextProcessor) -> None:
    assert shared.feeds(["a"], pad_to=6)["input_ids"].tolist() == [[CLS, A, SEP, PAD, PAD, PAD]]
    assert shared.feeds(["a a a a a a"], pad_to=4)["input_ids"].tolist() == [[CLS, A, A, SEP]]
    assert shared.feeds(["a a a a a a"])["input_ids"].shape == (1, 8), "an earlier pad_to must not stick"
    for length in (0, -1, 9):
        with pytest.raises(InputError, match=f"padded to {length} "):
            shared.feeds(["a"], pad_to=length)
    with pytest.raises(InputError, match="row 0 does not fit: 2 tokens"):
        shared.feeds(["a"], pad_to=2)
    with pytest.raises(InputError, match="row 1 does not fit: 3 tokens"):
        shared.feeds(["a", ("a", "a")], pad_to=3)


def test_sides_and_fillers_come_from_the_settings(tmp_path: Path) -> None:
    settings = TextSettings(
        inputs=ALL, max_length=4, padding_side="left", truncation_side="left", pad_id=9, pad_type_id=3
    )
    feeds = make(tmp_path, settings=settings).feeds(["", "a fine film"])
    assert feeds["input_ids"].tolist() == [[9, 9, CLS, SEP], [CLS, FINE, FILM, SEP]]
    assert feeds["attention_mask"].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert feeds["token_type_ids"].tolist() == [[3, 3, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        ("\0", []),
        ("a\0film", [UNK]),
        ("電影", [WORDS.index("電"), WORDS.index("影")]),
        ("😀", [WORDS.index("😀")]),
        ("שלום", [WORDS.index("שלום")]),
        ("مرحبا", [WORDS.index("مرحبا")]),
        ("👩‍👩‍👧", [UNK]),
        ("films\t\n film", [FILM, WORDS.index("##s"), FILM]),
        ("\u202efilm\u202c", [FILM]),
        ("\U0010ffff", [UNK]),
    ],
)
def test_unusual_texts_become_tokens(shared: TextProcessor, text: str, ids: list[int]) -> None:
    assert shared.feeds([text])["input_ids"].tolist() == [[CLS, *ids, SEP]]


@settings(deadline=None)
@given(st.lists(TEXTS | st.tuples(TEXTS, TEXTS), min_size=1, max_size=4), st.none() | st.integers(4, 8))
def test_any_text_gives_rectangular_feeds_within_the_limit(
    shared: TextProcessor, rows: list[Row], pad_to: int | None
) -> None:
    feeds = shared.feeds(rows, pad_to=pad_to)
    shapes = {array.shape for array in feeds.values()}
    assert len(shapes) == 1
    count, width = shapes.pop()
    assert count == len(rows)
    assert width == pad_to if pad_to else width <= 8
    assert ((feeds["input_ids"] == PAD) == (feeds["attention_mask"] == 0)).all()
    for index, row in enumerate(rows):  # a row's tokens do not depend on its neighbours
        alone = shared.feeds([row], pad_to=pad_to)["input_ids"][0]
        together = feeds["input_ids"][index]
        assert together[: len(alone)].tolist() == alone.tolist()
        assert (together[len(alone) :] == PAD).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a", 7], "row 1 must be a text or a pair of texts, found int"),
        ([None], "row 0 .* found NoneType"),
        ([b"a"], "row 0 .* found bytes"),
        (["a", ("a", "b", "c")], "row 1 .* found 3 values"),
        ([("a", 1)], "row 0 .* found int in a pair"),
        (["ok", "\ud83d"], "row 1 holds half a character"),
        ("a text", "put it in a list"),
        ([], "no rows"),
    ],
)
def test_a_row_of_a_wrong_type_is_named(shared: TextProcessor, rows: list[Row], message: str) -> None:
    with pytest.raises(InputError, match=message):
        shared.feeds(rows)


def test_a_row_without_tokens_is_named(tmp_path: Path) -> None:
    processor = make(tmp_path, special=False)
    assert processor.feeds(["a"])["input_ids"].tolist() == [[A]]
    with pytest.raises(InputError, match="row 1 gives no tokens"):
        processor.feeds(["a", ""])


def test_feeds_are_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    processor = make(tmp_path)
    original = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer_json().decode()),
        pad_token="[PAD]",
        model_max_length=8,
    )
    for rows in (["a fine film", "bad"], ["film " * 30, "", "電影 😀"], [("a " * 9, "bad film"), ("", "")]):
        pairs = [row if isinstance(row, tuple) else (row, None) for row in rows]
        seconds = [second for _, second in pairs]
        wanted = original(
            [first for first, _ in pairs],
            seconds if isinstance(rows[0], tuple) else None,
            padding=True,
            truncation=True,
            return_tensors="np",
            return_token_type_ids=True,
        )
        for name, array in processor.feeds(rows).items():
            assert array.tolist() == wanted[name].tolist(), name


def test_a_written_processor_is_loaded_by_its_kind(tmp_path: Path) -> None:
    make(tmp_path)
    loaded = load_processor(tmp_path)
    assert isinstance(loaded, Processor)
    assert loaded.kind == "text"
    assert loaded.feeds(["a"])["input_ids"].tolist() == [[CLS, A, SEP]]


def test_another_kind_needs_one_entry_in_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    monkeypatch.setitem(KINDS, "prose", KINDS["text"])
    settings = json.loads((tmp_path / "processor.json").read_text())
    (tmp_path / "processor.json").write_text(json.dumps(settings | {"kind": "prose"}))
    assert load_processor(tmp_path).feeds(["a"])["input_ids"].tolist() == [[CLS, A, SEP]]
    (tmp_path / "processor.json").write_text('{"schema": 1, "kind": "pros"}')
    with pytest.raises(ProcessorError, match="did you mean 'prose'"):
        load_processor(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_without_settings_is_refused_whatever_its_kind(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ProcessorError, match="is missing"):
        load_processor(tmp_path)
    (tmp_path / "processor.json").write_text(json.dumps({"schema": 1, "kind": kind}))
    with pytest.raises(ProcessorError, match=r"processor\.json"):
        load_processor(tmp_path)


GOOD: dict[str, object] = {"schema": 1, "kind": "text", "inputs": ["input_ids"], "max_length": 8}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "smell"}, "kind 'smell' is not known"),
        ({"kind": None}, "kind None is not known"),
        ({"schema": 2}, "update edgekit-runtime"),
        ({"schema": True}, "schema is True"),
        ({"max_lenght": 8}, "did you mean 'max_length'"),
        ({"max_length": 0}, "at least 1"),
        ({"max_length": "8"}, "must be an integer"),
        ({"max_length": True}, "must be an integer"),
        ({"max_length": 2}, "no room for text beside 2 special tokens"),
        ({"inputs": ["input_ids", "attention_maks"]}, "did you mean 'attention_mask'"),
        ({"inputs": ["attention_mask"]}, "must name 'input_ids'"),
        ({"inputs": ["input_ids", "input_ids"]}, "none twice"),
        ({"inputs": "input_ids"}, "must be a list"),
        ({"inputs": [1]}, "must be a string"),
        ({"padding_side": "up"}, "'left' or 'right'"),
        ({"truncation": "only_first"}, "'longest_first' or 'only_second'"),
        ({"mask_id": None}, "mask_id must be an integer"),
        ({"truncation_side": 1}, "must be a string"),
        ({"pad_id": -1}, "at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    make(tmp_path)
    (tmp_path / "processor.json").write_text(json.dumps(GOOD | change))
    with pytest.raises(ProcessorError) as caught:
        load_processor(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("missing", ["inputs", "max_length", "kind", "schema"])
def test_a_missing_key_is_named(tmp_path: Path, missing: str) -> None:
    make(tmp_path)
    (tmp_path / "processor.json").write_text(json.dumps({k: v for k, v in GOOD.items() if k != missing}))
    with pytest.raises(ProcessorError, match=missing):
        load_processor(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("processor.json", None, "is missing"),
        ("processor.json", b"{]", "not valid JSON"),
        ("processor.json", b"[" * 100_000, "not valid JSON"),
        ("processor.json", b'{"schema": 1, "schema": 1}', "occurs twice"),
        ("processor.json", b'"text"', "schema is None"),
        ("tokenizer.json", None, "is missing"),
        ("tokenizer.json", b"", "not a tokenizer"),
        ("tokenizer.json", b"{}", "not a tokenizer"),
        ("tokenizer.json", b'{"model": {"type": "Later"}}', "not a tokenizer"),
        ("tokenizer.json", b"\xff\xfe", "not a tokenizer"),
        ("parity.json", b"{}", "schema is None"),
        ("parity.json", b'{"schema": 1, "cases": [{"row": "a", "ids": []}]}', "did you mean 'input_ids'"),
        ("parity.json", b'{"schema": 1, "cases": [{"row": "a", "input_ids": [-1]}]}', "must be token ids"),
        ("parity.json", b'{"schema": 1, "cases": [{"row": 3, "input_ids": [1]}]}', "must be a text"),
        ("parity.json", b'{"schema": 1, "cases": [{"row": {"words": []}, "input_ids": [1]}]}', "no words"),
        ("parity.json", b'{"schema": 1, "cases": [{"row": {"word": []}, "input_ids": [1]}]}', "mean 'words'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    make(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ProcessorError) as caught:
        load_processor(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path / file) in str(caught.value)


@settings(deadline=None, max_examples=300)
@given(place=st.floats(0, 1), value=st.integers(0, 255), cut=st.booleans())
def test_no_damage_to_the_tokenizer_gives_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, place: float, value: int, cut: bool
) -> None:
    directory = tmp_path_factory.getbasetemp() / "damaged"
    make(directory)
    data = bytearray((directory / "tokenizer.json").read_bytes())
    index = int(place * (len(data) - 1))
    data[index:] = b"" if cut else bytes([value]) + data[index + 1 :]
    (directory / "tokenizer.json").write_bytes(data)
    try:
        load_processor(directory).feeds(["a fine film"])
    except EdgekitError as error:
        assert error.exit_code == 2


def test_parity_is_proven_by_recorded_cases(tmp_path: Path) -> None:
    good = (
        ParityCase(row="a fine film", input_ids=(CLS, A, FINE, FILM, SEP)),
        ParityCase(row=("a", "film"), input_ids=(CLS, A, SEP, FILM, SEP)),
        ParityCase(row="a a a a a a a a a a", input_ids=(CLS, A, A, A, A, A, A, SEP)),
        ParityCase(row=Words(("a", "films", "")), input_ids=(CLS, A, FILM, WORDS.index("##s"), SEP)),
    )
    make(tmp_path, parity=good)
    assert load_processor(tmp_path).check_parity() == 4
    for ids, message in (((CLS, A, SEP), "token 2 is 5 instead of 3"), ((CLS,), "5 tokens instead of 1")):
        make(tmp_path, parity=(*good, ParityCase(row="a fine film", input_ids=ids)))
        with pytest.raises(SelfTestFailed, match=f"parity case 4, 'a fine film': {message}") as caught:
            load_processor(tmp_path).check_parity()
        assert caught.value.exit_code == 1


def test_a_processor_without_parity_cases_has_none_to_repeat(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "parity.json").unlink()
    assert load_processor(tmp_path).check_parity() == 0


def test_a_missing_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingDependency) as caught:
        load_processor(tmp_path)
    assert "pip install edgekit-runtime[text]" in caught.value.hint
