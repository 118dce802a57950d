"""Recordings become the features a model was trained on, whatever file they come in."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit_runtime.errors import InputError, MissingDependency, ProcessorError, SelfTestFailed
from edgekit_runtime.processors import Processor, load_processor
from edgekit_runtime.processors.audio import (
    PARITY_TOLERANCE,
    AudioProcessor,
    SoundCase,
    sound_case,
    write_audio_processor,
)
from edgekit_runtime.processors.audio_settings import AudioSettings
from edgekit_runtime.processors.base import Audio, AudioContext
from edgekit_runtime.processors.spectrogram import Bank, fbank, log_mel
from edgekit_runtime.processors.vocabulary import Vocabulary

RATE = 16_000
PLAIN = AudioSettings(
    inputs=("input_values",), features="waveform", rate=RATE, shortest=400, longest=2 * RATE
)
MASKED = replace(PLAIN, inputs=("input_values", "attention_mask"), normalize=True)
LOG_MEL = AudioSettings(
    inputs=("input_features",), features="log-mel", rate=RATE, shortest=1, longest=RATE, hop=160
)
FBANK = AudioSettings(
    inputs=("input_values",),
    features="fbank",
    rate=RATE,
    shortest=400,
    longest=400 + 49 * 160,
    hop=160,
    mean=-4.0,
    std=4.5,
)
WORDS = Vocabulary(tokens=(None, " ", "A", "B", None, "'"))


def bank(hop: int = 160) -> Bank:
    """Eight triangles over the frequencies of a frame of 400."""
    random = np.random.default_rng(0)
    return Bank(window=np.hanning(400), filters=random.uniform(0.0, 1.0, (201, 8)), hop=hop)


def tone(hertz: float, seconds: float, rate: int) -> Any:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, samples: Any, rate: int = RATE, **more: str) -> Path:
    soundfile.write(path, samples, rate, **more)
    return path


def values(processor: AudioProcessor, *rows: Any, pad_to: int | None = None) -> Any:
    return processor.feeds(list(rows), pad_to=pad_to)[processor.input_names[0]]


# --- what is heard ------------------------------------------------------------------------------------


def test_a_file_and_its_samples_in_memory_are_heard_alike(tmp_path: Path) -> None:
    samples = tone(440, 0.5, RATE)
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    processor = AudioProcessor(PLAIN)
    assert np.array_equal(values(processor, path), values(processor, Audio(samples, RATE)))
    assert np.array_equal(values(processor, str(path)), samples[None])


def test_lossless_formats_give_the_same_samples_and_ogg_nearly(tmp_path: Path) -> None:
    samples = (32_000 * tone(440, 0.5, RATE)).astype(np.int16)
    processor = AudioProcessor(PLAIN)
    wav = values(processor, write(tmp_path / "a.wav", samples))
    assert np.array_equal(wav, values(processor, write(tmp_path / "a.flac", samples)))
    ogg = values(processor, write(tmp_path / "a.ogg", samples))
    assert ogg.shape == wav.shape
    assert 0 < np.abs(ogg - wav).mean() < 0.02


def test_channels_are_mixed_by_their_mean(tmp_path: Path) -> None:
    left, right = tone(440, 0.3, RATE), tone(1000, 0.3, RATE)
    stereo = write(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    assert np.allclose(values(AudioProcessor(PLAIN), stereo)[0], (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled_to_the_models(rate: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1000, 0.5, rate), rate, subtype="FLOAT")
    heard = values(AudioProcessor(PLAIN), path)[0]
    assert heard.size == math.ceil(round(0.5 * rate) * RATE / rate)
    inner = slice(800, -800)  # at the ends the filter sees what is not there
    assert np.allclose(heard[inner], tone(1000, 0.5, RATE)[: heard.size][inner], atol=1e-3)


def test_what_the_models_rate_cannot_carry_is_filtered_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(15_000, 0.5, 48_000), 48_000, subtype="FLOAT")
    assert np.abs(values(AudioProcessor(PLAIN), path)[0][800:-800]).max() < 1e-3


def test_a_context_tells_how_long_the_whole_recording_is(tmp_path: Path) -> None:
    rows: list[Any] = [
        write(tmp_path / "a.wav", tone(440, 2.5, 8_000), 8_000),
        Audio(tone(440, 0.25, RATE), RATE),
    ]
    processor = AudioProcessor(LOG_MEL, bank=bank())
    assert processor.prepare(rows).contexts == (AudioContext(seconds=2.5), AudioContext(seconds=0.25))


# --- waveforms ----------------------------------------------------------------------------------------


def test_a_normalized_waveform_has_mean_0_and_variance_1() -> None:
    heard = values(AudioProcessor(replace(PLAIN, normalize=True)), Audio(0.1 + tone(440, 1, RATE), RATE))
    assert heard.dtype == np.float32
    assert abs(heard.mean()) < 1e-5
    assert abs(heard.var() - 1) < 1e-4


def test_silence_stays_silent() -> None:
    silent = Audio(np.zeros(1000, dtype=np.float32), RATE)
    assert not values(AudioProcessor(MASKED), silent).any()


def test_a_batch_is_padded_with_a_mask_and_each_row_normalized_by_itself() -> None:
    long, short = Audio(tone(440, 0.5, RATE), RATE), Audio(3 * tone(900, 0.2, RATE), RATE)
    feeds = AudioProcessor(MASKED).feeds([long, short])
    assert feeds["attention_mask"].dtype == np.int64
    assert feeds["attention_mask"].sum(axis=1).tolist() == [8000, 3200]
    assert not feeds["input_values"][1, 3200:].any()
    assert np.array_equal(feeds["input_values"][1, :3200], values(AudioProcessor(MASKED), short)[0])


def test_without_a_mask_different_lengths_make_no_batch() -> None:
    rows = [Audio(tone(440, seconds, RATE), RATE) for seconds in (0.5, 0.2)]
    with pytest.raises(InputError, match="no mask") as caught:
        AudioProcessor(PLAIN).feeds(rows)
    assert "one by one" in caught.value.hint
    assert AudioProcessor(PLAIN).feeds([rows[0], rows[0]])["input_values"].shape == (2, 8000)


def test_a_batch_can_be_padded_or_cut_to_a_given_length() -> None:
    row = Audio(tone(440, 0.5, RATE), RATE)
    padded = AudioProcessor(MASKED).feeds([row], pad_to=9000)
    assert padded["input_values"].shape == (1, 9000)
    assert padded["attention_mask"].sum() == 8000
    cut = values(AudioProcessor(PLAIN), row, pad_to=500)
    assert np.array_equal(cut[0], row.samples[:500])
    with pytest.raises(InputError, match="padding would change"):
        values(AudioProcessor(PLAIN), row, pad_to=9000)


@pytest.mark.parametrize("length", [399, 32_001])
def test_a_length_that_the_model_does_not_take_is_refused(length: int) -> None:
    with pytest.raises(InputError, match=f"padded to {length}.*400 to 32000"):
        values(AudioProcessor(MASKED), Audio(tone(440, 0.5, RATE), RATE), pad_to=length)


@pytest.mark.parametrize("rate", [8_000, RATE, 44_100])
def test_a_waveform_of_the_longest_is_taken_and_one_beyond_it_refused(rate: int, tmp_path: Path) -> None:
    processor = AudioProcessor(PLAIN)
    assert values(processor, write(tmp_path / "a.wav", tone(440, 2.0, rate), rate)).shape == (1, 2 * RATE)
    with pytest.raises(InputError, match=r"lasts 2\.1 s, and this model hears 2\.0 s") as caught:
        values(processor, write(tmp_path / "b.wav", tone(440, 2.1, rate), rate))
    assert "split" in caught.value.hint


# --- spectrograms -------------------------------------------------------------------------------------


def slow_power(samples: Any, one: Bank) -> Any:
    """Power of each frame, by the definition of the Fourier transform."""
    size = one.window.size
    frames = []
    for start in range(0, samples.size - size + 1, one.hop):
        frame = samples[start : start + size] * one.window
        turns = np.exp(-2j * np.pi * np.outer(np.arange(one.filters.shape[0]), np.arange(size)) / one.fft)
        frames.append(np.abs(turns @ frame) ** 2)
    return np.array(frames)


def test_log_mel_is_what_its_formula_says() -> None:
    random = np.random.default_rng(1)
    samples = random.uniform(-0.5, 0.5, 1600).astype(np.float32)
    one = bank()
    mirrored = np.concatenate([samples[200:0:-1], samples, samples[-2:-202:-1]]).astype(np.float64)
    levels = np.log10(np.maximum(slow_power(mirrored, one)[:-1] @ one.filters, 1e-10)).T
    wanted = (np.maximum(levels, levels.max() - 8) + 4) / 4
    got = log_mel(samples, one)
    assert got.shape == (8, 10)
    assert np.allclose(got, wanted, atol=1e-5)


def test_a_filter_bank_is_what_its_formula_says() -> None:
    random = np.random.default_rng(2)
    samples = (0.3 + random.uniform(-0.5, 0.5, 400)).astype(np.float32)
    one = bank()
    frame = samples.astype(np.float64) - samples.astype(np.float64).mean()
    raised = np.concatenate([[frame[0] * (1 - 0.97)], frame[1:] - 0.97 * frame[:-1]])
    wanted = np.log(np.maximum(slow_power(raised, one) @ one.filters, 1.192092955078125e-07))
    got = fbank(samples, one)
    assert got.shape == (1, 8)
    assert np.allclose(got, wanted, atol=1e-5)


def test_spectrograms_have_one_size_whatever_the_length() -> None:
    rows = [Audio(tone(440, seconds, RATE), RATE) for seconds in (0.1, 0.5, 3.0)]
    assert values(AudioProcessor(LOG_MEL, bank=bank()), *rows).shape == (3, 8, 100)
    assert values(AudioProcessor(FBANK, bank=bank()), *rows).shape == (3, 50, 8)


@pytest.mark.parametrize("chosen", [LOG_MEL, FBANK])
def test_what_is_beyond_the_length_of_a_spectrogram_is_cut(chosen: AudioSettings, tmp_path: Path) -> None:
    processor = AudioProcessor(chosen, bank=bank())
    samples = tone(440, 9.0, RATE)
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    cut = Audio(samples[: chosen.longest], RATE)
    assert np.array_equal(values(processor, path), values(processor, cut))


def test_a_filter_bank_is_normalized_with_its_padding() -> None:
    row = Audio(tone(440, 0.1, RATE), RATE)
    plain = values(AudioProcessor(replace(FBANK, mean=None, std=None), bank=bank()), row)
    assert not plain[0, -1].any()
    normalized = values(AudioProcessor(FBANK, bank=bank()), row)
    assert np.allclose(normalized, (plain + 4.0) / 9.0, atol=1e-6)


def test_a_spectrogram_is_not_padded_to_another_length() -> None:
    with pytest.raises(InputError, match="one length"):
        values(AudioProcessor(LOG_MEL, bank=bank()), Audio(tone(440, 0.1, RATE), RATE), pad_to=80)


# --- what cannot be heard -----------------------------------------------------------------------------


def _cut(path: Path, at: int = 0) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: at or len(content) // 2])
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _nan() -> Any:
    samples = tone(440, 0.5, RATE)
    samples[77] = np.nan
    return samples


BAD: dict[str, Callable[[Path], object]] = {
    "missing": lambda folder: folder / "missing.wav",
    "a folder": lambda folder: folder,
    "a pipe": lambda folder: _pipe(folder / "a.wav"),
    "a name with a zero in it": lambda folder: "a\0.wav",
    "empty": lambda folder: Path(str((folder / "a.wav").write_bytes(b"") or folder / "a.wav")),
    "a text file": lambda folder: Path(str((folder / "a.wav").write_text("hello") and folder / "a.wav")),
    "a raw file": lambda folder: Path(str((folder / "a.raw").write_bytes(bytes(999)) and folder / "a.raw")),
    "only a header": lambda folder: _header(write(folder / "a.wav", tone(440, 0.5, RATE))),
    "a WAV file cut off": lambda folder: _cut(write(folder / "a.wav", tone(440, 0.5, RATE))),
    "a FLAC file cut off": lambda folder: _cut(write(folder / "a.flac", noise())),
    "an OGG file cut off": lambda folder: _cut(write(folder / "a.ogg", noise())),
    "an OGG file with half its last page": lambda folder: _cut(write(folder / "a.ogg", noise()), at=-9),
    "an AIFF file cut off": lambda folder: _cut(write(folder / "a.aiff", noise())),
    "no samples": lambda folder: write(folder / "a.wav", np.zeros(0)),
    "not a number": lambda folder: write(folder / "a.wav", _nan(), subtype="FLOAT"),
    "infinite": lambda folder: Audio(np.full(999, np.inf, dtype=np.float32), RATE),
    "too short": lambda folder: write(folder / "a.wav", tone(440, 0.02, RATE)),
    "too long": lambda folder: write(folder / "a.wav", tone(440, 60, 8_000), 8_000),
    "few samples in a second": lambda folder: write(folder / "a.wav", tone(440, 2, 500), 500),
    "a hundred channels": lambda folder: write(folder / "a.wav", np.zeros((999, 100)), subtype="PCM_U8"),
    "two channels in memory": lambda folder: Audio(np.zeros((999, 2), dtype=np.float32), RATE),
    "whole numbers in memory": lambda folder: Audio(np.zeros(999, dtype=np.int16), RATE),
    "no rate": lambda folder: Audio(tone(440, 0.5, RATE), 0),
    "a pair of texts": lambda folder: ("a", "b"),
    "nothing": lambda folder: None,
}


def noise() -> Any:
    return np.random.default_rng(0).uniform(-0.5, 0.5, RATE)


def _header(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:20])
    return path


@pytest.mark.parametrize("what", BAD)
def test_a_row_that_cannot_be_heard_is_named_with_what_to_do(what: str, tmp_path: Path) -> None:
    good = Audio(tone(440, 0.5, RATE), RATE)
    row: Any = BAD[what](tmp_path)
    with pytest.raises(InputError, match=r"^row 1[ ,:]") as caught:
        AudioProcessor(MASKED).feeds([good, row])
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_stream_whose_header_knows_no_length_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(440, 0.5, RATE))
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(content))
    assert values(AudioProcessor(PLAIN), path).shape == (1, 8000)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("fuzz") / "a.wav", tone(440, 0.05, RATE)).read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4),
    size=st.integers(0, 1644),
)
def test_a_damaged_file_is_heard_or_refused_and_never_more(
    changes: list[tuple[int, int]], size: int, valid: bytes, tmp_path: Path
) -> None:
    content = bytearray(valid)
    for place, byte in changes:
        content[place] = byte
    path = tmp_path / "fuzz.wav"
    path.write_bytes(bytes(content[: max(size, 60)] if size % 2 else content))
    try:
        heard = values(AudioProcessor(PLAIN), path)
    except InputError as problem:
        assert "row 0" in problem.message
    else:
        assert np.isfinite(heard).all()
        assert 400 <= heard.shape[1] <= PLAIN.longest


@pytest.mark.parametrize("rows", ["a.wav", Path("a.wav"), Audio(tone(440, 0.5, RATE), RATE), []])
def test_rows_must_be_a_list_with_something_in_it(rows: Any) -> None:
    with pytest.raises(InputError, match="rows"):
        AudioProcessor(PLAIN).feeds(rows)


@pytest.mark.parametrize("library", ["soundfile", "soxr"])
def test_a_missing_library_is_named(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", tone(440, 0.5, 8_000), 8_000)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependency, match=library) as caught:
        values(AudioProcessor(PLAIN), path)
    assert "edgekit-runtime[audio]" in caught.value.hint


# --- the directory ------------------------------------------------------------------------------------


def made(directory: Path, chosen: AudioSettings = PLAIN) -> AudioProcessor:
    """A processor with one parity case."""
    one = None if chosen.features == "waveform" else bank()
    path = write(directory.parent / "p.wav", tone(440, 0.3, 8_000), 8_000)
    recorded = sound_case("p.wav", values(AudioProcessor(chosen, bank=one), path))
    return write_audio_processor(
        directory, chosen, bank=one, reading=WORDS, parity=[recorded], files={"p.wav": path.read_bytes()}
    )


@pytest.mark.parametrize("chosen", [PLAIN, MASKED, LOG_MEL, FBANK])
def test_a_directory_opens_as_it_was_written(chosen: AudioSettings, tmp_path: Path) -> None:
    made(tmp_path / "processor", chosen)
    opened = load_processor(tmp_path / "processor")
    assert isinstance(opened, AudioProcessor)
    assert isinstance(opened, Processor)
    assert opened.settings == chosen
    assert opened.reading == WORDS
    assert opened.input_names == chosen.inputs
    assert opened.check_parity() == 1


def test_opening_needs_no_library_of_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "processor")
    for library in ("soundfile", "soxr"):
        monkeypatch.setitem(sys.modules, library, None)
    assert load_processor(tmp_path / "processor").decode([2]) == "A"


def _change(path: Path, change: Callable[[Any], object]) -> None:
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


@pytest.mark.parametrize("chosen", [PLAIN, LOG_MEL, FBANK])
def test_a_recorded_value_that_is_not_met_fails_the_self_test(chosen: AudioSettings, tmp_path: Path) -> None:
    made(tmp_path / "processor", chosen)

    def change(table: Any) -> None:
        table["cases"][0]["values"][100] += 2 * PARITY_TOLERANCE

    _change(tmp_path / "processor" / "parity.json", change)
    with pytest.raises(SelfTestFailed, match=r"parity case p\.wav: value \d+ is"):
        load_processor(tmp_path / "processor").check_parity()


def test_another_way_to_resample_fails_the_self_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "processor")

    class Linear:
        """Straight lines between samples."""

        @staticmethod
        def resample(samples: Any, old: int, new: int, quality: str) -> Any:
            places = np.arange(math.ceil(samples.size * new / old)) * old / new
            return np.interp(places, np.arange(samples.size), samples).astype(np.float32)

    monkeypatch.setitem(sys.modules, "soxr", Linear)
    with pytest.raises(SelfTestFailed, match=r"p\.wav"):
        load_processor(tmp_path / "processor").check_parity()


def test_sampled_values_are_not_those_of_the_padding() -> None:
    values = np.zeros((1, 4, 100))
    values[0, 1, 3] = 1.0
    values[0, 2, 7] = 2.0
    assert sound_case("a.wav", values).places == (103, 207)


DAMAGE: dict[str, tuple[str, Callable[[Any], object]]] = {
    "an unknown key": ("processor.json", lambda table: table.update(extra=1)),
    "unknown features": ("processor.json", lambda table: table.update(features="mfcc")),
    "a mask without a waveform": ("processor.json", lambda table: table.update(inputs=["attention_mask"])),
    "another input": ("processor.json", lambda table: table.update(inputs=["input_ids"])),
    "no rate": ("processor.json", lambda table: table.update(rate=0)),
    "longest below shortest": ("processor.json", lambda table: table.update(longest=7)),
    "endless": ("processor.json", lambda table: table.update(longest=2**40)),
    "a text to pad with": ("processor.json", lambda table: table.update(padding_value="0")),
    "a number for a choice": ("processor.json", lambda table: table.update(normalize=1)),
    "another schema": ("processor.json", lambda table: table.update(schema=99)),
    "a file elsewhere": ("parity.json", lambda table: table["cases"][0].update(file="../p.wav")),
    "places beyond the shape": ("parity.json", lambda table: table["cases"][0].update(shape=[1, 2])),
    "values that are texts": ("parity.json", lambda table: table["cases"][0].update(values=["a"] * 256)),
    "no tokens": ("vocabulary.json", lambda table: table.update(tokens=[])),
    "tokens that are numbers": ("vocabulary.json", lambda table: table.update(tokens=[1, 2])),
    "a flag that is a text": ("vocabulary.json", lambda table: table.update(lower_case="no")),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_directory_is_refused_by_file(what: str, tmp_path: Path) -> None:
    made(tmp_path / "processor")
    file, change = DAMAGE[what]
    _change(tmp_path / "processor" / file, change)
    with pytest.raises(ProcessorError, match=file):
        load_processor(tmp_path / "processor")


@pytest.mark.parametrize("content", [None, b"no tensors", b""])
def test_a_damaged_bank_is_refused(content: bytes | None, tmp_path: Path) -> None:
    made(tmp_path / "processor", LOG_MEL)
    path = tmp_path / "processor" / "bank.safetensors"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ProcessorError, match=r"bank\.safetensors"):
        load_processor(tmp_path / "processor")


def test_settings_that_no_frame_fits_are_refused(tmp_path: Path) -> None:
    made(tmp_path / "processor", FBANK)
    _change(tmp_path / "processor" / "processor.json", lambda table: table.update(shortest=1))
    with pytest.raises(ProcessorError, match="frame of 400"):
        load_processor(tmp_path / "processor")


def test_a_parity_file_that_is_gone_is_told(tmp_path: Path) -> None:
    processor = made(tmp_path / "processor")
    (tmp_path / "processor" / "p.wav").unlink()
    with pytest.raises(ProcessorError, match=r"p\.wav is missing"):
        processor.check_parity()


# --- text ---------------------------------------------------------------------------------------------


def test_ids_become_text_without_blanks_and_special_tokens() -> None:
    processor = AudioProcessor(PLAIN, reading=WORDS)
    assert processor.decode([1, 2, 0, 2, 1, 3, 5, 4, 3, 1, 99, -1]) == "AA B'B"
    assert processor.decode([]) == processor.decode([0, 1, 0]) == ""


def test_lower_case_and_tidied_spaces_are_as_the_vocabulary_says() -> None:
    words = replace(WORDS, tokens=(None, " ", "A", "N'T", ".", "Σ"), lower_case=True, clean_up=True)
    assert words.decode([2, 1, 3, 1, 4]) == "an't."
    assert words.decode([2, 5]) == "aς"


def test_without_a_vocabulary_there_is_no_text() -> None:
    with pytest.raises(InputError, match="no vocabulary"):
        AudioProcessor(PLAIN).decode([1, 2])


def test_parity_values_are_kept_by_place() -> None:
    values = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    assert sound_case("a.wav", values) == SoundCase(
        file="a.wav", shape=(1, 2, 3), sum=15.0, places=(0, 1, 2, 3, 4), values=(0.0, 1.0, 2.0, 3.0, 4.0)
    )
