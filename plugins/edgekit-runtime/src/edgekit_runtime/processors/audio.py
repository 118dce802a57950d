"""Recordings to a model's feeds: one channel, its rate, then the waveform or a spectrogram of it.

processor.json      what is done, see `audio_settings`
bank.safetensors    window and filters of a spectrogram, as the original has them
vocabulary.json     of a model with a CTC head, see `vocabulary`
tokenizer.json      of a model that writes token by token, see `audio_tokens`
parity.json         {"schema": 1, "cases": [{"file", "shape", "sum", "places", "values"}]}, files beside it

numpy, soundfile and soxr do it; no transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from edgekit_runtime.errors import InputError, ProcessorError, SelfTestFailed
from edgekit_runtime.processors.audio_settings import (
    FBANK,
    LOG_MEL,
    WAVEFORM,
    AudioSettings,
    read_bank,
    read_settings,
    settings_json,
    write_bank,
)
from edgekit_runtime.processors.audio_tokens import (
    TextCase,
    Transcriber,
    read_text_case,
    read_transcriber,
    text_case_json,
)
from edgekit_runtime.processors.base import (
    PROCESSOR_FILE,
    Audio,
    AudioContext,
    Prepared,
    Row,
)
from edgekit_runtime.processors.parity import read_cases, write_cases
from edgekit_runtime.processors.recordings import at_rate, hear
from edgekit_runtime.processors.spectrogram import Bank, fbank, log_mel
from edgekit_runtime.processors.vocabulary import Vocabulary, read_vocabulary, write_vocabulary
from edgekit_runtime.session import Array
from edgekit_runtime.strictjson import Fields, dump_json, number

#: Values of a parity case that are recorded one by one.
SAMPLES = 256
#: By how much a value may differ on another machine. Features are about 1 in size. A transform in float32 is
#: up to 7e-5 away; soxr at its next lower quality 6e-3 of a waveform, straight lines between samples 0.3.
PARITY_TOLERANCE = 1e-3
#: What keeps the division finite where all is silent, in transformers' normalization of waveforms.
_LEAST_VARIANCE = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundCase:
    """What the original makes of a file. shape: of the first input, a batch of one; sum: of all its values;
    places: of `values` in it, flattened."""

    file: str
    shape: tuple[int, ...]
    sum: float
    places: tuple[int, ...]
    values: tuple[float, ...]


class AudioProcessor:
    """Reading, resampling and features with fixed settings. Not for use by several threads at once."""

    kind = "audio"

    def __init__(
        self,
        settings: AudioSettings,
        *,
        bank: Bank | None = None,
        reading: Vocabulary | Transcriber | None = None,
        parity: Sequence[SoundCase] = (),
        folder: Path = Path(),
    ) -> None:
        self.settings = settings
        self.reading = reading
        self.parity = tuple(parity)
        self._bank = bank
        self._folder = folder

    @property
    def input_names(self) -> tuple[str, ...]:
        """The model inputs that `feeds` makes."""
        return self.settings.inputs

    def prepare(self, rows: Sequence[Row], *, pad_to: int | None = None) -> Prepared:
        """One batch of float32: a waveform [rows, samples], log-mel [rows, bands, frames], or a filter bank
        [rows, frames, bands]; the mask is int64 [rows, samples].

        A row is the path of a recording, or an `Audio`. Spectrograms always have one length: the rest is
        padded. What is too long is cut, as the model's own extractor does; where the answer is a text it is
        refused, since a text would end in the middle. Waveforms are padded to the longest, or to exactly
        `pad_to` samples, if the model takes a mask; longer ones than it hears are refused.
        """
        if isinstance(rows, str | Path | Audio):
            raise InputError("rows must be a list of recordings, found one", hint="put it in a list: [path]")
        if not rows:
            raise InputError("there are no rows to make feeds of")
        self._check_length(pad_to)
        pairs = [self._hear(row, f"row {index}", pad_to) for index, row in enumerate(rows)]
        samples = [one for one, _ in pairs]
        contexts = tuple(AudioContext(seconds=seconds) for _, seconds in pairs)
        if self.settings.features == WAVEFORM:
            return Prepared(feeds=self._waveforms(samples, pad_to), contexts=contexts)
        spectrograms = np.stack([self._spectrogram(one) for one in samples])
        return Prepared(feeds={self.settings.inputs[0]: spectrograms}, contexts=contexts)

    def feeds(self, rows: Sequence[Row], *, pad_to: int | None = None) -> dict[str, Array]:
        """The feeds of `prepare`."""
        return self.prepare(rows, pad_to=pad_to).feeds

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the tokens that a model wrote, or of its symbols whose repetitions are merged already.

        Special ones are left out. Raises `InputError` when the model writes no text.
        """
        if self.reading is None:
            raise InputError(
                "this model has no vocabulary", hint="only models of speech recognition have one"
            )
        return self.reading.decode(ids)

    def check_parity(self) -> int:
        """Hear the recorded files, and read the recorded tokens again.

        Raises `SelfTestFailed` for the first that comes out differently.
        """
        for case in self.parity:
            path = self._folder / case.file
            if not path.is_file():
                raise ProcessorError(f"{path} is missing", hint="export the model again")
            problem = _difference(self.feeds([path])[self.settings.inputs[0]], case)
            if problem:
                raise SelfTestFailed(
                    f"parity case {case.file}: {problem}",
                    hint="the installed numpy, soundfile or soxr hears differently; install other versions",
                )
        texts = self.reading.check_parity() if isinstance(self.reading, Transcriber) else 0
        return len(self.parity) + texts

    def _check_length(self, pad_to: int | None) -> None:
        settings = self.settings
        if pad_to is None:
            return
        if settings.features != WAVEFORM:
            raise InputError(f"spectrograms of this model have one length and are not padded to {pad_to}")
        if not settings.shortest <= pad_to <= settings.longest:
            raise InputError(
                f"recordings cannot be padded to {pad_to} samples: this model takes"
                f" {settings.shortest} to {settings.longest}"
            )

    def _hear(self, row: object, where: str, pad_to: int | None) -> tuple[Array, float]:
        """Samples at the model's rate, none beyond the longest; and how long the whole recording is."""
        settings = self.settings
        most = settings.longest / settings.rate
        recording = hear(row, most_seconds=most, where=where)
        wave = settings.features == WAVEFORM
        # Half a sample: resampled, a recording of exactly the longest is at most rounded up to it.
        if (wave or self.reading is not None) and recording.seconds > most + 0.5 / settings.rate:
            longer = "; a longer limit is set by --max-length when exporting" if wave else ""
            raise InputError(
                f"{where} lasts {recording.seconds:.1f} s, and this model hears {most:.1f} s at most",
                hint=f"split it where nothing is said, and run the parts{longer}",
            )
        samples = at_rate(recording, settings.rate)[: settings.longest if pad_to is None else pad_to]
        if samples.size < settings.shortest:
            raise InputError(
                f"{where} lasts {recording.seconds:.4f} s, and this model needs"
                f" {settings.shortest / settings.rate:.4f} s",
                hint="leave recordings as short as this out",
            )
        return samples, recording.seconds

    def _waveforms(self, samples: Sequence[Array], pad_to: int | None) -> dict[str, Array]:
        settings = self.settings
        width = max(one.size for one in samples) if pad_to is None else pad_to
        if not settings.masked and any(one.size != width for one in samples):
            raise InputError(
                f"recordings of {min(one.size for one in samples)} samples cannot be padded to {width}:"
                " this model takes no mask, so that padding would change its answers",
                hint="run them one by one, each at its own length",
            )
        values = np.full((len(samples), width), settings.padding_value, dtype=np.float32)
        mask = np.zeros((len(samples), width), dtype=np.int64)
        for index, one in enumerate(samples):
            values[index, : one.size] = _normalized(one) if settings.normalize else one
            mask[index, : one.size] = 1
        return dict(zip(settings.inputs, (values, mask), strict=False))

    def _spectrogram(self, samples: Array) -> Array:
        settings, bank = self.settings, self._bank
        if bank is None:
            raise ProcessorError(
                f"{settings.features} needs a window and filters", hint="export the model again"
            )
        if settings.features == LOG_MEL:
            rest = settings.longest - samples.size
            return log_mel(np.pad(samples, (0, rest), constant_values=settings.padding_value), bank)
        frames = (settings.longest - bank.window.size) // bank.hop + 1
        levels = fbank(samples, bank)
        values = np.pad(levels, ((0, frames - len(levels)), (0, 0)))
        if settings.mean is None or settings.std is None:
            return values
        normalized: Array = (values - np.float32(settings.mean)) / np.float32(settings.std * 2)
        return normalized


