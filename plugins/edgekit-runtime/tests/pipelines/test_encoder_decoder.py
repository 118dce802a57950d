"""Two sessions as one: the same answers as without a cache, and every promise that a session makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit_runtime.errors import InputError, OpenFailed, RunFailed, SessionClosed
from edgekit_runtime.generation import (
    SCORES,
    TOKENS,
    GenerationSettings,
    GreedySearch,
    generated_lengths,
)
from edgekit_runtime.pipelines import ENCODER_DECODER, EncoderDecoder, Pipeline
from edgekit_runtime.session import Array, Session
from edgekit_runtime.values import OperatorTime, Placement, PlacementRow, Signature

Opened = Callable[..., Any]


def feeds_of(*rows: tuple[int, ...]) -> dict[str, Array]:
    """A padded batch."""
    width = max(map(len, rows))
    ids = np.array([[*row, *[0] * (width - len(row))] for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": mask}


def without_cache(
    speller: ModuleType, feeds: dict[str, Array], settings: GenerationSettings, mix: float
) -> dict[str, Array]:
    """The same model, each step computed from all ids anew."""
    source, mask = feeds["input_ids"], feeds["attention_mask"]
    search = GreedySearch(settings, len(source))
    ids = np.zeros((len(source), 0), np.int64)
    while not search.done:
        ids = np.concatenate([ids, search.next_ids], axis=1)
        state = speller.EMBEDDING[ids].transpose(0, 2, 1, 3).sum(axis=2)
        place = ids.shape[1] - len(settings.start)
        search.take(speller.logits_of(source, mask, state, place, mix))
    return search.outputs()


def test_a_text_is_spelled_and_rows_end_each_at_its_own_end(opened: Opened) -> None:
    session, _, _ = opened()
    outputs = session.run(feeds_of((5, 6, 7, 4), (9,)))
    assert outputs[TOKENS].tolist() == [[5, 6, 7, 4, 3], [9, 3, 0, 0, 0]]
    assert outputs[TOKENS].dtype == np.int64
    assert (outputs[SCORES].dtype, outputs[SCORES].shape) == (np.float32, (2, 5, 2))
    assert generated_lengths(outputs[SCORES]).tolist() == [5, 2]


@pytest.mark.parametrize("options", [{}, {"masked": True}], ids=["mask kept", "mask taken"])
@pytest.mark.parametrize("start", [(2,), (2, 8, 9)])
@pytest.mark.parametrize("rows", [((5, 6, 7),), ((5, 6, 7, 8, 9), (4,), (9, 9, 9))])
def test_with_its_cache_it_answers_as_without(
    opened: Opened, speller: ModuleType, options: dict[str, bool], start: tuple[int, ...], rows: Any
) -> None:
    settings = GenerationSettings(start=start, end=(3,), pad=0, max_tokens=9, no_repeat_ngram=3)
    session, _, decoder = opened(settings, mix=1.5, start=len(start), **options)
    feeds = feeds_of(*rows)
    found = session.run(feeds)
    expected = without_cache(speller, feeds, settings, 1.5)
    assert np.array_equal(found[TOKENS], expected[TOKENS])
    np.testing.assert_allclose(found[SCORES], expected[SCORES], rtol=1e-5)
    assert [step["input_ids"].shape[1] for step in decoder.fed][:3] == [len(start), 1, 1]
    assert [step["past.0.key"].shape[2] for step in decoder.fed][:2] == [0, len(start)]


def test_what_the_parts_gave_is_handed_on_and_never_copied(opened: Opened) -> None:
    session, encoder, decoder = opened(masked=True)
    feeds = feeds_of((5, 6, 7))
    session.run(feeds)
    assert len(encoder.fed) == 1
    for step in decoder.fed:
        assert step["cross.0.key"] is encoder.gave[0]["cross.0.key"]
        assert step["encoder_attention_mask"] is feeds["attention_mask"]
    for earlier, later in zip(decoder.gave, decoder.fed[1:], strict=False):
        assert later["past.0.value"] is earlier["present.0.value"]


def test_the_signature_is_the_encoders_inputs_and_what_is_generated(opened: Opened) -> None:
    session, encoder, _ = opened(batch=2)
    assert isinstance(session, Session)
    assert session.signature.inputs == encoder.signature.inputs
    assert [(spec.name, spec.dtype, spec.shape) for spec in session.signature.outputs] == [
        (TOKENS, "int64", (2, "generated")),
        (SCORES, "float32", (2, "generated", 2)),
    ]


def test_outputs_belong_to_the_caller_and_feeds_stay_as_they_are(opened: Opened) -> None:
    session, _, _ = opened(mix=1.5)
    feeds = feeds_of((5, 6, 7))
    before = {name: array.copy() for name, array in feeds.items()}
    first = session.run(feeds)
    kept = {name: array.copy() for name, array in first.items()}
    for array in session.run(feeds).values():
        array[...] = 0
    assert all(np.array_equal(feeds[name], before[name]) for name in feeds)
    assert all(np.array_equal(first[name], kept[name]) for name in first)
    again = session.run(feeds)
    assert all(np.array_equal(again[name], kept[name]) for name in kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_mask": None}, "input 'attention_mask' is missing"),
        ({"input_ids": np.zeros((1, 3), np.int32)}, "has dtype int32"),
        ({"input_ids": np.zeros((1, 4), np.int64)}, "axis 'sequence' is 3, but it is 4"),
        ({"past.0.key": np.zeros((1, 2, 0, 3), np.float32)}, "has no input 'past.0.key'"),
    ],
)
def test_feeds_that_do_not_fit_are_input_errors(opened: Opened, change: Any, message: str) -> None:
    session, encoder, _ = opened()
    feeds = {**feeds_of((5, 6, 7)), **change}
    with pytest.raises(InputError, match=message):
        session.run({name: array for name, array in feeds.items() if array is not None})
    assert encoder.fed == []


def test_a_closed_session_says_so_and_may_be_closed_again(opened: Opened) -> None:
    session, encoder, decoder = opened()
    session.close()
    session.close()
    assert encoder.closed >= 1
    assert decoder.closed >= 1
    for use in (lambda: session.run(feeds_of((5,))), session.placement, session.profile):
        with pytest.raises(SessionClosed):
            use()


@pytest.mark.parametrize("broken", ["encoder", "decoder"])
def test_both_parts_are_closed_also_when_one_fails_to(opened: Opened, broken: str) -> None:
    session, encoder, decoder = opened()
    parts = {"encoder": encoder, "decoder": decoder}

    def fail() -> None:
        raise RuntimeError("does not close")

    parts[broken].close = fail
    with pytest.raises(RuntimeError, match="does not close"):
        session.close()
    assert [part.closed for name, part in parts.items() if name != broken] == [1]


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_after_ctrl_c_between_steps_it_answers_as_before(opened: Opened, steps: int) -> None:
    session, _, decoder = opened(mix=1.5)
    feeds = feeds_of((5, 6, 7, 8))
    expected = session.run(feeds)
    honest, left = decoder.run, iter(range(steps))

    def interrupted(given: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return honest(given)

    decoder.run = interrupted
    with pytest.raises(KeyboardInterrupt):
        session.run(feeds)
    decoder.run = honest
    again = session.run(feeds)
    assert all(np.array_equal(again[name], expected[name]) for name in expected)


def test_what_a_part_raises_reaches_the_caller(opened: Opened) -> None:
    session, _, decoder = opened()

    def fail(given: Any) -> Any:
        raise RunFailed("the engine fell")

    decoder.run = fail
    with pytest.raises(RunFailed, match="the engine fell"):
        session.run(feeds_of((5,)))
    decoder.run = lambda given: {"logits": np.zeros((1, 10), np.float32)}
    with pytest.raises(RunFailed, match=r"the decoder gave no output 'present\.0\.key'"):
        session.run(feeds_of((5,)))


# --- parts that do not fit each other -------------------------------------------------------------------


def changed(signature: Signature, side: str, name: str, fields: dict[str, Any]) -> Signature:
    """The signature with one tensor changed; without it where nothing is given."""
    specs = [replace(spec, **fields) if spec.name == name else spec for spec in getattr(signature, side)]
    kept = tuple(spec for spec in specs if fields or spec.name != name)
    return replace(signature, **{side: kept})


@pytest.mark.parametrize(
    ("part", "side", "name", "fields", "message"),
    [
        ("decoder", "inputs", "input_ids", {}, "has no input 'input_ids'"),
        ("decoder", "outputs", "logits", {}, "has no output 'logits'"),
        ("decoder", "outputs", "present.0.value", {}, "'past.0.value'"),
        ("decoder", "outputs", "present.0.key", {"dtype": "float16"}, "'past.0.key'"),
        ("decoder", "inputs", "past.0.key", {"shape": ("batch", "heads", "past", 3)}, "heads, past, 3"),
        ("decoder", "inputs", "past.0.key", {"shape": ("batch", 6)}, "not \\[batch, heads, past, size\\]"),
        ("decoder", "inputs", "past.0.key", {"name": "position"}, "'position'"),
        ("encoder", "outputs", "cross.0.key", {}, "'cross.0.key'"),
        ("encoder", "outputs", "cross.0.value", {"dtype": "float16"}, "'cross.0.value'"),
        ("encoder", "inputs", "attention_mask", {}, "'encoder_attention_mask'"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(
    opened: Opened, greedy: GenerationSettings, part: str, side: str, name: str, fields: Any, message: str
) -> None:
    _, encoder, decoder = opened(masked=True)
    parts = {"encoder": encoder, "decoder": decoder}
    parts[part].signature = changed(parts[part].signature, side, name, fields)
    with pytest.raises(OpenFailed, match=message) as caught:
        EncoderDecoder(parts, Pipeline(kind=ENCODER_DECODER, parts=tuple(parts), generation=greedy))
    assert caught.value.hint


# --- what the parts say of themselves -------------------------------------------------------------------


class Slow:
    """A clock that only the parts move."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def taking(part: Any, clock: Slow, seconds: float) -> None:
    """Have each run of a part take so long."""
    honest = part.run

    def run(feeds: Any) -> Any:
        clock.now += seconds
        return honest(feeds)

    part.run = run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Slow:
    slow = Slow()
    monkeypatch.setattr("edgekit_runtime.pipelines.encoder_decoder.time", slow)
    return slow


