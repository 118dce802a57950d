"""What a model of speech writes token by token becomes text, and nothing that is said is cut in silence."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgekit_runtime.errors import InputError, MissingDependency, ProcessorError, SelfTestFailed
from edgekit_runtime.processors import load_processor
from edgekit_runtime.processors.audio import AudioProcessor, write_audio_processor
from edgekit_runtime.processors.audio_settings import AudioSettings
from edgekit_runtime.processors.audio_tokens import TextCase, Transcriber
from edgekit_runtime.processors.base import Audio
from edgekit_runtime.processors.spectrogram import Bank
from edgekit_runtime.processors.vocabulary import Vocabulary

RATE = 16_000
SECOND = AudioSettings(
    inputs=("input_features",), features="log-mel", rate=RATE, shortest=1, longest=RATE, hop=160
)
BANK = Bank(window=np.hanning(400), filters=np.ones((201, 4)), hop=160)
END, START, AN, APPLE = 0, 1, 2, 3
CASES = (TextCase(ids=(START, AN, APPLE, END), text=" an apple"), TextCase(ids=(), text=""))


def transcriber() -> Transcriber:
    from tokenizers import AddedToken, Tokenizer, decoders
    from tokenizers.models import BPE

    tokenizer = Tokenizer(BPE({"<end>": END, "<start>": START, "Ġan": AN, "Ġapple": APPLE}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<end>", "<start>")])
    return Transcriber(tokenizer, CASES)


def made(directory: Path) -> AudioProcessor:
    return write_audio_processor(directory, SECOND, bank=BANK, reading=transcriber())


def sound(seconds: float) -> Audio:
    return Audio(np.zeros(round(seconds * RATE), dtype=np.float32), RATE)


def test_tokens_become_text_without_special_and_unknown_ones(tmp_path: Path) -> None:
    processor = made(tmp_path)
    assert processor.decode([START, APPLE, AN, 99, END]) == " apple an"
    assert processor.decode([]) == processor.decode([START, END]) == ""


def test_a_directory_opens_as_it_was_written(tmp_path: Path) -> None:
    made(tmp_path)
    opened = load_processor(tmp_path)
    assert isinstance(opened, AudioProcessor)
    assert isinstance(opened.reading, Transcriber)
    assert opened.reading.parity == CASES
    assert opened.check_parity() == 2


def test_a_recording_longer_than_is_heard_is_refused_for_a_text_and_cut_for_a_class(tmp_path: Path) -> None:
    processor = made(tmp_path)
    assert processor.feeds([sound(1.0)])["input_features"].shape == (1, 4, 100)
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(3 * 8_000), 8_000)
    for row, seconds in ((sound(1.5), "1.5"), (path, "3.0")):
        with pytest.raises(
            InputError, match=rf"row 1 lasts {seconds} s, and this model hears 1\.0 s"
        ) as caught:
            processor.feeds([sound(0.5), row])
        assert "split it" in caught.value.hint
    classes = AudioProcessor(SECOND, bank=BANK)
    assert classes.feeds([sound(1.5)])["input_features"].shape == (1, 4, 100)


def test_a_recorded_text_that_is_not_met_fails_the_self_test(tmp_path: Path) -> None:
    made(tmp_path)
    path = tmp_path / "parity.json"
    path.write_text(path.read_text().replace(" an apple", " an orange"))
    with pytest.raises(SelfTestFailed, match=r"' an apple' instead of ' an orange'"):
        load_processor(tmp_path).check_parity()


def _ids(value: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        table: dict[str, Any] = json.loads((folder / "parity.json").read_text())
        table["cases"][0]["ids"] = value
        (folder / "parity.json").write_text(json.dumps(table))

    return change


def _two_readings(folder: Path) -> None:
    words = Vocabulary(tokens=("a",))
    write_audio_processor(folder / "other", SECOND, bank=BANK, reading=words)
    (folder / "other" / "vocabulary.json").rename(folder / "vocabulary.json")


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "half a tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text('{"model":'),
        "not a tokenizer",
    ),
    "negative ids": (_ids([-1]), "must hold token ids"),
    "ids that are words": (_ids(["an"]), "must hold token ids"),
    "two readings": (_two_readings, "a vocabulary and a tokenizer"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_directory_is_refused_by_file(what: str, tmp_path: Path) -> None:
    made(tmp_path)
    change, reason = DAMAGED[what]
    change(tmp_path)
    with pytest.raises(ProcessorError, match=reason):
        load_processor(tmp_path)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingDependency, match="tokenizers") as caught:
        load_processor(tmp_path)
    assert caught.value.hint