def sound_case(file: str, values: Array) -> SoundCase:
    """What to record of the features `values` that the original made of a file."""
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    # Where a spectrogram is padded all values are alike, and a sample of them says nothing.
    telling = np.flatnonzero(flat != flat[-1])
    spread = telling if telling.size else np.arange(flat.size)
    places = spread[np.linspace(0, spread.size - 1, min(SAMPLES, spread.size)).astype(np.int64)]
    return SoundCase(
        file=file,
        shape=tuple(values.shape),
        sum=float(flat.sum()),
        places=tuple(places.tolist()),
        values=tuple(round(float(value), 6) for value in flat[places]),
    )


def load_audio(directory: Path) -> AudioProcessor:
    """Open an audio processor. Raises `ProcessorError`, or `MissingDependency` for a tokenizer without
    `tokenizers`; libraries of sound are looked for when a row is read."""
    settings = read_settings(directory)
    bank = None if settings.features == WAVEFORM else read_bank(directory, settings.hop)
    if bank is not None:
        _check_bank(bank, settings, directory)
    cases = read_cases(directory, _read_case)
    texts = [case for case in cases if isinstance(case, TextCase)]
    return AudioProcessor(
        settings,
        bank=bank,
        reading=_read_reading(directory, texts),
        parity=[case for case in cases if isinstance(case, SoundCase)],
        folder=directory,
    )


