"""Models of recordings are exported with a processor that hears every file as transformers does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import edgekit
from edgekit.errors import ExportWrong, SourceError
from edgekit.exporting.audio_processor import derive_settings, load_extractor, travelling_audio
from edgekit.exporting.ctc import ctc_vocabulary, derive_vocabulary, prove_vocabulary
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.sounds import noise, speech, tone, travelling
from edgekit.stages.export import ExportedModel
from edgekit_runtime.errors import InputError
from edgekit_runtime.goldens import read_goldens
from edgekit_runtime.processors import load_processor
from edgekit_runtime.processors.audio import AudioProcessor
from tests.audio_models import (
    SOUND_LABELS,
    USUAL,
    ctc_tokenizer,
    spectrogram_transformer,
    wave_model,
    whisper_classifier,
)

pytestmark = pytest.mark.slow

RATE = 16_000
#: Two seconds, so that the check of the longest recording is quick.
SHORT = ExportOptions(max_length=2 * RATE)
WAVE = ("input_values", "attention_mask", "labels")


def _ast(folder: Path) -> Path:
    spectrogram_transformer(folder)
    return folder


WAVE_MODELS: dict[str, Callable[[Path], Path]] = {
    "Wav2Vec2ForCTC": lambda folder: wave_model(folder, "Wav2Vec2", "CTC", **USUAL),
    "Wav2Vec2ForCTC, masked": lambda folder: wave_model(folder, "Wav2Vec2", "CTC", masked=True),
    "HubertForCTC": lambda folder: wave_model(folder, "Hubert", "CTC"),
    "WavLMForCTC": lambda folder: wave_model(folder, "WavLM", "CTC"),
    "Wav2Vec2ForSequenceClassification": lambda folder: wave_model(
        folder, "Wav2Vec2", "SequenceClassification", masked=True
    ),
}
FIXED_MODELS: dict[str, Callable[[Path], Path]] = {
    "ASTForAudioClassification": _ast,
    "WhisperForAudioClassification": whisper_classifier,
}


def recordings(folder: Path) -> list[Path]:
    """Files as users have them."""
    paths = []
    for name, samples, rate in (
        ("mono.wav", speech(0.9, 8_000, seed=31), 8_000),
        ("stereo.flac", np.stack([speech(0.7, 44_100, seed=32), noise(0.7, 44_100)], axis=1), 44_100),
        ("own-rate.ogg", speech(1.3, RATE, seed=33), RATE),
    ):
        soundfile.write(folder / name, samples, rate)
        paths.append(folder / name)
    return paths


def as_transformers_answers(folder: Path, path: Path) -> Any:
    """The logits of the original, by nothing but transformers."""
    import torch
    import transformers
    from transformers.audio_utils import load_audio

    config = transformers.AutoConfig.from_pretrained(folder)
    model = getattr(transformers, config.architectures[0]).from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    samples = load_audio(str(path), sampling_rate=extractor.sampling_rate, backend="soundfile")
    feeds = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    with torch.inference_mode():
        return model(**feeds).logits.numpy()


def run(model: Path, feeds: dict[str, Any]) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(model / "model.onnx").run(["logits"], feeds)[0]


def operators(model: Path) -> Counter[str]:
    import onnx

    return Counter(node.op_type for node in onnx.load(model / "model.onnx").graph.node)


def check_whole(folder: Path, made: ExportedModel, tmp_path: Path) -> AudioProcessor:
    """What holds for every exported model of recordings; its processor."""
    processor = load_processor(made.path / "processor")
    assert isinstance(processor, AudioProcessor)
    assert processor.check_parity() == 4
    sizes = [path.stat().st_size for path in (made.path / "processor").glob("*.wav")]
    assert len(sizes) == 4
    assert sum(sizes) < 400_000
    assert len(read_goldens(made.path / "golden")) >= 4
    for path in recordings(tmp_path):
        got = run(made.path, processor.feeds([path]))
        assert np.allclose(got, as_transformers_answers(folder, path), atol=2e-3), path
    return processor


# --- exporting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WAVE_MODELS)
def test_a_model_of_waveforms_answers_as_in_transformers_from_the_file_on(name: str, tmp_path: Path) -> None:
    folder = WAVE_MODELS[name](tmp_path / "folder")
    made = edgekit.export(folder, tmp_path / "model", options=SHORT)
    table = made.manifest.model
    assert table is not None
    processor = check_whole(folder, made, tmp_path)
    masked = "masked" in name or "Sequence" in name
    assert processor.input_names == (("input_values", "attention_mask") if masked else ("input_values",))
    assert [spec.shape for spec in table.signature.inputs] == [("batch", "samples")] * (1 + masked)
    assert table.task == ("speech-recognition" if "CTC" in name else "audio-classification")
    assert {check.shape["batch"] for check in table.checks} == {1, 2, 7}
    shortest = 400 if name == "Wav2Vec2ForCTC" else 165
    assert {shortest, 2 * RATE} <= {check.shape["samples"] for check in table.checks}
    found = operators(made.path)
    assert not [kind for kind in found if kind.startswith("Random")]
    assert not found["ReduceL2"]  # the weight of the positional convolution is a value, no formula
    if "CTC" in name:
        assert processor.decode([12, 15, 4, 0, 12]) == "GJ G"
    else:
        assert table.labels == SOUND_LABELS


@pytest.mark.parametrize("name", FIXED_MODELS)
def test_a_model_of_spectrograms_answers_as_in_transformers_from_the_file_on(
    name: str, tmp_path: Path
) -> None:
    folder = FIXED_MODELS[name](tmp_path / "folder")
    made = edgekit.export(folder, tmp_path / "model")
    processor = check_whole(folder, made, tmp_path)
    table = made.manifest.model
    assert table is not None
    assert processor.settings.features == ("fbank" if name.startswith("AST") else "log-mel")
    assert table.signature.inputs[0].shape == ("batch", *((50, 32) if name.startswith("AST") else (32, 200)))
    assert table.task == "audio-classification"
    assert {check.shape["batch"] for check in table.checks} == {1, 2, 7}
    long = tmp_path / "long.wav"
    soundfile.write(long, speech(5.0, RATE, seed=34), RATE)
    assert np.allclose(
        run(made.path, processor.feeds([long])), as_transformers_answers(folder, long), atol=2e-3
    )


def test_a_trained_classifier_of_tones_still_tells_them_apart(tmp_path: Path) -> None:
    import torch

    folder = tmp_path / "folder"
    model = spectrogram_transformer(folder)
    extractor = load_extractor(folder, ExportOptions())

    def drawn(count: int, seed: int) -> tuple[list[Any], Any]:
        random = np.random.default_rng(seed)
        truths = random.integers(0, 3, count)
        hertz = np.array([300.0, 1000.0, 3000.0])[truths] * random.uniform(0.9, 1.1, count)
        return [
            tone(0.4, RATE, one) + 0.1 * noise(0.4, RATE, seed + at) for at, one in enumerate(hertz)
        ], truths

    sounds, truths = drawn(48, seed=1)
    values = torch.from_numpy(
        np.asarray(extractor(sounds, sampling_rate=RATE, return_tensors="np")["input_values"])
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    torch.manual_seed(0)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(values).logits, torch.from_numpy(truths)).backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    made = edgekit.export(folder, tmp_path / "model")
    processor = load_processor(made.path / "processor")
    right = []
    for at, (samples, truth) in enumerate(zip(*drawn(30, seed=500), strict=True)):
        path = tmp_path / f"{at}.wav"
        soundfile.write(path, samples, RATE)
        right.append(int(run(made.path, processor.feeds([path])).argmax()) == truth)
    assert np.mean(right) >= 0.9


# --- the processor ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper_classifier(tmp_path_factory.mktemp("whisper") / "folder")


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    folder = tmp_path_factory.mktemp("wave") / "folder"
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    ctc_tokenizer(folder)
    return folder


def travelled(hub: Any, directory: Path, parameters: tuple[str, ...] = WAVE) -> AudioProcessor:
    settings, bank = derive_settings(hub, (*parameters, "input_features"), None)
    return travelling_audio(hub, settings, bank, None, directory)


class Otherwise:
    """An extractor whose code does more than its attributes tell."""

    def __init__(self, hub: Any, change: Callable[[Any], Any]) -> None:
        self._hub, self._change = hub, change

    def __call__(self, raw_speech: Any, **more: Any) -> Any:
        made = dict(self._hub(raw_speech, **more))
        name = self._hub.model_input_names[0]
        return {**made, name: self._change(np.asarray(made[name]))}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hub, name)


OTHERWISE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "louder": (lambda values: values * 1.001, "at "),
    "one value": (
        lambda values: values + 0.01 * (np.arange(values.size).reshape(values.shape) == 3),
        r"at \[",
    ),
    "one frame later": (lambda values: np.roll(values, 1, axis=-1), "at "),
    "a frame less": (lambda values: values[..., :-1], "its shape is"),
}


@pytest.mark.parametrize("what", OTHERWISE)
@pytest.mark.parametrize("folder", ["wave", "whisper"])
def test_an_extractor_with_code_of_its_own_is_found_out(
    folder: str, what: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = load_extractor(request.getfixturevalue(folder), ExportOptions())
    change, reason = OTHERWISE[what]
    settings, bank = derive_settings(hub, (*WAVE, "input_features"), None)
    with pytest.raises(ExportWrong, match=f"hears .*differently from transformers: .*{reason}"):
        travelling_audio(Otherwise(hub, change), settings, bank, None, tmp_path / "processor")
    assert not (tmp_path / "processor").exists()


def test_settings_that_transformers_holds_travel(wave: Path, whisper: Path, tmp_path: Path) -> None:
    processor = travelled(load_extractor(wave, ExportOptions()), tmp_path / "wave")
    table = json.loads((tmp_path / "wave" / "processor.json").read_text())
    assert table["inputs"] == ["input_values", "attention_mask"]
    assert (table["features"], table["rate"], table["normalize"]) == ("waveform", RATE, True)
    assert processor.settings.longest == 30 * RATE
    processor = travelled(load_extractor(whisper, ExportOptions()), tmp_path / "whisper")
    assert (processor.settings.longest, processor.settings.hop) == (2 * RATE, 160)


def test_the_real_whisper_is_heard_alike_over_30_seconds(tmp_path: Path) -> None:
    from transformers import WhisperFeatureExtractor

    processor = travelled(WhisperFeatureExtractor(feature_size=80), tmp_path / "processor")
    assert processor.settings.longest == 30 * RATE
    sound = next(iter(travelling()))
    path = tmp_path / sound.name
    path.write_bytes(sound.wav())
    assert processor.feeds([path])["input_features"].shape == (1, 80, 3000)


# transformers itself warns so of its own defaults: 128 filters over 257 frequencies.
@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values:UserWarning")
def test_the_real_ast_is_heard_alike(tmp_path: Path) -> None:
    from transformers import ASTFeatureExtractor

    processor = travelled(ASTFeatureExtractor(), tmp_path / "processor")
    sound = next(iter(travelling()))
    path = tmp_path / sound.name
    path.write_bytes(sound.wav())
    assert processor.feeds([path])["input_values"].shape == (1, 1024, 128)


def test_without_a_mask_in_the_model_none_is_made(wave: Path) -> None:
    hub = load_extractor(wave, ExportOptions())
    assert derive_settings(hub, ("input_values",), None)[0].inputs == ("input_values",)


def test_max_length_is_the_longest_waveform_in_samples(wave: Path, whisper: Path) -> None:
    assert derive_settings(load_extractor(wave, ExportOptions()), WAVE, 12_345)[0].longest == 12_345
    with pytest.raises(SourceError, match="max_length 12345: the WhisperFeatureExtractor always makes 32000"):
        derive_settings(load_extractor(whisper, ExportOptions()), ("input_features",), 12_345)


def _unknown() -> Any:
    from transformers import EncodecFeatureExtractor

    return EncodecFeatureExtractor()


def _whisper(**changes: Any) -> Any:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(**changes)


def _wave(**changes: Any) -> Any:
    from transformers import Wav2Vec2FeatureExtractor

    return Wav2Vec2FeatureExtractor(**changes)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_unknown, "EncodecFeatureExtractor is not known"),
        (lambda: _whisper(dither=0.1), "dither"),
        (lambda: _whisper(padding_side="left"), "pads on the left"),
        (lambda: _wave(padding_side="left"), "pads on the left"),
        (lambda: _wave(feature_size=2), "feature_size is 2"),
    ],
)
def test_what_no_processor_does_is_refused_by_name(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(SourceError, match=reason) as caught:
        derive_settings(make(), (*WAVE, "input_features"), None)
    assert caught.value.hint


# --- folders that are wrong ---------------------------------------------------------------------------


def test_a_folder_without_its_extractor_is_refused(tmp_path: Path) -> None:
    folder = whisper_classifier(tmp_path / "folder")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(SourceError, match="preprocessor_config"):
        edgekit.export(folder, tmp_path / "model")


def test_an_extractor_of_another_size_than_the_model_is_refused(tmp_path: Path) -> None:
    import transformers

    folder = tmp_path / "folder"
    spectrogram_transformer(folder)
    transformers.ASTFeatureExtractor(max_length=90, num_mel_bins=32).save_pretrained(folder)
    with pytest.raises(SourceError, match=r"input_values \[3, 90, 32\]"):
        edgekit.export(folder, tmp_path / "model")


def test_a_recognizer_without_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = wave_model(tmp_path / "folder", "Wav2Vec2", "CTC")
    for name in ("vocab.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(SourceError, match="tokenizer"):
        edgekit.export(folder, tmp_path / "model", options=SHORT)


def test_a_limit_below_what_the_model_needs_is_refused(tmp_path: Path) -> None:
    folder = wave_model(tmp_path / "folder", "Wav2Vec2", "SequenceClassification")
    with pytest.raises(SourceError, match="max_length 100 is less than the 165 samples"):
        edgekit.export(folder, tmp_path / "model", options=ExportOptions(max_length=100))


# --- text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"do_lower_case": True},
        {"clean_up_tokenization_spaces": True},
        {"replace_word_delimiter_char": "_"},
        {"pad_token": "</s>", "eos_token": "<pad>"},
    ],
)
def test_ids_are_read_as_transformers_reads_them(changes: dict[str, Any], tmp_path: Path) -> None:
    ctc_tokenizer(tmp_path, **changes)
    vocabulary = ctc_vocabulary(tmp_path, ExportOptions())
    assert vocabulary.tokens[4] == changes.get("replace_word_delimiter_char", " ")
    assert vocabulary.tokens[0] is None
    assert vocabulary.tokens[6] == "A"


def test_a_tokenizer_that_decodes_in_its_own_way_is_found_out(tmp_path: Path) -> None:
    hub = ctc_tokenizer(tmp_path)

    class Own:
        def batch_decode(self, sequences: Any) -> Any:
            return [text.replace("TH", "Þ") for text in hub.batch_decode(sequences)]

        def __getattr__(self, name: str) -> Any:
            return getattr(hub, name)

    prove_vocabulary(hub, derive_vocabulary(hub), seed=0)
    own: Any = Own()
    with pytest.raises(ExportWrong, match="Þ"):
        prove_vocabulary(own, derive_vocabulary(hub), seed=0)


def test_a_tokenizer_of_another_kind_is_refused(tiny: Path) -> None:
    with pytest.raises(SourceError, match=r"tokenizer .* is not known"):
        ctc_vocabulary(tiny, ExportOptions())


def test_a_model_without_a_ctc_head_has_no_text(wave: Path, tmp_path: Path) -> None:
    processor = travelled(load_extractor(wave, ExportOptions()), tmp_path / "processor")
    with pytest.raises(InputError, match="no vocabulary"):
        processor.decode([1])
