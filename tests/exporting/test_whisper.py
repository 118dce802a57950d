"""Models that write what is said, token by token, are exported with all that decides what they write."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

import edgekit
from edgekit.errors import ExportWrong, SourceError, UsageError
from edgekit.exporting.audio_generating import Whisper, prove_generation, start_tokens, whisper
from edgekit.exporting.audio_tokens import prove_reading, transcriber
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.sounds import noise, speech, tone
from edgekit.host.reference import open_reference_model
from edgekit.stages.export import ExportedModel
from edgekit_runtime.errors import InputError
from edgekit_runtime.pipelines import read_pipeline
from edgekit_runtime.processors import load_processor
from edgekit_runtime.processors.audio import AudioProcessor
from tests.audio_models import whisper_tokenizer, whisper_writer

pytestmark = pytest.mark.slow

RATE = 16_000
GERMAN = ExportOptions(language="de")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper_writer(tmp_path_factory.mktemp("whisper") / "folder")


@pytest.fixture(scope="module")
def made(folder: Path) -> ExportedModel:
    return edgekit.export(folder, folder.parent / "model", options=GERMAN)


def load(folder: Path) -> Any:
    import transformers

    return transformers.AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()


def ids_of(folder: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id


def features(rows: int = 1) -> Any:
    import torch

    return {"input_features": torch.from_numpy(np.random.default_rng(0).normal(size=(rows, 16, 100))).float()}


def recordings(folder: Path) -> list[Path]:
    """Files as users have them, within a second."""
    paths = []
    for name, samples, rate in (
        ("mono.wav", speech(0.9, 8_000, seed=31), 8_000),
        ("stereo.flac", np.stack([speech(0.7, 44_100, seed=32), noise(0.7, 44_100)], axis=1), 44_100),
        ("own-rate.ogg", speech(0.95, RATE, seed=33), RATE),
    ):
        soundfile.write(folder / name, samples, rate)
        paths.append(folder / name)
    return paths


# --- exporting ----------------------------------------------------------------------------------------


def test_the_graphs_write_what_transformers_own_generate_writes(
    folder: Path, made: ExportedModel, tmp_path: Path
) -> None:
    import torch
    import transformers

    table = made.manifest.model
    assert table is not None
    assert table.task == "speech-recognition"
    assert list(table.parts) == ["encoder", "decoder"]
    assert {check.shape["batch"] for check in table.checks} == {1, 2, 7}
    assert table.source["language"] == "de"
    processor = load_processor(made.path / "processor")
    original, tokenizer = load(folder), transformers.AutoTokenizer.from_pretrained(folder)
    pipeline = read_pipeline(made.path)
    assert pipeline is not None
    with open_reference_model(made.path, table) as session:
        for path in recordings(tmp_path):
            feeds = processor.feeds([path])
            tokens = session.run(feeds)["tokens"][0].tolist()
            tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
            wanted = original.generate(**tensors, language="de", force_unique_generate_call=True)
            assert [*pipeline.generation.start, *tokens] == wanted[0].tolist()
            text = tokenizer.batch_decode([tokens], skip_special_tokens=True)[0]
            assert processor.decode(tokens) == text


def test_a_recording_longer_than_the_model_hears_is_refused(made: ExportedModel) -> None:
    from edgekit_runtime.processors.base import Audio

    processor = load_processor(made.path / "processor")
    with pytest.raises(InputError, match=r"lasts 2\.0 s, and this model hears 1\.0 s at most"):
        processor.feeds([Audio(tone(2.0, RATE), RATE)])


def test_recorded_texts_and_recordings_travel(made: ExportedModel) -> None:
    processor = load_processor(made.path / "processor")
    assert isinstance(processor, AudioProcessor)
    assert len(processor.parity) == 4
    assert processor.check_parity() > 4 + 10


# --- what an answer begins with -----------------------------------------------------------------------

STARTS: dict[str, tuple[dict[str, Any], str | None, tuple[str, ...]]] = {
    "a code": ({}, "de", ("<|de|>", "<|transcribe|>")),
    "a name": ({}, "German", ("<|de|>", "<|transcribe|>")),
    "a token": ({}, "<|en|>", ("<|en|>", "<|transcribe|>")),
    "the folder's language": ({"language": "en"}, None, ("<|en|>", "<|transcribe|>")),
    "another than the folder's": ({"language": "en"}, "de", ("<|de|>", "<|transcribe|>")),
    "the folder's task": ({"language": "de", "task": "translate"}, None, ("<|de|>", "<|translate|>")),
    "an older folder": (
        {"forced_decoder_ids": ["<|en|>", "<|translate|>"]},
        None,
        ("<|en|>", "<|translate|>"),
    ),
    "an older folder, by option": (
        {"forced_decoder_ids": [None, "<|translate|>"]},
        "de",
        ("<|de|>", "<|transcribe|>"),
    ),
    "times": ({"return_timestamps": True}, "de", ("<|de|>", "<|transcribe|>")),
    "a folder without languages": ({"lang_to_id": None, "task_to_id": None}, None, ()),
}


@pytest.mark.parametrize("what", STARTS)
def test_an_answer_begins_as_in_transformers(what: str, tmp_path: Path) -> None:
    changes, language, wanted = STARTS[what]
    ids = ids_of(whisper_writer(tmp_path))
    path = tmp_path / "generation_config.json"
    table = json.loads(path.read_text()) | changes
    if "forced_decoder_ids" in changes:
        pairs = enumerate(changes["forced_decoder_ids"], start=1)
        table["forced_decoder_ids"] = [[place, token and ids(token)] for place, token in pairs]
    path.write_text(json.dumps({key: value for key, value in table.items() if value is not None}))
    model = load(tmp_path)
    found = whisper(model, ExportOptions(language=language))
    tokens = ("<|startoftranscript|>", *wanted, "<|notimestamps|>")
    assert found.generating.settings.start == tuple(map(ids, tokens))
    assert prove_generation(model, found, features(2))


def test_a_start_that_only_the_models_config_keeps_is_kept(tmp_path: Path) -> None:
    ids = ids_of(whisper_writer(tmp_path))
    model = load(tmp_path)
    model.config.forced_decoder_ids = [[1, ids("<|de|>")], [2, ids("<|translate|>")]]
    found = whisper(model, ExportOptions())
    assert found.generating.settings.start[1:3] == (ids("<|de|>"), ids("<|translate|>"))
    assert prove_generation(model, found, features())


def test_an_english_model_needs_no_language_and_takes_none(tmp_path: Path) -> None:
    ids = ids_of(whisper_writer(tmp_path, english=True))
    model = load(tmp_path)
    found = whisper(model, ExportOptions())
    assert found.generating.settings.start == (ids("<|startoftranscript|>"), ids("<|notimestamps|>"))
    assert prove_generation(model, found, features())
    with pytest.raises(UsageError, match="this model writes English only"):
        whisper(load(tmp_path), ExportOptions(language="en"))


def test_limits_are_those_of_whisper_whose_max_length_does_not_count_the_start(tmp_path: Path) -> None:
    model = load(whisper_writer(tmp_path, max_length=9))
    found = whisper(model, GERMAN)
    wanted = model.generate(
        **features(),
        generation_config=copy.deepcopy(found.config),
        language="de",
        force_unique_generate_call=True,
    )
    assert found.generating.settings.max_tokens == 9 == wanted.shape[1] - 4
    found = whisper(load(whisper_writer(tmp_path, max_length=500)), GERMAN)
    assert found.generating.settings.max_tokens == 60  # 64 positions and a start of four
    found = whisper(load(tmp_path), dataclasses.replace(GERMAN, max_new_tokens=7))
    assert found.generating.settings.max_tokens == 7


def test_a_language_that_is_not_chosen_is_asked_for(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"generation_config\.json chooses none") as caught:
        edgekit.export(folder, tmp_path / "model")
    assert "--language en" in caught.value.hint
    assert "the model knows de, en" in caught.value.hint
    assert not (tmp_path / "model").exists()


REFUSED: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "an unknown language": ({}, "Klingon", "has no such language"),
    "a language, and none in the folder": ({"lang_to_id": None}, "de", "lang_to_id"),
    "an unknown task": ({"task": "sing"}, "de", "task 'sing' is none of transcribe, translate"),
    "a start with a gap": ({"forced_decoder_ids": [[1, 263], [3, 266]]}, None, "no start of an answer"),
    "answers that are dropped": ({"no_speech_threshold": 0.6}, "de", "no_speech_threshold is 0.6"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_changes_tokens_and_is_not_kept_is_refused_by_name(what: str, tmp_path: Path) -> None:
    changes, language, reason = REFUSED[what]
    model = load(whisper_writer(tmp_path))
    for key, value in changes.items():
        setattr(model.generation_config, key, value)
    with pytest.raises((SourceError, UsageError), match=reason) as caught:
        whisper(model, ExportOptions(language=language))
    assert caught.value.hint


def test_a_start_is_made_of_a_config_alone() -> None:
    config = SimpleNamespace(decoder_start_token_id=5, lang_to_id={"<|fr|>": 6}, no_timestamps_token_id=9)
    assert start_tokens(config, SimpleNamespace(), "french") == (5, 6, 9)


def test_another_model_of_speech_with_a_decoder_is_refused_by_its_class(tmp_path: Path) -> None:
    model = load(whisper_writer(tmp_path))
    model.__class__ = type("MoonshineForConditionalGeneration", (type(model),), {})
    with pytest.raises(SourceError, match=r"a MoonshineForConditionalGeneration .* not known here"):
        whisper(model, GERMAN)


# --- proofs that can fail -----------------------------------------------------------------------------


def _otherwise(**changes: Any) -> Callable[[Whisper], Whisper]:
    def change(found: Whisper) -> Whisper:
        settings = dataclasses.replace(found.generating.settings, **changes)
        generating = dataclasses.replace(found.generating, settings=settings)
        return dataclasses.replace(found, generating=generating)

    return change


def test_another_start_than_transformers_makes_is_found_out(folder: Path) -> None:
    model = load(folder)
    found = whisper(model, GERMAN)
    start = found.generating.settings.start
    for wrong in ((start[0], start[1] - 1, *start[2:]), start[:3]):
        with pytest.raises(ExportWrong, match=r"writes other tokens than transformers: at [13],"):
            prove_generation(model, _otherwise(start=wrong)(found), features())


def test_another_rule_than_transformers_has_is_found_out(folder: Path) -> None:
    model = load(folder)
    found = whisper(model, GERMAN)
    first = prove_generation(model, found, features())[0][0]
    model.generation_config.suppress_tokens = [*model.generation_config.suppress_tokens, first]
    with pytest.raises(ExportWrong, match="writes other tokens than transformers: at 4,"):
        prove_generation(model, found, features())


# --- tokens to text -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tidied", [False, True])
def test_tokens_read_as_in_transformers(tidied: bool, tmp_path: Path) -> None:
    changes = {
        "clean_up_tokenization_spaces": True,
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": True,
    }
    whisper_tokenizer(tmp_path, **(changes if tidied else {}))
    hub, found = transcriber(tmp_path, ExportOptions())
    ids = hub("is n't it , then ?<|0.02|> yes<|endoftext|>", add_special_tokens=False)["input_ids"]
    wanted = "isn't it, then? yes" if tidied else "is n't it , then ? yes"
    assert found.decode(ids) == hub.batch_decode([ids], skip_special_tokens=True)[0] == wanted


def test_a_tokenizer_that_reads_in_its_own_way_is_found_out(tmp_path: Path) -> None:
    whisper_tokenizer(tmp_path)
    hub, found = transcriber(tmp_path, ExportOptions())

    class Own:
        def batch_decode(self, sequences: Any, **more: Any) -> Any:
            return [text.replace("th", "þ") for text in hub.batch_decode(sequences, **more)]

    ids = hub("a path", add_special_tokens=False)["input_ids"]
    prove_reading(hub, found, [ids])
    own: Any = Own()
    with pytest.raises(ExportWrong, match="þ"):
        prove_reading(own, found, [ids])


def test_a_tokenizer_of_python_alone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    whisper_tokenizer(tmp_path)
    monkeypatch.setattr(transformers.WhisperTokenizer, "is_fast", property(lambda self: False))
    with pytest.raises(SourceError, match="runs in Python only"):
        transcriber(tmp_path, ExportOptions())
