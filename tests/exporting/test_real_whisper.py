"""Whisper tiny.en as it was trained, exported and compiled, writes down what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile

from edgekit.exporting.quiet import kept_environment
from edgekit_runtime.processors import load_processor
from tests.conftest import CACHE, Edgekit
from tests.real_whisper import BECKETT, PARTS, beckett, plain, whisper_tiny_en

pytestmark = pytest.mark.slow

RATE = 16_000


@pytest.fixture(scope="module")
def folder() -> Path:
    return whisper_tiny_en(CACHE / "whisper-tiny.en", CACHE / "downloads")


@pytest.fixture(scope="module")
def model(folder: Path, edgekit: Edgekit) -> Path:
    done = edgekit("export", folder, "-o", CACHE / "whisper-model")
    assert done.returncode == 0, done.stderr
    return CACHE / "whisper-model"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """The whole, and each of its parts; what is said in each."""
    folder = tmp_path_factory.mktemp("recordings")
    whole = beckett(folder, CACHE / "downloads")
    samples, rate = soundfile.read(whole)
    assert rate == RATE
    said = {whole: BECKETT}
    for number, (start, end, text) in enumerate(PARTS):
        path = folder / f"part-{number}.wav"
        soundfile.write(path, samples[round(start * rate) : round(end * rate)], rate)
        said[path] = text
    return said


def as_transformers_writes(folder: Path, paths: list[Path]) -> list[str]:
    """By nothing but transformers, from the file on."""
    with kept_environment():
        import torch
        import transformers
        from transformers.audio_utils import load_audio

        original = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()
        extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        texts = []
        for path in paths:
            samples = load_audio(str(path), sampling_rate=RATE, backend="soundfile")
            feeds = extractor(samples, sampling_rate=RATE, return_tensors="pt")
            with torch.inference_mode():
                tokens = original.generate(feeds["input_features"])
            texts.append(tokenizer.batch_decode(tokens, skip_special_tokens=True)[0].strip())
    return texts


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_compiled_whisper_writes_what_transformers_writes_and_what_was_said(
    backend: str,
    folder: Path,
    model: Path,
    recordings: dict[Path, str],
    edgekit: Edgekit,
    tmp_path: Path,
) -> None:
    import jiwer

    artifact, package = tmp_path / "artifact", tmp_path / "whisper.edgekit"
    paths = list(recordings)
    for command in (
        ("compile", model, "--backend", backend, "--precision", "fp32", "-o", artifact),
        ("package", artifact, "-o", package, "--allow-failed"),
        ("run", package, *paths, "--json"),
    ):
        done = edgekit(*command)
        assert done.returncode == 0, done.stderr
    texts = [each["prediction"] for each in json.loads(done.stdout)["predictions"]]
    assert texts == as_transformers_writes(folder, paths)
    errors = jiwer.wer(list(recordings.values()), [plain(text) for text in texts])
    assert errors <= 0.1, texts


def test_its_tokenizer_and_its_recordings_travel(model: Path) -> None:
    processor = load_processor(model / "processor")
    assert processor.check_parity() > 4
    assert (
        processor.decode([50257, 50362, 10776, 3088, 11, 1683, 4054, 13, 50256])
        == " Ever tried, ever failed."
    )
