"""A loaded model of recordings: its processor, its axes, and the sounds it is checked on.

A model that answers at once becomes a Subject, one that writes a text token by token an Assembly.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import SourceError
from edgekit.exporting.attention import plain_attention
from edgekit.exporting.audio_generating import prove_generation, whisper
from edgekit.exporting.audio_processor import derive_settings, load_extractor, travelling_audio
from edgekit.exporting.audio_tokens import prove_reading, transcriber
from edgekit.exporting.ctc import ctc_vocabulary
from edgekit.exporting.encoder_decoder import Source, encoder_decoder
from edgekit.exporting.loaded import Loaded
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.sounds import neutral, noise, silence, speech
from edgekit.exporting.subject import Assembly, Case, Range, Subject
from edgekit_runtime.errors import MissingDependency
from edgekit_runtime.processors.audio import AudioProcessor
from edgekit_runtime.processors.audio_settings import WAVEFORM, AudioSettings
from edgekit_runtime.processors.base import Audio

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from edgekit_runtime.session import Array

#: Rows and samples of the trace. No case has this shape.
TRACE_ROWS, TRACE_SAMPLES = 3, 6_007
#: Samples of the checks whose length is not the shortest or the longest.
_ODD, _SHORT, _MIDDLE, _LONG = 7_411, 2_203, 5_003, 12_011
#: Goldens of spectrograms have one size, of a megabyte for Whisper: so many recordings, and two together.
_SPECTROGRAM_GOLDENS = 3
#: Shortest recordings that are tried, in units of what the model's convolutions see at once.
_TRIED = (1, 2, 4, 8)
#: What convolutions see at once where config.json does not say: 25 ms at 16 kHz.
_USUAL_FIELD = 400
#: What models raise for a length that they do not take.
_MISFITS = (RuntimeError, ValueError, IndexError, TypeError, AssertionError)


def audio_subject(loaded: Loaded, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
    """Write and prove the processor of a loaded model of recordings, and plan what to check."""
    _require_libraries()
    if loaded.pipeline:
        return _writing(loaded, options, processor_dir)
    hub = load_extractor(loaded.folder, options)
    vocabulary = ctc_vocabulary(loaded.folder, options) if loaded.task.answers == "transcript" else None
    fold_computed_weights(loaded.module)
    parameters = tuple(inspect.signature(loaded.model.forward).parameters)
    settings, bank = derive_settings(hub, parameters, options.max_length)
    wave = settings.features == WAVEFORM
    if wave:
        settings = dataclasses.replace(settings, shortest=_shortest(loaded, settings))
        _refuse_short_limit(settings)
    processor = travelling_audio(hub, settings, bank, vocabulary, processor_dir)
    planner = WaveformCases(processor, options.seed) if wave else SpectrogramCases(processor, options.seed)
    trace = planner.trace()
    _refuse_misfit(loaded, trace)
    axes = {0: "batch", 1: "samples"} if wave else {0: "batch"}
    ranges: dict[str, Range] = {"batch": (1, None), "samples": (settings.shortest, settings.longest)}
    return Subject(
        module=loaded.module,
        call=loaded.call,
        facts=loaded.facts(dict.fromkeys(processor.input_names, axes)),
        trace=trace,
        ranges={name: ranges[name] for name in axes.values()},
        outputs=loaded.outputs,
        cases=[*planner.checks(), *planner.goldens()],
        tracing=lambda: plain_attention(loaded.model),
    )


def _writing(loaded: Loaded, options: ExportOptions, processor_dir: Path) -> Assembly:
    """The same, of a model whose decoder writes what is said, token by token."""
    model: Any = loaded.model
    made = whisper(model, options)
    hub = load_extractor(loaded.folder, options)
    tokenizer, reading = transcriber(loaded.folder, options)
    parameters = tuple(inspect.signature(model.forward).parameters)
    settings, bank = derive_settings(hub, parameters, options.max_length)
    processor = travelling_audio(hub, settings, bank, reading, processor_dir)
    planner = SpectrogramCases(processor, options.seed)
    trace = planner.trace()
    encoder = dataclasses.replace(loaded, call=lambda feeds: {"states": model.get_encoder()(**feeds)[0]})
    _refuse_misfit(encoder, trace)
    cases = [*planner.checks(), *planner.goldens()]
    for case in cases:
        if case.golden:
            prove_reading(tokenizer, reading, prove_generation(model, made, _tensors(case.feeds)))
    axes = {name: {0: "batch"} for name in processor.input_names}
    source = Source(trace=trace, cases=cases, axes=axes, ranges={"batch": (1, None)})
    return encoder_decoder(loaded, source, made.generating, options)


def fold_computed_weights(module: torch.nn.Module) -> None:
    """Put the values of computed weights in the place of their formula.

    The positional convolution of wav2vec 2.0 divides its weight by a norm at every run. The values stay
    the same, bit by bit.
    """
    from torch.nn.utils import parametrize

    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            names = [name for name, _ in part.get_submodule("parametrizations").named_children()]
            for name in names:
                parametrize.remove_parametrizations(part, name, leave_parametrized=True)


class WaveformCases:
    """Shapes at which a model of waveforms is compared with its original, by synthetic sounds."""

    def __init__(self, processor: AudioProcessor, seed: int) -> None:
        self._processor = processor
        self._settings = processor.settings
        self._seed = seed

    def trace(self) -> dict[str, Array]:
        """What is traced: a batch that is no case."""
        return self._spoken([TRACE_SAMPLES] * TRACE_ROWS, seed=90)

    def checks(self) -> Iterator[Case]:
        """Batches of 1, 2 and 7; shortest, odd and longest; padded where the model takes a mask; random."""
        settings = self._settings
        hiss = noise(settings.shortest / settings.rate, settings.rate)
        yield Case(name="one recording, shortest", feeds=self._feeds([hiss]))
        yield Case(name="one recording, odd length", feeds=self._spoken([_ODD], seed=100))
        yield Case(name="two recordings of one length", feeds=self._spoken([_MIDDLE] * 2, seed=110))
        yield Case(name="seven recordings of one length", feeds=self._spoken([_SHORT] * 7, seed=120))
        if settings.masked:
            yield Case(name="two recordings, padded", feeds=self._spoken([_LONG, _SHORT], seed=130))
            lengths = [_SHORT, _LONG, _MIDDLE, _SHORT + 1, _ODD, settings.shortest, _MIDDLE + 7]
            yield Case(name="seven recordings, much padding", feeds=self._spoken(lengths, seed=140))
        yield Case(name="silence", feeds=self._feeds([silence(0.5, settings.rate)]))
        yield Case(name="two recordings of random numbers", feeds=self._random())
        yield Case(name="one recording, longest", feeds=self._spoken([settings.longest], seed=150))

    def goldens(self) -> Iterator[Case]:
        """Neutral sounds, each alone, recorded with the model; and two together where they can be padded."""
        settings = self._settings
        sounds = [self._fitting(samples) for samples in neutral(settings.rate)]
        for number, samples in enumerate(sounds, start=1):
            yield Case(name=f"sound {number}", feeds=self._feeds([samples]), golden=True)
        if settings.masked:
            yield Case(name="two sounds, padded", feeds=self._feeds(sounds[1:3]), golden=True)

    def _spoken(self, lengths: Sequence[int], seed: int) -> dict[str, Array]:
        rate = self._settings.rate
        return self._feeds([speech(length / rate, rate, seed + row) for row, length in enumerate(lengths)])

    def _random(self) -> dict[str, Array]:
        """Numbers that no recording gives: far louder, and without any shape."""
        feeds = self._spoken([_SHORT + 301] * 2, seed=160)
        name = self._processor.input_names[0]
        drawn = np.random.default_rng(self._seed).normal(0.0, 2.0, feeds[name].shape)
        return {**feeds, name: drawn.astype(np.float32)}

    def _feeds(self, sounds: Sequence[Array]) -> dict[str, Array]:
        rate = self._settings.rate
        return self._processor.feeds([Audio(self._fitting(samples), rate) for samples in sounds])

    def _fitting(self, samples: Array) -> Array:
        """Repeated up to the shortest that the model takes, cut to the longest."""
        times = math.ceil(self._settings.shortest / samples.size)
        return np.tile(samples, times)[: self._settings.longest]


class SpectrogramCases:
    """The same for a model of spectrograms, which all have one size."""

    def __init__(self, processor: AudioProcessor, seed: int) -> None:
        self._processor = processor
        self._rate = processor.settings.rate
        self._longest = processor.settings.longest
        self._seed = seed

    def trace(self) -> dict[str, Array]:
        """What is traced: a batch that is no case."""
        return self._spoken(TRACE_ROWS, seed=90)

    def checks(self) -> Iterator[Case]:
        """Batches of 1, 2 and 7; silence, a full length, random numbers."""
        yield Case(name="one recording", feeds=self._spoken(1, seed=100))
        yield Case(name="two recordings", feeds=self._spoken(2, seed=110))
        yield Case(name="seven recordings", feeds=self._spoken(7, seed=120))
        yield Case(name="silence", feeds=self._feeds([silence(0.5, self._rate)]))
        full = noise(self._longest / self._rate, self._rate)
        yield Case(name="one recording, longest", feeds=self._feeds([full]))
        feeds = self._spoken(2, seed=130)
        name, values = next(iter(feeds.items()))
        drawn = np.random.default_rng(self._seed).normal(0.0, 1.0, values.shape)
        yield Case(name="two recordings of random numbers", feeds={name: drawn.astype(np.float32)})

    def goldens(self) -> Iterator[Case]:
        """Neutral sounds, each alone, recorded with the model; and two together."""
        sounds = neutral(self._rate)
        for number, samples in enumerate(sounds[:_SPECTROGRAM_GOLDENS], start=1):
            yield Case(name=f"sound {number}", feeds=self._feeds([samples]), golden=True)
        yield Case(name="two sounds", feeds=self._feeds(sounds[-2:]), golden=True)

    def _spoken(self, rows: int, seed: int) -> dict[str, Array]:
        return self._feeds([speech(0.6 + 0.3 * row, self._rate, seed + row) for row in range(rows)])

    def _feeds(self, sounds: Sequence[Array]) -> dict[str, Array]:
        return self._processor.feeds([Audio(samples[: self._longest], self._rate) for samples in sounds])


def _require_libraries() -> None:
    for name in ("soundfile", "soxr"):
        try:
            __import__(name)
        except (ImportError, OSError) as problem:
            raise MissingDependency(
                f"exporting a model of recordings needs {name}: {problem}",
                hint="pip install 'edgekit-runtime[audio]'",
            ) from problem


def _shortest(loaded: Loaded, settings: AudioSettings) -> int:
    """Samples of the shortest recording that the model takes, found by trying."""
    config = getattr(loaded.model, "config", None)
    kernels, strides = getattr(config, "conv_kernel", None), getattr(config, "conv_stride", None)
    field = _USUAL_FIELD
    if (
        isinstance(kernels, list | tuple)
        and isinstance(strides, list | tuple)
        and len(kernels) == len(strides)
    ):
        field = 1
        for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
            field = (field - 1) * int(stride) + int(kernel)
    problem = ""
    for times in _TRIED:
        feeds = {name: np.zeros((1, times * field), dtype=np.float32) for name in settings.inputs[:1]}
        feeds |= {name: np.ones((1, times * field), dtype=np.int64) for name in settings.inputs[1:]}
        problem = _misfit(loaded, feeds)
        if not problem:
            return times * field
    raise SourceError(
        f"the model takes no recording of {_TRIED[-1] * field} samples: {problem}",
        hint="does it work in transformers?",
    )


def _refuse_short_limit(settings: AudioSettings) -> None:
    if settings.longest < settings.shortest:
        raise SourceError(
            f"max_length {settings.longest} is less than the {settings.shortest} samples the model needs",
            hint=f"it counts samples, {settings.rate} in a second",
        )


def _refuse_misfit(loaded: Loaded, feeds: Mapping[str, Array]) -> None:
    """An extractor of another model makes features of a size that this one does not take."""
    problem = _misfit(loaded, feeds)
    if problem:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
        raise SourceError(
            f"the model does not take what its feature extractor makes, {shapes}: {problem}",
            hint="is preprocessor_config.json the one that the model was trained with?",
        )


def _misfit(loaded: Loaded, feeds: Mapping[str, Array]) -> str:
    """Why the model does not run on these, "" when it does."""
    import torch

    try:
        with torch.inference_mode():
            loaded.call(_tensors(feeds))
    except _MISFITS as problem:
        return " ".join(str(problem).split())[:300] or type(problem).__name__
    return ""


def _tensors(feeds: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
