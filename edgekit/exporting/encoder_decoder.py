"""A loaded encoder-decoder as an Assembly: two graphs, each traced and checked, and the whole that generates.

encoder   the model's inputs -> keys and values for each decoder layer's attention over the source
decoder   the tokens since the last step, and what is kept of those before -> logits of the last token
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import SourceError, UsageError
from edgekit.exporting.attention import plain_attention
from edgekit.exporting.cached import IDS, LOGITS, MASK, SOURCE_MASK, CachedModel, cached_model, port_names
from edgekit.exporting.generating import Generating, decoder_positions
from edgekit.exporting.loaded import Loaded
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.subject import Assembly, Case, Facts, Range, Subject, shape_of
from edgekit_runtime.generation import SCORES, TOKENS
from edgekit_runtime.pipelines import ENCODER_DECODER, Pipeline

if TYPE_CHECKING:
    import torch

    from edgekit_runtime.session import Array

ENCODER, DECODER = "encoder", "decoder"
OUTPUTS = (TOKENS, SCORES)
#: Tokens behind the decoder and before it when it is traced. No case has this shape.
_TRACE_PAST, _TRACE_TOKENS = 5, 2
#: Most tokens that the decoder takes at once: what an answer begins with, and some more.
_MOST_AT_ONCE = 8
#: A case of several rows is left out when what a part gives for it is more than this.
_LARGEST_CASE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """What a pipeline takes: feeds of the trace, and cases, of the encoder; its axes and their ranges."""

    trace: Mapping[str, Array]
    cases: Sequence[Case]
    axes: Mapping[str, Mapping[int, str]]
    ranges: Mapping[str, Range]


def encoder_decoder(
    loaded: Loaded, source: Source, generating: Generating, options: ExportOptions
) -> Assembly:
    """Both parts with their cases, and the whole.

    Raises SourceError for a model whose decoder keeps no cache of transformers' kind, UsageError for
    --static.
    """
    if options.static:
        raise UsageError(
            "static: a model that generates has a cache that grows with each token",
            hint="leave --static out; --max-length and --max-new-tokens bound its size",
        )
    cached = cached_model(loaded.model, generating.settings.start[0], _tensors(source.trace))
    facts = loaded.facts(source.axes)
    facts = dataclasses.replace(facts, source={**facts.source, **generating.notes})
    planner = _Planner(loaded=loaded, cached=cached, source=source, generating=generating, facts=facts)
    return Assembly(
        parts={ENCODER: planner.encoder(), DECODER: planner.decoder(options.seed)},
        whole=planner.whole(),
        pipeline=Pipeline(kind=ENCODER_DECODER, parts=(ENCODER, DECODER), generation=generating.settings),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Planner:
    """Plans the parts of one model."""

    loaded: Loaded
    cached: CachedModel
    source: Source
    generating: Generating
    facts: Facts

    def encoder(self) -> Subject:
        """The encoder, on every case that is not too large, and on two of those that are recorded."""
        goldens = [case for case in self.source.cases if case.golden][:2]
        others = [case for case in self.source.cases if not case.golden]
        cases = [case for case in (*others, *goldens) if self._affordable(case)]
        return Subject(
            module=self.loaded.model,
            call=self.cached.encode,
            facts=self._part_facts(self.source.axes),
            trace=self.source.trace,
            ranges=self.source.ranges,
            outputs=port_names("cross", self.cached.layers),
            cases=[dataclasses.replace(case, golden=False, rows=()) for case in cases],
            tracing=lambda: plain_attention(self.loaded.model),
        )

    def decoder(self, seed: int) -> Subject:
        """One step: at the first token, at later ones, at the last, and several tokens at once."""
        maker = _Steps(cached=self.cached, vocabulary=self._vocabulary(), rng=np.random.default_rng(seed))
        trace = maker.feeds(self.source.trace, _TRACE_PAST, _TRACE_TOKENS)
        axes = self._decoder_axes(trace)
        positions = decoder_positions(self.loaded.model)
        room = None if positions is None else max(positions - _MOST_AT_ONCE, _TRACE_PAST)
        longest = self.generating.settings.max_tokens + len(self.generating.settings.start) - 1
        cases = [
            Case(name=f"{name}; {case.name}", feeds=maker.feeds(case.feeds, past, tokens))
            for name, case, past, tokens in self._steps(longest)
        ]
        return Subject(
            module=self.loaded.model,
            call=self.cached.decode,
            facts=self._part_facts(axes),
            trace=trace,
            ranges={**self.source.ranges, "past": (0, room), "tokens": (1, _MOST_AT_ONCE)},
            outputs=(LOGITS, *port_names("present", self.cached.layers)),
            cases=cases,
            tracing=lambda: plain_attention(self.loaded.model),
        )

    def whole(self) -> Subject:
        """The original, generating: what is recorded, and of each batch size the case of the longest rows."""
        longest: dict[int, Case] = {}
        for case in self.source.cases:
            size, rows = _size(case), _rows(case)
            if not case.golden and size >= _size(longest.get(rows, case)) and self._affordable(case):
                longest[rows] = case
        return Subject(
            module=self.loaded.model,
            call=self.generating.run,
            facts=self.facts,
            trace=self.source.trace,
            ranges=self.source.ranges,
            outputs=OUTPUTS,
            cases=[*longest.values(), *(case for case in self.source.cases if case.golden)],
        )

    def _part_facts(self, axes: Mapping[str, Mapping[int, str]]) -> Facts:
        return dataclasses.replace(self.facts, answers="tensor", axes=axes, labels=(), inner=True)

    def _vocabulary(self) -> int:
        size = getattr(self.loaded.model.config, "vocab_size", None)
        if not isinstance(size, int):
            size = getattr(getattr(self.loaded.model.config, "decoder", None), "vocab_size", None)
        if not isinstance(size, int) or size < 1:
            raise SourceError("config.json has no vocab_size", hint="is it a model that writes text?")
        return size

    def _decoder_axes(self, trace: Mapping[str, Array]) -> dict[str, dict[int, str]]:
        """Axes of the decoder's inputs. The source's is the encoder's axis of that size, or a number."""
        source = trace[port_names("cross", 1)[0]].shape[2]
        sizes = shape_of(self.source.trace, self.source.axes)
        word = next((name for name, size in sizes.items() if size == source and name != "batch"), None)
        varying = {} if word is None else {2: word}
        axes: dict[str, dict[int, str]] = {IDS: {0: "batch", 1: "tokens"}}
        if SOURCE_MASK in trace:
            axes[SOURCE_MASK] = dict(self.source.axes[MASK])
        axes |= {name: {0: "batch", 2: "past"} for name in port_names("past", self.cached.layers)}
        return axes | {name: {0: "batch", **varying} for name in port_names("cross", self.cached.layers)}

    def _steps(self, longest: int) -> Iterator[tuple[str, Case, int, int]]:
        """Name, source, tokens behind and tokens at once, of each case of the decoder."""
        by_rows: dict[int, list[Case]] = {}
        for case in sorted(self.source.cases, key=_size):
            if self._affordable(case):
                by_rows.setdefault(_rows(case), []).append(case)
        one, most = by_rows[min(by_rows)], by_rows[max(by_rows)]
        middle = next((cases for rows, cases in sorted(by_rows.items()) if rows > min(by_rows)), one)
        several = min(max(3, len(self.generating.settings.start)), longest)
        yield "the first token", one[0], 0, 1
        yield "the last token", one[0], longest - 1, 1
        yield "a later token of the longest source", one[-1], min(9, longest - 1), 1
        yield f"{several} tokens at once", middle[-1], 0, several
        yield "the second token", middle[0], min(1, longest - 1), 1
        yield "a later token", most[-1], min(6, longest - 1), 1
        if longest > several:
            yield f"{several} tokens behind some", most[0], min(4, longest - several), several

    def _affordable(self, case: Case) -> bool:
        """One row always is."""
        rows = _rows(case)
        if rows == 1:
            return True
        config = self.loaded.model.config
        width = getattr(config, "d_model", None) or getattr(config, "hidden_size", 1024)
        longest = max(size for array in case.feeds.values() for size in array.shape[1:])
        return int(rows * longest * width * 8 * self.cached.layers) <= _LARGEST_CASE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Steps:
    """Makes feeds of the decoder: the original's own keys and values, of random tokens."""

    cached: CachedModel
    vocabulary: int
    rng: np.random.Generator

    def feeds(self, source: Mapping[str, Array], past: int, tokens: int) -> dict[str, Array]:
        """One step of `tokens` tokens behind `past` others."""
        import torch

        layers = self.cached.layers
        with torch.inference_mode():
            given = self.cached.encode(_tensors(source))
            if self.cached.masked:
                given[SOURCE_MASK] = torch.from_numpy(source[MASK])
            keys = given[port_names("cross", 1)[0]]
            rows = keys.shape[0]
            drawn = self.rng.integers(0, self.vocabulary, size=(rows, past + tokens), dtype=np.int64)
            drawn[:, 0] = self.cached.start
            ids = torch.from_numpy(drawn)
            empty = keys[:, :, :0]  # a decoder has as many heads for the source as for its own tokens
            given |= dict.fromkeys(port_names("past", layers), empty)
            if past:
                kept = self.cached.decode({**given, IDS: ids[:, :past]})
                pairs = zip(port_names("past", layers), port_names("present", layers), strict=True)
                given |= {before: kept[after] for before, after in pairs}
            given[IDS] = ids[:, past:]
        return {name: given[name].contiguous().numpy() for name in self.cached.decoder_inputs()}


def _size(case: Case) -> int:
    """Numbers in a row."""
    return max(int(array[0].size) for array in case.feeds.values())


def _rows(case: Case) -> int:
    return len(next(iter(case.feeds.values())))


def _tensors(feeds: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