def told(*shares: tuple[str, str, float | None]) -> Placement:
    rows = tuple(
        PlacementRow(precision=precision, device=device, nodes=10, time_share=share)
        for precision, device, share in shares
    )
    return Placement(rows=rows, source="known")


def test_shares_of_time_are_weighted_by_the_time_that_each_part_took(opened: Opened, clock: Slow) -> None:
    session, encoder, decoder = opened()
    taking(encoder, clock, 2.0)
    taking(decoder, clock, 1.5)
    encoder.placement = lambda: told(("int8", "cpu", 0.75), ("fp32", "cpu", 0.25))
    decoder.placement = lambda: told(("fp32", "cpu", 0.5), ("fp32", "gpu", 0.5))
    session.run(feeds_of((5, 6, 7)))  # four steps: 6 s beside 2 s
    placement = session.placement()
    assert [(row.precision, row.device, row.nodes) for row in placement.rows] == [
        ("int8", "cpu", 10),
        ("fp32", "cpu", 20),
        ("fp32", "gpu", 10),
    ]
    assert [row.time_share for row in placement.rows] == pytest.approx([0.1875, 0.4375, 0.375])
    assert placement.source == "known"


def test_shares_of_time_that_one_part_cannot_tell_are_told_of_none(opened: Opened) -> None:
    session, encoder, _ = opened()
    encoder.placement = lambda: told(("int8", "cpu", None))
    placement = session.placement()
    assert [(row.nodes, row.time_share) for row in placement.rows] == [(10, None), (2, None)]


