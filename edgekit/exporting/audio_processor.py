"""The audio processor that travels with the model, proven to hear recordings as transformers does.

transformers' extractors take samples at one rate and do not resample. What is proven, file by file, is
the whole way: `transformers.audio_utils.load_audio` (soundfile, the mean of the channels, soxr at its
quality HQ, as librosa.load does it), then the folder's own extractor. Decoders and resamplers other than
these, as torchcodec's or torchaudio's, give other samples.
"""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgekit.errors import ExportWrong, SourceError
from edgekit.exporting.loading import explained
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.quiet import quiet_libraries
from edgekit.exporting.sounds import Sound, chirp, travelling, tricky
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.processors.audio import AudioProcessor, sound_case, write_audio_processor
from edgekit_runtime.processors.audio_settings import FBANK, LOG_MEL, MASK, WAVEFORM, AudioSettings
from edgekit_runtime.processors.audio_tokens import Transcriber
from edgekit_runtime.processors.recordings import at_rate, hear
from edgekit_runtime.processors.spectrogram import Bank
from edgekit_runtime.processors.vocabulary import Vocabulary

if TYPE_CHECKING:
    from edgekit_runtime.session import Array

#: How long a waveform may be when nobody says: models of speech are trained on less.
WAVEFORM_SECONDS = 30
#: By how much two right features differ. Waveforms come out the same, and filter banks but for 1.2e-7.
#: For Whisper transformers transforms in float32: up to 7.3e-5 away on the recordings in `sounds`, where its
#: own form in numpy is 1.2e-7 away. Where torchaudio is installed, filter banks are made in float32 too.
_ROUNDING = {WAVEFORM: 1e-6, LOG_MEL: 5e-4, FBANK: 1e-6}
_TORCHAUDIO_ROUNDING = 2e-2
#: What transformers raises for a recording that it cannot take.
_REFUSALS = (ValueError, TypeError, IndexError, RuntimeError, OSError)
#: Of Kaldi's filter banks, as ASTFeatureExtractor has them in its code.
_FBANK_FRAME, _FBANK_HOP, _FBANK_FREQUENCIES, _FBANK_LOWEST = 400, 160, 257, 20


class HubExtractor(Protocol):
    """What is used of every transformers feature extractor."""

    sampling_rate: int
    feature_size: int
    padding_value: float
    padding_side: str
    return_attention_mask: bool
    model_input_names: list[str]

    def __call__(
        self, raw_speech: list[Array], *, sampling_rate: int, return_tensors: str, **more: bool
    ) -> Mapping[str, Array]: ...


def load_extractor(folder: Path, options: ExportOptions) -> HubExtractor:
    """The folder's feature extractor."""
    with explained(folder, "feature extractor"), quiet_libraries():
        from transformers import AutoFeatureExtractor

        extractor: HubExtractor = AutoFeatureExtractor.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=options.trust_remote_code
        )
    return extractor


def derive_settings(
    hub: HubExtractor, parameters: Sequence[str], max_length: int | None
) -> tuple[AudioSettings, Bank | None]:
    """What the attributes of a transformers extractor say. parameters: of the model's forward.

    max_length: samples that a waveform may have. Raises SourceError for what no processor here does.
    """
    name = type(hub).__name__
    if name not in _DERIVE:
        raise SourceError(
            f"the feature extractor {name} is not known here",
            hint=f"known: {', '.join(_DERIVE)}; export the model as a torch module",
        )
    if hub.model_input_names[0] not in parameters:
        raise SourceError(
            f"the {name} makes {hub.model_input_names[0]!r}, which the model does not take",
            hint="is it the extractor that the model was trained with?",
        )
    if hub.padding_side != "right":
        raise SourceError(f"the {name} pads on the {hub.padding_side}", hint="set its padding_side to right")
    settings, bank = _DERIVE[name](hub)
    if settings.features == WAVEFORM:
        mask = (MASK,) if hub.return_attention_mask and MASK in parameters else ()
        longest = max_length or settings.longest
        return dataclasses.replace(settings, inputs=(*settings.inputs, *mask), longest=longest), None
    if max_length is not None:
        raise SourceError(
            f"max_length {max_length}: the {name} always makes {settings.longest} samples",
            hint="leave --max-length out",
        )
    return settings, bank


