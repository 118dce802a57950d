"""Two sessions as one: an encoder runs once, a decoder once for each token, and keeps what it computed.

Inputs and outputs of the parts are called as `exporting` names them:

encoder   what the model takes -> cross.{i}.key, cross.{i}.value [batch, heads, source, size]
decoder   input_ids int64 [batch, tokens], past.{i}.key/.value [batch, heads, past, size], cross.*, and
          encoder_attention_mask int64 [batch, source] where it needs one
          -> logits [batch, vocabulary] of the last token, present.{i}.key/.value [batch, heads, all, size]
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from edgekit_runtime.errors import OpenFailed, RunFailed, SessionClosed
from edgekit_runtime.generation import SCORES, TOKENS, GreedySearch
from edgekit_runtime.pipelines.settings import Pipeline
from edgekit_runtime.pipelines.together import merged_placement, merged_profile
from edgekit_runtime.session import Array, Feeds, Session
from edgekit_runtime.signatures import check_feeds, example_feeds
from edgekit_runtime.values import OperatorTime, Placement, Signature, TensorSpec

IDS, MASK, ENCODER_MASK, LOGITS = "input_ids", "attention_mask", "encoder_attention_mask", "logits"
PAST, PRESENT, CROSS = "past.", "present.", "cross."

#: Seconds that a run took in the encoder and in the decoder.
_Spent = tuple[float, float]

#: Runs whose times weigh the parts against each other.
_LAST_RUNS = 16
#: Tokens of the made-up run that weighs them before any other was made.
_EXAMPLE_TOKENS = 8


class EncoderDecoder:
    """A `Session` made of two. It owns them: `close` closes both."""

    def __init__(self, parts: Mapping[str, Session], pipeline: Pipeline) -> None:
        self._names = pipeline.parts
        self._encoder, self._decoder = (parts[name] for name in pipeline.parts)
        self._settings = pipeline.generation
        self._wires = _wires(self._encoder.signature, self._decoder.signature)
        self._signature = _signature(self._encoder.signature)
        self._spent: deque[_Spent] = deque(maxlen=_LAST_RUNS)
        self._example: _Spent | None = None
        self._closed = False

    @property
    def signature(self) -> Signature:
        """Inputs of the encoder; tokens and scores, see `generation`."""
        return self._signature

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Generate an answer to each row."""
        self._check_open()
        check_feeds(self._signature, feeds)
        outputs, spent = self._run(feeds, self._settings.max_tokens)
        self._spent.append(spent)
        return outputs

    def placement(self) -> Placement:
        """Rows of both parts; shares of time are weighted by the time that each part took."""
        weights = self._weights()
        return merged_placement(
            [(part.placement(), weight) for part, weight in zip(self._parts(), weights, strict=True)]
        )

    def profile(self) -> tuple[OperatorTime, ...]:
        """Operators of both parts, called "decoder/NAME"; shares weighted as in `placement`."""
        weights = self._weights()
        return merged_profile(
            [
                (name, part.profile(), weight)
                for name, part, weight in zip(self._names, self._parts(), weights, strict=True)
            ]
        )

    def close(self) -> None:
        """Close both parts, the second also when the first fails to."""
        self._closed = True
        with ExitStack() as both:
            for part in self._parts():
                both.callback(part.close)

    def _parts(self) -> tuple[Session, Session]:
        return self._encoder, self._decoder

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosed(f"the session of {' and '.join(self._names)} is closed")

    def _run(self, feeds: Feeds, most_tokens: int) -> tuple[dict[str, Array], _Spent]:
        """Outputs, and how long it took. All state of a run is in here: what interrupts it leaves the
        session as it was."""
        wires, batch = self._wires, next(iter(feeds.values())).shape[0]
        begun = time.perf_counter()
        encoded = _outputs(self._encoder.run(feeds), wires.cross, self._names[0])
        encoding, decoding = time.perf_counter() - begun, 0.0
        if wires.masked:
            encoded[ENCODER_MASK] = feeds[MASK]
        past = {cache.past: np.zeros((batch, *cache.empty), dtype=cache.dtype) for cache in wires.caches}
        search = GreedySearch(self._settings, batch)
        while not search.done and search.generated < most_tokens:
            step = {IDS: search.next_ids, **encoded, **past}
            begun = time.perf_counter()
            outputs = self._decoder.run(step)
            decoding += time.perf_counter() - begun
            outputs = _outputs(outputs, wires.stepwise, self._names[1])
            search.take(outputs[LOGITS])
            past = {cache.past: outputs[cache.present] for cache in wires.caches}
        return search.outputs(), (encoding, decoding)

    def _weights(self) -> tuple[float, float]:
        """Each part's share of the time of the last runs; of a made-up one before any."""
        self._check_open()
        if not self._spent and self._example is None:
            self._example = self._try_example()
        spent = self._spent or [self._example or (0.0, 0.0)]
        encoding, decoding = (sum(times) for times in zip(*spent, strict=True))
        share = encoding / (encoding + decoding) if encoding + decoding > 0 else 0.5
        return share, 1.0 - share

    def _try_example(self) -> _Spent:
        problem: RunFailed | None = None
        for feeds in example_feeds(self._signature):
            try:
                return self._run(feeds, _EXAMPLE_TOKENS)[1]
            except RunFailed as exc:
                problem = exc
        raise RunFailed(
            f"made-up inputs cannot be run: {problem.message if problem else ''}",
            hint="run the session once on real inputs before asking for its placement",
        ) from problem


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cache:
    """What the decoder keeps of one kind. empty: heads, 0 tokens, size."""

    past: str
    present: str
    empty: tuple[int, int, int]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wires:
    """What goes where. cross: from the encoder to each step; stepwise: the decoder's outputs, those that
    are used."""

    cross: tuple[str, ...]
    caches: tuple[_Cache, ...]
    masked: bool

    @property
    def stepwise(self) -> tuple[str, ...]:
        return (LOGITS, *(cache.present for cache in self.caches))


