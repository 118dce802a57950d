"""A package answers rows as its task means them, whatever the shape that its artifact was made for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit_runtime.answers import KINDS
from edgekit_runtime.errors import InputError
from edgekit_runtime.processors.audio_settings import AudioSettings
from edgekit_runtime.processors.audio_settings import settings_json as audio_json
from edgekit_runtime.processors.base import Audio, Image, Words
from edgekit_runtime.processors.image_settings import ImageSettings, Resize
from edgekit_runtime.processors.image_settings import settings_json as image_json
from edgekit_runtime.reader import Package, open_package

pytestmark = pytest.mark.usefixtures("toy")

SHAPES = ({}, {"batch": 3}, {"tokens": 16}, {"batch": 2, "tokens": 12})
VERDICTS = ("contradiction", "entailment")


def opened(parts, folder: Path) -> Package:
    return open_package(parts.write(folder / "p.edgekit"))


def with_processor(parts, settings: dict[str, object]):
    """The parts with this processor.json instead of all that makes tokens."""
    files = {path: data for path, data in parts.files.items() if not path.startswith("processor/")}
    files["processor/processor.json"] = json.dumps(settings).encode()
    return replace(parts, files=files)


def seeing(parts, **options: int):
    """A package for images of 8 x 8 pixels: light or dark."""
    settings = ImageSettings(resize=Resize(rule="exact", size=(8, 8)), rescale=1 / 255, offset=0.5)
    image = parts.answering("classification", labels=("dark", "light"), sees=True, **options)
    return with_processor(image, image_json(settings))


def hearing(parts, **options: int):
    """A package for recordings of up to a second: low or loud."""
    inputs = ("input_values", "attention_mask")
    settings = AudioSettings(inputs=inputs, features="waveform", rate=8000, shortest=100, longest=8000)
    audio = parts.answering("classification", labels=("low", "loud"), hears=True, **options)
    return with_processor(audio, audio_json(settings))


def picture(folder: Path, name: str, level: int) -> Path:
    from PIL import Image as Pillow

    Pillow.new("RGB", (20, 10), (level, level, level)).save(folder / name)
    return folder / name


@pytest.mark.parametrize("shape", SHAPES)
def test_words_of_a_text_get_their_tags(parts, tmp_path: Path, shape: dict[str, int]) -> None:
    tagger = parts.answering("tags", labels=("B-BAD", "B-GOOD"), output="tokens", **shape)
    with opened(tagger, tmp_path) as package:
        text, words = package.predict(["good  bad film", Words(("bad", "", "good"))])
        with pytest.raises(InputError, match="row 1 must be one text or its words, found a pair"):
            package.predict(["good", ("good", "bad")])
    assert text.words == ("good", "bad", "film")
    assert text.tags[:2] == ("B-GOOD", "B-BAD")
    assert [(entity.start, entity.end) for entity in text.entities][:2] == [(0, 4), (6, 9)]
    assert words.words == ("bad", "", "good")
    assert (words.tags[0], words.tags[2]) == ("B-BAD", "B-GOOD")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_question_is_answered_out_of_its_context(parts, tmp_path: Path, shape: dict[str, int]) -> None:
    with opened(parts.answering("span", output="span", **shape), tmp_path) as package:
        (found,) = package.predict([("good film", "a bad 😀 good film")])
        with pytest.raises(InputError, match="row 1 must be a question and the text") as caught:
            package.predict([("good", "good"), "good"])
    assert (found.text, found.start, found.end) == ("bad 😀 good", 2, 12)
    assert "--pairs" in caught.value.hint


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_is_filled_by_the_processors_vocabulary(parts, tmp_path: Path, shape: dict[str, int]) -> None:
    """The word "film" stands for the mask; the next of the vocabulary is "bad"."""
    settings = json.loads(parts.files["processor/processor.json"]) | {"mask_id": 7}
    filler = parts.answering("fill-mask", output="next", **shape)
    filler = filler.with_file("processor/processor.json", json.dumps(settings).encode())
    with opened(filler, tmp_path) as package:
        assert package.predict(["a fine film"])[0].label == "bad"
        with pytest.raises(InputError, match="row 1: there is no mask token"):
            package.predict(["a fine film", "a fine day"])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_gets_a_vector_and_a_pair_is_compared(parts, tmp_path: Path, shape: dict[str, int]) -> None:
    encoder = parts.answering("vector", output="sentence_embedding", **shape)
    with opened(encoder, tmp_path) as package:
        vector, alike, unlike = package.predict(["good", ("good", "fine fine"), ("good", "dull")])
    assert vector.shape == (2,)
    assert (alike, unlike) == (pytest.approx(1.0), pytest.approx(-1.0))


@pytest.mark.parametrize("shape", SHAPES)
def test_one_of_the_candidates_is_chosen(parts, tmp_path: Path, shape: dict[str, int]) -> None:
    with opened(parts.answering("zero-shot", labels=VERDICTS, **shape), tmp_path) as package:
        found = package.choose("a film", ["bad", " good ", "dull"])
        with pytest.raises(InputError, match="none are given") as caught:
            package.predict(["a film"])
    assert (found.label, set(found.scores)) == ("good", {"bad", "good", "dull"})
    assert "--candidates" in caught.value.hint


@pytest.mark.parametrize("candidates", [[], ["one"], ["one", "one "], ["one", ""], "abc"])
def test_candidates_that_leave_no_choice_are_refused(parts, tmp_path: Path, candidates: list[str]) -> None:
    with (
        opened(parts.answering("zero-shot", labels=VERDICTS), tmp_path) as package,
        pytest.raises(InputError, match="two or more different labels"),
    ):
        package.choose("a film", candidates)


def test_other_tasks_take_no_candidates(package: Path) -> None:
    with open_package(package) as opened, pytest.raises(InputError, match="takes no candidates"):
        opened.choose("a film", ["good", "bad"])


@pytest.mark.parametrize("shape", [{}, {"batch": 2}])
def test_images_are_answered_by_their_paths_or_pixels(parts, tmp_path: Path, shape: dict[str, int]) -> None:
    paths = [picture(tmp_path, "white.png", 255), picture(tmp_path, "black.jpg", 0)]
    grey = Image(np.full((4, 6, 3), 90, np.uint8))
    with opened(seeing(parts, **shape), tmp_path) as package:
        assert [answer.label for answer in package.predict([*paths, grey])] == ["light", "dark", "dark"]
        with pytest.raises(InputError, match="put it in a list"):
            package.predict(paths[0])  # type: ignore[arg-type]
        with pytest.raises(InputError, match="found tuple"):
            package.predict([(paths[0], paths[1])])


@pytest.mark.parametrize("shape", [{}, {"batch": 2}, {"tokens": 4000}, {"batch": 2, "tokens": 8000}])
def test_recordings_are_answered_padded_to_the_artifacts_length(
    parts, tmp_path: Path, shape: dict[str, int]
) -> None:
    low, loud = (
        Audio(np.full(samples, level, np.float32), 8000) for samples, level in ((3000, 0.1), (500, 0.9))
    )
    with opened(hearing(parts, **shape), tmp_path) as package:
        assert [answer.label for answer in package.predict([low, loud])] == ["low", "loud"]
        with pytest.raises(InputError, match=r"row 0.*nowhere\.wav"):
            package.predict([tmp_path / "nowhere.wav"])
        with pytest.raises(InputError, match=r"row 1 lasts 0\.0025 s"):
            package.predict([low, Audio(np.zeros(20, np.float32), 8000), loud])


@pytest.mark.parametrize("answers", KINDS)
def test_every_kind_of_answers_can_be_packed(parts, tmp_path: Path, answers: str) -> None:
    with opened(parts.answering(answers), tmp_path) as package:
        assert package.info.table.answers == answers
