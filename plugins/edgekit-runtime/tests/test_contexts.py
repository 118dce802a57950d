"""A row's context says where each token comes from: which characters of which text, and which word."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from edgekit_runtime.errors import InputError
from edgekit_runtime.processors import TextProcessor, TextSettings, write_text_processor
from edgekit_runtime.processors.base import Row, TextContext, Words

ALL = ("input_ids", "attention_mask", "token_type_ids")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = range(5)
KNOWN = ["a", "fine", "film", "電", "影", "😀", "שלום", "مرحبا", "cafe", "##s", "##y"]

#: Emoji of several characters, marks that join the letter before, Chinese, right to left, invisible ones.
PIECES = [
    *("a", "fine", "film", "films", "電影", "😀", "👩‍👩‍👧", "🇩🇪", "שלום", "مرحبا", "café", "cafe\u0301"),
    *("\u202e", "\u200b", "\ufeff", "\0", " ", "  ", "\n", "\t", "ﬁ", "İ", "ß", "!", "…", "\U0001d518"),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(
    st.characters(codec="utf-8"), max_size=20
)
ROWS = TEXTS | st.tuples(TEXTS, TEXTS) | st.lists(TEXTS, min_size=1, max_size=6).map(tuple).map(Words)


def word_pieces() -> Tokenizer:
    """As BERT has it: lower case, accents dropped, words cut into known pieces."""
    words = {word: index for index, word in enumerate([*SPECIAL, *KNOWN])}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def single_bytes(*, special: bool = True) -> Tokenizer:
    """As GPT-2 has it, before its first merge: each byte of UTF-8 is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: index for index, word in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(words, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if special:
        tokenizer.post_processor = processors.RobertaProcessing(
            ("[SEP]", SEP), ("[CLS]", CLS), trim_offsets=False, add_prefix_space=False
        )
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def make(tokenizer: Tokenizer, directory: Path, settings: TextSettings | None = None) -> TextProcessor:
    return write_text_processor(
        directory,
        tokenizer=tokenizer.to_str().encode(),
        settings=settings or TextSettings(inputs=ALL, max_length=512, mask_id=MASK),
        parity=(),
    )


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> TextProcessor:
    return make(word_pieces(), tmp_path_factory.mktemp("pieces"))


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> TextProcessor:
    return make(single_bytes(), tmp_path_factory.mktemp("bytes"))


def only(processor: TextProcessor, row: Row, pad_to: int | None = None) -> tuple[list[int], TextContext]:
    """The row's ids without padding, and its context."""
    prepared = processor.prepare([row], pad_to=pad_to)
    (context,) = prepared.contexts
    assert isinstance(context, TextContext)
    ids = prepared.feeds["input_ids"][0].tolist()
    return ids[context.first : context.first + len(context.offsets)], context


def plain(text: str) -> str:
    """Lower case without accents, as the model reads it."""
    return "".join(
        char for char in unicodedata.normalize("NFD", text).lower() if unicodedata.category(char) != "Mn"
    )


def words_of(row: Row, text: int) -> Sequence[str]:
    """What the offsets of tokens of this text of the row point into, by word."""
    if isinstance(row, Words):
        return row.words
    return [row] if isinstance(row, str) else [row[text]]


@hypothesis_settings(deadline=None)
@given(ROWS)
def test_offsets_point_at_the_text_that_the_token_was_made_of(pieces: TextProcessor, row: Row) -> None:
    ids, context = only(pieces, row)
    assert context.row == row
    for token, text, word, (start, end) in zip(
        ids, context.texts, context.words, context.offsets, strict=True
    ):
        if text is None:
            assert (token in (CLS, SEP), word, (start, end)) == (True, None, (0, 0))
            continue
        assert word is not None
        source = words_of(row, text)[word if isinstance(row, Words) else 0]
        assert 0 <= start < end <= len(source)
        if token >= len(SPECIAL):
            assert plain(source[start:end]) == [*SPECIAL, *KNOWN][token].removeprefix("##")


@hypothesis_settings(deadline=None)
@given(TEXTS, TEXTS)
def test_each_byte_of_a_character_points_at_the_whole_character(
    letters: TextProcessor, one: str, other: str
) -> None:
    _, context = only(letters, (one, other))
    for text, source in enumerate((one, other)):
        found = [place for place, at in zip(context.offsets, context.texts, strict=True) if at == text]
        assert found == [(at, at + 1) for at, char in enumerate(source) for _ in char.encode()]


@hypothesis_settings(deadline=None)
@given(
    rows=st.lists(ROWS, min_size=1, max_size=4),
    pad_to=st.none() | st.integers(5, 9),
    side=st.sampled_from(("left", "right")),
    cut=st.sampled_from(("left", "right")),
)
def test_contexts_have_an_entry_for_each_token_that_the_mask_shows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], pad_to: int | None, side: str, cut: str
) -> None:
    settings = TextSettings(inputs=ALL, max_length=9, padding_side=side, truncation_side=cut, mask_id=MASK)
    processor = make(word_pieces(), tmp_path_factory.getbasetemp() / f"{side}-{cut}", settings)
    prepared = processor.prepare(rows, pad_to=pad_to)
    assert len(prepared.contexts) == len(rows)
    for row, mask, ids, context in zip(
        rows, prepared.feeds["attention_mask"], prepared.feeds["input_ids"], prepared.contexts, strict=True
    ):
        assert isinstance(context, TextContext)
        assert context.row == row
        count = len(context.offsets)
        assert count == len(context.texts) == len(context.words) == mask.sum()
        assert np.flatnonzero(mask).tolist() == list(range(context.first, context.first + count))
        own = ids[context.first : context.first + count]
        assert context.masked == tuple(np.flatnonzero(own == MASK))
    assert processor.feeds(rows, pad_to=pad_to).keys() == prepared.feeds.keys()