def _wires(encoder: Signature, decoder: Signature) -> _Wires:
    """How the parts hang together. Raises `OpenFailed` when they do not."""
    inputs = {spec.name: spec for spec in decoder.inputs}
    _check_ends(encoder, decoder)
    takes = {spec.name for spec in encoder.inputs}
    gives = {spec.name: spec for spec in encoder.outputs}
    keeps = {spec.name: spec for spec in decoder.outputs}
    for name, spec in inputs.items():
        if name == ENCODER_MASK and MASK in takes:
            continue
        source = gives.get(name) if name.startswith(CROSS) else keeps.get(_present(name))
        if name != IDS and (source is None or source.dtype != spec.dtype):
            raise _misfit(f"nothing gives the decoder's input {name!r} ({spec.dtype})")
    return _Wires(
        cross=tuple(name for name in inputs if name.startswith(CROSS)),
        caches=tuple(_cache(spec) for name, spec in inputs.items() if name.startswith(PAST)),
        masked=ENCODER_MASK in inputs,
    )


def _check_ends(encoder: Signature, decoder: Signature) -> None:
    if IDS not in {spec.name for spec in decoder.inputs}:
        raise _misfit(f"the decoder has no input {IDS!r}")
    if LOGITS not in {spec.name for spec in decoder.outputs}:
        raise _misfit(f"the decoder has no output {LOGITS!r}")
    if not encoder.inputs or not encoder.inputs[0].shape:
        raise _misfit("the encoder has no input with a batch")


def _cache(spec: TensorSpec) -> _Cache:
    heads, size = (spec.shape[1], spec.shape[3]) if len(spec.shape) == 4 else ("", "")
    if not isinstance(heads, int) or not isinstance(size, int):
        shown = ", ".join(map(str, spec.shape))
        raise _misfit(f"the decoder's input {spec.name!r} is [{shown}], not [batch, heads, past, size]")
    return _Cache(past=spec.name, present=_present(spec.name), empty=(heads, 0, size), dtype=spec.dtype)


def _present(past: str) -> str:
    return PRESENT + past.removeprefix(PAST) if past.startswith(PAST) else ""


def _signature(encoder: Signature) -> Signature:
    batch = encoder.inputs[0].shape[0]
    return Signature(
        inputs=encoder.inputs,
        outputs=(
            TensorSpec(name=TOKENS, dtype="int64", shape=(batch, "generated")),
            TensorSpec(name=SCORES, dtype="float32", shape=(batch, "generated", 2)),
        ),
    )


def _outputs(outputs: dict[str, Array], wanted: Sequence[str], part: str) -> dict[str, Array]:
    """The wanted outputs of a part, no copies. Raises `RunFailed` when one is missing."""
    missing = [name for name in wanted if name not in outputs]
    if missing:
        raise RunFailed(
            f"the {part} gave no output {missing[0]!r}",
            hint="this is a bug in the backend: report it to its author",
        )
    return {name: outputs[name] for name in wanted}


def _misfit(problem: str) -> OpenFailed:
    return OpenFailed(
        f"the parts do not fit each other: {problem}", hint="export the model again, then compile it again"
    )