def test_operators_are_called_after_their_part_costliest_first(opened: Opened, clock: Slow) -> None:
    session, encoder, decoder = opened()
    taking(encoder, clock, 2.0)
    taking(decoder, clock, 1.5)
    shares = {"encoder": (0.9, 0.1), "decoder": (0.6, 0.4)}
    for name, part in (("encoder", encoder), ("decoder", decoder)):
        found = tuple(
            OperatorTime(name=f"node{index}", op_type="Add", precision="fp32", device="cpu", share=share)
            for index, share in enumerate(shares[name])
        )
        part.profile = lambda found=found: found
    session.run(feeds_of((5, 6, 7)))
    profile = session.profile()
    assert [item.name for item in profile] == [
        "decoder/node0",
        "decoder/node1",
        "encoder/node0",
        "encoder/node1",
    ]
    assert [item.share for item in profile] == pytest.approx([0.45, 0.3, 0.225, 0.025])


def test_before_any_run_the_parts_are_weighted_by_a_short_made_up_one(opened: Opened) -> None:
    session, encoder, decoder = opened(GenerationSettings(start=(2,), end=(), pad=0, max_tokens=1000))
    placement = session.placement()
    assert [row.time_share for row in placement.rows] == pytest.approx([1.0])
    assert (len(encoder.fed), len(decoder.fed)) == (1, 8)
    session.profile()
    assert len(encoder.fed) == 1