def travelling_audio(
    hub: HubExtractor,
    settings: AudioSettings,
    bank: Bank | None,
    reading: Vocabulary | Transcriber | None,
    directory: Path,
) -> AudioProcessor:
    """Write `directory` and prove it. Raises ExportWrong at the first value that comes out differently."""
    prover = _Prover(hub, AudioProcessor(settings, bank=bank, reading=reading))
    cases, files = [], {}
    try:
        with tempfile.TemporaryDirectory(prefix="edgekit-sounds-") as folder, quiet_libraries():
            for sound in _sounds(settings, cut=reading is None):
                prover.alone(sound, _written(sound, Path(folder)))
            small = [(sound, _written(sound, Path(folder))) for sound in travelling()]
            for sound, path in small:
                files[sound.name] = sound.wav()
                cases.append(sound_case(sound.name, prover.alone(sound, path)))
            prover.together([path for _, path in small])
        return write_audio_processor(
            directory, settings, bank=bank, reading=reading, parity=cases, files=files
        )
    except EdgekitError as problem:
        if isinstance(problem, ExportWrong | SourceError):
            raise
        raise ExportWrong(
            f"recordings are not heard on a device as they are here: {problem.message}",
            hint="please report it with the folder's preprocessor_config.json",
        ) from problem


class _Prover:
    """The same recordings through both, and the first difference."""

    def __init__(self, hub: HubExtractor, processor: AudioProcessor) -> None:
        self._hub = hub
        self._processor = processor
        features = processor.settings.features
        exact = features != FBANK or hasattr(hub, "mel_filters")
        self._rounding = _ROUNDING[features] if exact else _TORCHAUDIO_ROUNDING

    def alone(self, sound: Sound, path: Path) -> Array:
        """One recording; what the original makes of it."""
        expected = self._original([path], sound.name)
        self._compare(expected, self._processor.feeds([path]), f"the recording {sound.name!r}")
        return expected[self._processor.input_names[0]]

    def together(self, paths: Sequence[Path]) -> None:
        """A batch: padded where the model is told of it or expects it, else of one recording twice."""
        settings = self._processor.settings
        rows = list(paths) if settings.masked or settings.features != WAVEFORM else [paths[0]] * 2
        what = f"a batch of {len(rows)} recordings"
        self._compare(self._original(rows, what), self._processor.feeds(rows), what)

    def _original(self, paths: Sequence[Path], what: str) -> Mapping[str, Array]:
        settings = self._processor.settings
        more = {}
        if settings.features == WAVEFORM:
            more = {"padding": True, "return_attention_mask": settings.masked}
        try:
            samples = [_heard(path, settings) for path in paths]
            return self._hub(samples, sampling_rate=settings.rate, return_tensors="np", **more)
        except _REFUSALS as problem:
            raise SourceError(
                f"transformers itself cannot take {what}: {' '.join(str(problem).split())[:300]}",
                hint="is preprocessor_config.json the one that the model was trained with?",
            ) from problem

    def _compare(self, expected: Mapping[str, Array], got: Mapping[str, Array], what: str) -> None:
        for name, array in got.items():
            wanted = np.asarray(expected[name])
            if wanted.shape != array.shape:
                problem = f"its shape is {list(array.shape)} instead of {list(wanted.shape)}"
            else:
                errors = np.abs(wanted.astype(np.float64) - array)
                worst = np.unravel_index(int(errors.argmax()), errors.shape)
                if errors[worst] <= self._rounding:
                    continue
                at = [int(place) for place in worst]
                problem = f"at {at} it is {array[worst]:.6g} instead of {wanted[worst]:.6g}"
            raise ExportWrong(
                f"the processor that would travel hears {what} differently from transformers:"
                f" {name}: {problem}",
                hint="please report it with the folder's preprocessor_config.json",
            )


def _sounds(settings: AudioSettings, *, cut: bool) -> Iterator[Sound]:
    """cut: whether spectrograms of longer recordings are cut, not refused as waveforms always are."""
    yield from tricky(settings.rate, settings.shortest, settings.longest)
    if settings.features != WAVEFORM and cut:
        long = chirp(settings.longest / settings.rate + 1.7, 8_000)
        yield Sound(name="longer than the longest", samples=long[:, np.newaxis], rate=8_000)


