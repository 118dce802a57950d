"""Which token comes next: the same as transformers chooses, by rules that are its own to the last bit."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit_runtime.errors import RunFailed
from edgekit_runtime.generation import (
    NOT_ALLOWED,
    SCORES,
    TOKENS,
    GenerationSettings,
    GreedySearch,
    allowed,
    choose,
    generated_lengths,
    is_generated,
)
from edgekit_runtime.session import Array

VOCABULARY = 12
IDS = st.integers(0, VOCABULARY - 1)
SOME = st.lists(IDS, max_size=4).map(tuple)
NUMBERS = st.floats(-30, 30, width=32)
PLAIN = GenerationSettings(start=(2,), end=(3,), pad=1, max_tokens=6)


@st.composite
def generations(draw: st.DrawFn) -> GenerationSettings:
    start = draw(st.lists(IDS, min_size=1, max_size=3).map(tuple))
    most = draw(st.integers(1, 7))
    # transformers forces the first token only where the answer begins with a single id.
    forced = (draw(st.none() | IDS) if len(start) == 1 else None, draw(st.none() | IDS))
    return GenerationSettings(
        start=start,
        end=draw(st.lists(IDS, min_size=1, max_size=2).map(tuple)),
        pad=draw(IDS),
        max_tokens=most,
        min_tokens=draw(st.integers(0, most)),
        suppress=tuple(token for token in draw(SOME) if token not in forced),
        suppress_first=draw(SOME),
        forced_first=forced[0],
        forced_last=forced[1],
        repetition_penalty=draw(st.sampled_from((1.0, 1.0, 1.3, 0.7, 2.0))),
        no_repeat_ngram=draw(st.integers(0, 3)),
    )


def config_of(wanted: GenerationSettings) -> Any:
    """The same settings as transformers has them."""
    from transformers import GenerationConfig

    return GenerationConfig(
        output_scores=True,
        return_dict_in_generate=True,
        num_beams=1,
        do_sample=False,
        decoder_start_token_id=wanted.start[0],
        eos_token_id=list(wanted.end),
        pad_token_id=wanted.pad,
        max_new_tokens=wanted.max_tokens,
        min_new_tokens=wanted.min_tokens,
        suppress_tokens=list(wanted.suppress) or None,
        begin_suppress_tokens=list(wanted.suppress_first) or None,
        forced_bos_token_id=wanted.forced_first,
        forced_eos_token_id=wanted.forced_last,
        repetition_penalty=wanted.repetition_penalty,
        no_repeat_ngram_size=wanted.no_repeat_ngram,
        max_length=None,
        min_length=None,
    )


@functools.cache
def original() -> Any:
    """A tiny model with weights large enough that its choices depend on all that came before."""
    from transformers import BartConfig, BartForConditionalGeneration, GenerationConfig

    torch.manual_seed(0)
    sizes = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = BartConfig(
        vocab_size=VOCABULARY, encoder_ffn_dim=16, decoder_ffn_dim=16, init_std=0.8, **sizes, **heads
    )
    model = BartForConditionalGeneration(config).eval()
    model.generation_config = GenerationConfig()  # its class has settings of its own, which would be added
    return model


def rule_book(wanted: GenerationSettings) -> Any:
    """The processors that transformers makes for these settings, in its order."""
    config = config_of(wanted)
    config.max_length = wanted.max_tokens + len(wanted.start)
    model = original()
    model._prepare_special_tokens(config, kwargs_has_attention_mask=True, device="cpu")
    return model._get_logits_processor(config, input_ids_seq_length=len(wanted.start))


@settings(deadline=None, max_examples=150)
@given(generations(), st.data())
def test_the_rules_are_those_of_transformers_in_their_order(
    wanted: GenerationSettings, data: st.DataObject
) -> None:
    rows, step = data.draw(st.integers(1, 3)), data.draw(st.integers(0, wanted.max_tokens - 1))
    logits = data.draw(hnp.arrays(np.float32, (rows, VOCABULARY), elements=NUMBERS))
    later = data.draw(hnp.arrays(np.int64, (rows, step), elements=IDS))
    ids = np.concatenate([np.tile(np.array(wanted.start), (rows, 1)), later], axis=1)
    before = logits.copy()
    found = allowed(logits, ids, wanted)
    assert np.array_equal(logits, before), "the model's own array stays as it is"
    expected = rule_book(wanted)(torch.from_numpy(ids), torch.from_numpy(before.copy())).numpy()
    assert np.array_equal(found == -np.inf, expected == -np.inf)
    np.testing.assert_array_equal(found, expected)

    choice = choose(found)
    assert np.array_equal(choice.tokens, expected.argmax(axis=-1))
    sound = np.isfinite(expected).any(axis=-1)
    every = torch.log_softmax(torch.from_numpy(expected).double(), dim=-1).numpy()
    best = np.maximum(np.sort(every, axis=-1)[:, -2:][:, ::-1], NOT_ALLOWED)
    np.testing.assert_allclose(choice.scores[sound], best[sound], rtol=1e-5, atol=1e-5)
    assert (choice.scores[~sound] == NOT_ALLOWED).all()


def decoded(model: Any, feeds: dict[str, torch.Tensor], wanted: GenerationSettings) -> dict[str, Array]:
    """What `GreedySearch` makes of the same model, run anew on all ids at each step."""
    search = GreedySearch(wanted, len(feeds["input_ids"]))
    ids = np.zeros((len(feeds["input_ids"]), 0), np.int64)
    with torch.no_grad():
        while not search.done:
            ids = np.concatenate([ids, search.next_ids], axis=1)
            search.take(model(**feeds, decoder_input_ids=torch.from_numpy(ids)).logits[:, -1].numpy())
    return search.outputs()


@settings(deadline=None, max_examples=40)
@given(generations(), st.integers(0, 1000), st.integers(1, 3))
def test_the_tokens_and_scores_are_those_of_transformers_generate(
    wanted: GenerationSettings, seed: int, rows: int
) -> None:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 6, size=rows)
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    feeds = {
        "input_ids": torch.from_numpy(random.integers(0, VOCABULARY, size=mask.shape)),
        "attention_mask": torch.from_numpy(mask),
    }
    found = decoded(original(), feeds, wanted)
    generated = original().generate(
        **feeds,
        decoder_input_ids=torch.tensor([wanted.start] * rows),
        generation_config=config_of(wanted),
    )
    expected = generated.sequences[:, len(wanted.start) :].numpy()
    assert found[TOKENS].dtype == np.int64
    assert np.array_equal(found[TOKENS], expected)
    assert is_generated(found)

    live = generated_lengths(found[SCORES])
    ended = np.isin(expected, wanted.end)
    first = np.where(ended.any(axis=1), ended.argmax(axis=1) + 1, expected.shape[1])
    assert np.array_equal(live, first)
    for place, scores in enumerate(generated.scores):
        here = live > place
        assert (found[SCORES][~here, place] == 0).all()
        best = torch.log_softmax(scores.double(), dim=-1).numpy()[here, expected[here, place]]
        wide = best > NOT_ALLOWED
        np.testing.assert_allclose(found[SCORES][here, place, 0][wide], best[wide], atol=1e-4, rtol=1e-4)


def test_rows_that_end_early_are_filled_while_the_others_go_on() -> None:
    search = GreedySearch(PLAIN, 2)
    for step, tokens in enumerate(((5, 3), (3, 7))):
        assert not search.done
        assert search.next_ids.shape == (2, 1)
        search.take(np.eye(VOCABULARY, dtype=np.float32)[list(tokens)] * 9)
        assert search.generated == step + 1
    assert search.done
    outputs = search.outputs()
    assert outputs[TOKENS].tolist() == [[5, 3], [3, PLAIN.pad]]
    assert generated_lengths(outputs[SCORES]).tolist() == [2, 1]
    assert outputs[SCORES].dtype == np.float32
    assert (outputs[SCORES][1, 1] == 0).all()


def test_ids_beyond_the_vocabulary_of_the_logits_change_nothing() -> None:
    logits = np.zeros((1, 4), np.float32)
    far = GenerationSettings(
        start=(90,), end=(91,), pad=0, max_tokens=3, min_tokens=2, suppress=(92,), suppress_first=(93,),
        repetition_penalty=2.0, no_repeat_ngram=1,
    )  # fmt: skip
    assert np.array_equal(allowed(logits, np.array([[90]]), far), logits)
    with pytest.raises(RunFailed, match="token 94 is to be generated, and the model knows 4"):
        allowed(
            logits,
            np.array([[0]]),
            GenerationSettings(start=(0,), end=(), pad=0, max_tokens=1, forced_last=94),
        )


def test_a_forced_token_has_no_runner_up_and_every_score_is_finite() -> None:
    search = GreedySearch(
        GenerationSettings(start=(2,), end=(3,), pad=1, max_tokens=2, forced_first=7, forced_last=3), 1
    )
    while not search.done:
        search.take(np.zeros((1, VOCABULARY), np.float32))
    outputs = search.outputs()
    assert outputs[TOKENS].tolist() == [[7, 3]]
    assert outputs[SCORES].tolist() == [[[0.0, NOT_ALLOWED], [0.0, NOT_ALLOWED]]]
    assert is_generated(outputs)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused_unless_the_row_has_ended(value: float) -> None:
    broken = np.zeros((2, VOCABULARY), np.float32)
    broken[1, 4] = value
    with pytest.raises(RunFailed, match="token 0 are not finite"):
        GreedySearch(PLAIN, 2).take(broken)
    search = GreedySearch(PLAIN, 2)
    search.take(np.eye(VOCABULARY, dtype=np.float32)[[5, 3]])
    search.take(broken)
    assert search.outputs()[TOKENS].tolist() == [[5, 0], [3, PLAIN.pad]]


@pytest.mark.parametrize("shape", [(2, 0), (3, 12), (12,), (2, 1, 12)])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RunFailed, match=r"expected \(2, vocabulary\)"):
        GreedySearch(PLAIN, 2).take(np.zeros(shape, np.float32))


@given(hnp.arrays(np.float32, (2, 5), elements=st.floats(allow_nan=False, width=32)))
def test_no_logits_however_large_make_scores_that_are_not_finite(logits: Array) -> None:
    best = logits.max(axis=-1)
    choice = choose(logits)
    assert np.isfinite(choice.scores[best < np.inf]).all()
    assert (choice.scores[best < np.inf] <= 0).all()