def test_a_made_up_run_weighs_nothing_once_there_is_a_real_one(opened: Opened, clock: Slow) -> None:
    session, encoder, decoder = opened()
    taking(encoder, clock, 1.0)
    taking(decoder, clock, 1.0)
    encoder.placement = lambda: told(("int8", "cpu", 1.0))
    made_up = session.placement()
    session.run(feeds_of((5,)))  # two steps
    real = session.placement()
    assert [row.time_share for row in made_up.rows] == pytest.approx([1 / 9, 8 / 9])
    assert [row.time_share for row in real.rows] == pytest.approx([1 / 3, 2 / 3])


def test_made_up_inputs_that_cannot_be_run_are_told_with_a_way_out(opened: Opened) -> None:
    session, encoder, _ = opened()

    def fail(given: Any) -> Any:
        raise RunFailed("no such ids")

    encoder.run = fail
    with pytest.raises(RunFailed, match="made-up inputs cannot be run: no such ids") as caught:
        session.placement()
    assert "once on real inputs" in caught.value.hint


def test_a_batch_of_one_size_is_asked_as_such(opened: Opened) -> None:
    session, _, _ = opened(batch=2, length=4)
    assert session.run(feeds_of((5, 6, 7, 8), (9, 9, 4, 4)))[TOKENS].shape == (2, 5)
    with pytest.raises(InputError, match="has shape"):
        session.run(feeds_of((5, 6, 7, 8)))


def test_an_encoder_without_a_mask_needs_none(opened: Opened) -> None:
    session, _, _ = opened(blind=True)
    assert session.run({"input_ids": np.array([[5, 6]])})[TOKENS].tolist() == [[5, 6, 3]]


def test_parts_are_taken_in_the_pipelines_order(
    opened: Opened, greedy: GenerationSettings, tmp_path: Path
) -> None:
    _, encoder, decoder = opened()
    pipeline = Pipeline(kind=ENCODER_DECODER, parts=("hears", "writes"), generation=greedy)
    session = EncoderDecoder({"writes": decoder, "hears": encoder}, pipeline)
    assert session.run(feeds_of((5, 6)))[TOKENS].tolist() == [[5, 6, 3]]
    assert {item.name for item in session.profile()} == {"hears/node", "writes/node"}