@hypothesis_settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_words_give_the_tokens_that_each_gives_alone_and_say_whose_they_are(
    pieces: TextProcessor, words: list[str]
) -> None:
    ids, context = only(pieces, Words(tuple(words)))
    alone = [only(pieces, word)[0][1:-1] for word in words]
    assert ids == [CLS, *(token for tokens in alone for token in tokens), SEP]
    owners = [index for index, tokens in enumerate(alone) for _ in tokens]
    assert context.words == (None, *owners, None)
    assert context.texts == (None, *(0 for _ in owners), None)


def test_words_are_those_of_transformers(pieces: TextProcessor) -> None:
    transformers = pytest.importorskip("transformers")
    original = transformers.PreTrainedTokenizerFast(tokenizer_object=word_pieces(), pad_token="[PAD]")
    for words in (["a", "fine", "films"], ["電影", "😀 film", "!", "café"], ["", "a"]):
        wanted = original([words], is_split_into_words=True)
        ids, context = only(pieces, Words(tuple(words)))
        assert ids == wanted["input_ids"][0]
        assert list(context.words) == wanted.word_ids(0)


def test_words_are_told_from_a_text_with_spaces_in_it(pieces: TextProcessor) -> None:
    _, split = only(pieces, Words(("a fine", "film")))
    _, text = only(pieces, "a fine film")
    assert split.words == (None, 0, 0, 1, None)
    assert text.words == (None, 0, 1, 2, None)
    assert split.offsets == ((0, 0), (0, 1), (2, 6), (0, 4), (0, 0))
    assert text.offsets == ((0, 0), (0, 1), (2, 6), (7, 11), (0, 0))


@pytest.mark.parametrize(
    ("row", "message"),
    [(Words(()), "row 0 holds no words"), (Words(("a", "\ud83d")), "half a character")],
)
def test_words_that_are_none_are_refused(pieces: TextProcessor, row: Words, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pieces.prepare([row])


@pytest.mark.parametrize("side", ["left", "right"])
def test_masked_places_lead_to_the_mask_tokens(tmp_path: Path, side: str) -> None:
    settings = TextSettings(inputs=ALL, max_length=16, padding_side=side, mask_id=MASK)
    prepared = make(word_pieces(), tmp_path, settings).prepare(["a [MASK] film [MASK]", "[MASK]"], pad_to=9)
    places = [[context.first + place for place in context.masked] for context in prepared.contexts]  # type: ignore[attr-defined]
    assert places == [np.flatnonzero(ids == MASK).tolist() for ids in prepared.feeds["input_ids"]]
    assert [len(found) for found in places] == [2, 1]


def test_without_a_mask_token_nothing_is_masked(tmp_path: Path) -> None:
    processor = make(word_pieces(), tmp_path, TextSettings(inputs=ALL, max_length=16))
    assert only(processor, "a [MASK] film")[1].masked == ()


def test_a_tokenizer_that_adds_no_special_tokens_tells_pairs_apart(tmp_path: Path) -> None:
    _, context = only(make(single_bytes(special=False), tmp_path), ("é", "ab"))
    assert context.texts == (0, 0, 1, 1)
    assert context.offsets == ((0, 1), (0, 1), (0, 1), (1, 2))


def test_ids_become_text_again_without_special_tokens(pieces: TextProcessor, letters: TextProcessor) -> None:
    assert pieces.decode(pieces.feeds(["a fine films"])["input_ids"][0]) == "a fine films"
    assert pieces.decode([]) == pieces.decode([CLS, PAD]) == ""
    text = "שלום 😀  cafe\u0301\n"
    assert letters.decode(letters.feeds([text], pad_to=64)["input_ids"][0].tolist()) == text


def only_second(directory: Path, max_length: int = 8) -> TextProcessor:
    settings = TextSettings(inputs=ALL, max_length=max_length, truncation="only_second")
    return make(word_pieces(), directory, settings)


def test_only_the_second_text_is_cut_where_the_settings_say_so(tmp_path: Path) -> None:
    processor = only_second(tmp_path)
    a, fine, film = (len(SPECIAL) + KNOWN.index(word) for word in ("a", "fine", "film"))
    long = "film " * 50
    pair = [CLS, a, fine, fine, SEP, film, film, SEP]
    assert only(processor, ("a fine fine", long))[0] == pair
    assert only(processor, long)[0] == [CLS, *[film] * 6, SEP], "a single text is cut as ever"
    assert only(processor, ("a fine fine", long))[0] == pair, "the row before must not matter"
    assert only(processor, ("a", long), pad_to=5)[0] == [CLS, a, SEP, film, SEP]
    for question in (long, "a a a a a"):
        with pytest.raises(InputError, match="row 1 cannot be made into tokens") as caught:
            processor.prepare(["a", (question, long)])
        assert "room for some of the second in 8 tokens" in caught.value.hint


def test_cutting_only_the_second_text_is_what_transformers_does(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    original = transformers.PreTrainedTokenizerFast(tokenizer_object=word_pieces(), pad_token="[PAD]")
    processor = only_second(tmp_path, 9)
    for pair in (("a", "fine film"), ("a fine", "film " * 9), ("a a a a a", "film film"), ("", "film " * 9)):
        wanted = original([pair[0]], [pair[1]], truncation="only_second", max_length=9)["input_ids"][0]
        assert only(processor, pair)[0] == wanted


def test_a_tokenizer_that_gives_up_on_a_text_is_explained(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "film": 1}, unk_token="[UNK]"))
    processor = make(tokenizer, tmp_path, TextSettings(inputs=("input_ids",), max_length=4))
    with pytest.raises(InputError, match="row 1 cannot be made into tokens"):
        processor.feeds(["film", "電"])