def _written(sound: Sound, folder: Path) -> Path:
    path = folder / f"{sound.name}.wav"
    path.write_bytes(sound.wav())
    return path


def _heard(path: Path, settings: AudioSettings) -> Array:
    """The file as transformers reads it, or with versions that leave it to librosa as the processor does."""
    from transformers.audio_utils import load_audio

    if "backend" in inspect.signature(load_audio).parameters:
        heard: Array = load_audio(str(path), sampling_rate=settings.rate, backend="soundfile")
        return heard
    return at_rate(hear(path, most_seconds=1e6, where=path.name), settings.rate)


# --- one function for each class of extractor ---------------------------------------------------------


def _waveform(hub: HubExtractor) -> tuple[AudioSettings, None]:
    if hub.feature_size != 1:
        raise SourceError(
            f"the extractor's feature_size is {hub.feature_size}, and a waveform has one",
            hint="set it to 1 in preprocessor_config.json",
        )
    settings = AudioSettings(
        inputs=(hub.model_input_names[0],),
        features=WAVEFORM,
        rate=hub.sampling_rate,
        shortest=1,
        longest=WAVEFORM_SECONDS * hub.sampling_rate,
        padding_value=float(hub.padding_value),
        normalize=bool(getattr(hub, "do_normalize", False)),
    )
    return settings, None


def _log_mel(hub: HubExtractor) -> tuple[AudioSettings, Bank]:
    from transformers.audio_utils import window_function

    frame, hop = _whole(hub, "n_fft"), _whole(hub, "hop_length")
    if frame % 2 or bool(getattr(hub, "dither", None)):
        raise SourceError(
            "an odd n_fft, or noise that is added to every recording (dither), is not supported",
            hint="set dither to 0 in preprocessor_config.json: only training needs it",
        )
    settings = AudioSettings(
        inputs=(hub.model_input_names[0],),
        features=LOG_MEL,
        rate=hub.sampling_rate,
        shortest=1,
        longest=_whole(hub, "n_samples"),
        padding_value=float(hub.padding_value),
        hop=hop,
    )
    return settings, _bank(window_function(frame, "hann"), getattr(hub, "mel_filters", None), hop)


def _fbank(hub: HubExtractor) -> tuple[AudioSettings, Bank]:
    from transformers.audio_utils import mel_filter_bank, window_function

    normalize = bool(getattr(hub, "do_normalize", False))
    settings = AudioSettings(
        inputs=(hub.model_input_names[0],),
        features=FBANK,
        rate=hub.sampling_rate,
        shortest=_FBANK_FRAME,
        longest=_FBANK_FRAME + (_whole(hub, "max_length") - 1) * _FBANK_HOP,
        hop=_FBANK_HOP,
        mean=float(getattr(hub, "mean", 0.0)) if normalize else None,
        std=float(getattr(hub, "std", 1.0)) if normalize else None,
    )
    filters = getattr(hub, "mel_filters", None)
    if filters is None:  # torchaudio is installed, and makes its own
        filters = mel_filter_bank(
            num_frequency_bins=_FBANK_FREQUENCIES,
            num_mel_filters=_whole(hub, "num_mel_bins"),
            min_frequency=_FBANK_LOWEST,
            max_frequency=hub.sampling_rate // 2,
            sampling_rate=hub.sampling_rate,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
    return settings, _bank(window_function(_FBANK_FRAME, "hann", periodic=False), filters, _FBANK_HOP)


_DERIVE = {
    "Wav2Vec2FeatureExtractor": _waveform,
    "WhisperFeatureExtractor": _log_mel,
    "ASTFeatureExtractor": _fbank,
}


def _bank(window: object, filters: object, hop: int) -> Bank:
    return Bank(
        window=np.ascontiguousarray(window, dtype=np.float64),
        filters=np.ascontiguousarray(filters, dtype=np.float64),
        hop=hop,
    )


def _whole(hub: HubExtractor, name: str) -> int:
    value = getattr(hub, name, None)
    if not isinstance(value, int) or value < 1:
        raise SourceError(
            f"the {type(hub).__name__} has {name} {value!r}, which must be a whole number",
            hint="get preprocessor_config.json again",
        )
    return value