def write_audio_processor(
    directory: Path,
    settings: AudioSettings,
    *,
    bank: Bank | None = None,
    reading: Vocabulary | Transcriber | None = None,
    parity: Sequence[SoundCase] = (),
    files: Mapping[str, bytes] | None = None,
) -> AudioProcessor:
    """Write a processor directory (made when missing) and open it as a device would.

    files: content of those that the parity cases name.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / PROCESSOR_FILE).write_bytes(dump_json(settings_json(settings)))
    if bank is not None:
        write_bank(directory, bank)
    if isinstance(reading, Vocabulary):
        write_vocabulary(directory, reading)
    elif reading is not None:
        reading.write(directory)
    for name, content in (files or {}).items():
        (directory / name).write_bytes(content)
    keys = ("file", "shape", "sum", "places", "values")
    cases = [{key: _plain(getattr(case, key)) for key in keys} for case in parity]
    texts = reading.parity if isinstance(reading, Transcriber) else ()
    write_cases(directory, [*cases, *map(text_case_json, texts)])
    return load_audio(directory)


def _normalized(samples: Array) -> Array:
    """Mean 0 and variance 1; silence stays silent."""
    values: Array = (samples - samples.mean()) / np.sqrt(samples.var() + _LEAST_VARIANCE)
    return values


def _read_reading(directory: Path, texts: Sequence[TextCase]) -> Vocabulary | Transcriber | None:
    vocabulary, transcriber = read_vocabulary(directory), read_transcriber(directory, texts)
    if vocabulary is not None and transcriber is not None:
        raise ProcessorError(
            f"{directory} has a vocabulary and a tokenizer, and a model writes in one way",
            hint="export the model again",
        )
    return vocabulary or transcriber


def _check_bank(bank: Bank, settings: AudioSettings, directory: Path) -> None:
    """Lengths that no spectrogram could be made of are found on opening, not at the first row."""
    frame = bank.window.size
    short = settings.features == FBANK and settings.shortest < frame
    if short or settings.longest < frame:
        raise ProcessorError(
            f"{directory}: recordings of {settings.shortest} to {settings.longest} samples do not fill"
            f" a frame of {frame}",
            hint="export the model again",
        )


# --- parity -------------------------------------------------------------------------------------------


def _difference(found: Array, case: SoundCase) -> str:
    """What is wrong, "" when nothing is."""
    if found.shape != case.shape:
        return f"shape {list(found.shape)} instead of {list(case.shape)}"
    flat = found.astype(np.float64).reshape(-1)
    places, wanted = np.array(case.places, dtype=np.int64), np.array(case.values)
    errors = np.abs(flat[places] - wanted)
    worst = int(errors.argmax())
    if errors[worst] > PARITY_TOLERANCE:
        return f"value {places[worst]} is {flat[places[worst]]:.6f} instead of {wanted[worst]:.6f}"
    if math.fabs(flat.sum() - case.sum) > PARITY_TOLERANCE * flat.size:
        return f"the values add up to {flat.sum():.3f} instead of {case.sum:.3f}"
    return ""


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _read_case(item: object, where: str) -> SoundCase | TextCase:
    if isinstance(item, dict) and "ids" in item:
        return read_text_case(item, where)
    known = ("file", "shape", "sum", "places", "values")
    fields = Fields(item, known=known, where=where, error=ProcessorError)
    file = fields.text("file")
    if not file or PurePath(file).name != file or "\\" in file:
        raise ProcessorError(f"{fields.where('file')}: {file!r} is not a file beside it")
    shape, places = _sizes(fields, "shape"), _sizes(fields, "places")
    values = tuple(
        number(one, fields.where("values"), error=ProcessorError) for one in fields.items("values")
    )
    if not places or len(values) != len(places) or max(places) >= math.prod(shape):
        raise ProcessorError(f"{where}: places, values and shape do not fit each other")
    return SoundCase(
        file=file,
        shape=shape,
        sum=number(fields.raw("sum"), fields.where("sum"), error=ProcessorError),
        places=places,
        values=values,
    )


def _sizes(fields: Fields, key: str) -> tuple[int, ...]:
    values = fields.items(key)
    sizes = tuple(item for item in values if type(item) is int and item >= 0)
    if len(sizes) != len(values):
        raise ProcessorError(f"{fields.where(key)} must hold whole numbers")
    return sizes
