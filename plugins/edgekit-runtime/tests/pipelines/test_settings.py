"""pipeline.json: what is written is read again, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit_runtime.errors import ManifestError
from edgekit_runtime.generation import GenerationSettings
from edgekit_runtime.pipelines import (
    ENCODER_DECODER,
    PIPELINE_FILE,
    Pipeline,
    read_pipeline,
    write_pipeline,
)

IDS = st.integers(0, 2**31 - 1)
MANY = st.lists(IDS, max_size=5).map(tuple)
GREEDY = GenerationSettings(start=(2,), end=(1, 3), pad=0, max_tokens=64)
PIPELINE = Pipeline(kind=ENCODER_DECODER, parts=("encoder", "decoder"), generation=GREEDY)


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    most = draw(st.integers(1, 2**20))
    forced = (draw(st.none() | IDS), draw(st.none() | IDS))
    generation = GenerationSettings(
        start=draw(st.lists(IDS, min_size=1, max_size=4).map(tuple)),
        end=draw(MANY),
        pad=draw(IDS),
        max_tokens=most,
        min_tokens=draw(st.integers(0, most)),
        suppress=tuple(token for token in draw(MANY) if token not in forced),
        suppress_first=draw(MANY),
        forced_first=forced[0],
        forced_last=forced[1],
        repetition_penalty=draw(st.floats(0.01, 100.0)),
        no_repeat_ngram=draw(st.integers(0, 2**20)),
    )
    names = st.text("abcxyz0189_-", min_size=1, max_size=8)
    parts = tuple(draw(st.lists(names, min_size=2, max_size=2, unique=True)))
    return Pipeline(kind=ENCODER_DECODER, parts=parts, generation=generation)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pipelines())
def test_what_is_written_is_read_again(tmp_path: Path, pipeline: Pipeline) -> None:
    write_pipeline(tmp_path, pipeline)
    assert read_pipeline(tmp_path) == pipeline


def test_the_file_is_as_it_is_documented(tmp_path: Path) -> None:
    write_pipeline(tmp_path, PIPELINE)
    found = json.loads((tmp_path / PIPELINE_FILE).read_bytes())
    assert list(found) == ["schema", "kind", "parts", "generation"]
    assert (found["schema"], found["kind"], found["parts"]) == (1, "encoder-decoder", ["encoder", "decoder"])
    assert set(found["generation"]) == {item.name for item in fields(GenerationSettings)}


def test_settings_that_have_a_usual_value_may_be_left_out(tmp_path: Path) -> None:
    value = {
        "schema": 1,
        "kind": "encoder-decoder",
        "parts": ["encoder", "decoder"],
        "generation": {"start": [2], "end": [1, 3], "pad": 0, "max_tokens": 64},
    }
    (tmp_path / PIPELINE_FILE).write_text(json.dumps(value))
    assert read_pipeline(tmp_path) == PIPELINE


def test_a_directory_without_the_file_holds_a_model_of_one_graph(tmp_path: Path) -> None:
    assert read_pipeline(tmp_path) is None
    assert read_pipeline(tmp_path / "nowhere") is None


def refused(directory: Path, data: bytes) -> ManifestError:
    (directory / PIPELINE_FILE).write_bytes(data)
    with pytest.raises(ManifestError) as caught:
        read_pipeline(directory)
    assert PIPELINE_FILE in caught.value.message or "path" in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.fixture
def written(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """The JSON of an honest file, to be spoiled."""
    write_pipeline(tmp_path, PIPELINE)
    data = (tmp_path / PIPELINE_FILE).read_text()
    return lambda: json.loads(data)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema", 2, "reads schema 1"),
        ("schema", True, "schema is True"),
        ("kind", "decoder-only", "kind is 'decoder-only', known: encoder-decoder"),
        ("kind", 3, "must be a string"),
        ("parts", "encoder", "must be a list"),
        ("parts", ["encoder"], "must be the names of an encoder and a decoder"),
        ("parts", ["encoder", "decoder", "third"], "must be the names"),
        ("parts", ["one", "One"], "must be the names"),
        ("parts", ["encoder", 7], "must be a string"),
        ("parts", ["encoder", ".."], "'..' is refused"),
        ("parts", ["encoder", "../../etc"], "is refused"),
        ("parts", ["encoder", "/etc"], "is refused"),
        ("parts", ["encoder", "C:\\x"], "is refused"),
        ("parts", ["encoder", "a/b"], "is no name of a directory"),
        ("parts", ["encoder", ""], "is refused"),
        ("parts", ["encoder", "."], "is refused"),
        ("parts", ["encoder", "nul"], "is refused"),
        ("parts", ["encoder", "a\0b"], "is refused"),
        ("generation", None, "must be an object"),
        ("generation", [], "must be an object"),
        ("beams", 4, "unknown key 'beams'"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    written: Callable[[], dict[str, Any]], tmp_path: Path, key: str, value: object, message: str
) -> None:
    assert message in refused(tmp_path, json.dumps({**written(), key: value}).encode()).message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("start", [], "start must hold at least one id"),
        ("start", [-1], "ids must be from 0 to"),
        ("start", 2, "start must be a list"),
        ("start", [True], "must be a int"),
        ("start", [2.0], "must be a int"),
        ("start", ["2"], "must be a int"),
        ("start", None, "start must be a list"),
        ("end", [10**30], "ids must be from 0 to"),
        ("pad", -100, "ids must be from 0 to"),
        ("pad", None, "must be a int"),
        ("suppress", [0, -1], "ids must be from 0 to"),
        ("suppress_first", [2**31], "ids must be from 0 to"),
        ("forced_first", -1, "ids must be from 0 to"),
        ("forced_last", "end", "must be int or NoneType"),
        ("max_tokens", 0, "max_tokens must be from 1"),
        ("max_tokens", 10**30, "max_tokens must be from 1"),
        ("max_tokens", 1.5, "must be a int"),
        ("min_tokens", 65, "min_tokens must be from 0 to max_tokens"),
        ("min_tokens", -1, "min_tokens must be from 0 to max_tokens"),
        ("repetition_penalty", 0, "repetition_penalty must be from"),
        ("repetition_penalty", -1.5, "repetition_penalty must be from"),
        ("repetition_penalty", 10**400, "repetition_penalty must be a number"),
        ("repetition_penalty", "1.0", "must be a float"),
        ("no_repeat_ngram", -1, "no_repeat_ngram must be from 0"),
        ("no_repeat_ngrams", 3, "unknown key 'no_repeat_ngrams'"),
        ("num_beams", 4, "unknown key 'num_beams'"),
    ],
)
def test_settings_that_nothing_can_be_generated_with_are_refused(
    written: Callable[[], dict[str, Any]], tmp_path: Path, key: str, value: object, message: str
) -> None:
    spoiled = written()
    spoiled["generation"][key] = value
    assert message in refused(tmp_path, json.dumps(spoiled).encode()).message


@pytest.mark.parametrize("key", ["start", "end", "pad", "max_tokens"])
def test_settings_that_have_no_usual_value_must_be_there(
    written: Callable[[], dict[str, Any]], tmp_path: Path, key: str
) -> None:
    spoiled = written()
    del spoiled["generation"][key]
    assert f"lacks {key}" in refused(tmp_path, json.dumps(spoiled).encode()).message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 5000])
def test_numbers_that_are_none_are_refused(
    written: Callable[[], dict[str, Any]], tmp_path: Path, number: str
) -> None:
    data = json.dumps(written()).replace('"repetition_penalty": 1.0', f'"repetition_penalty": {number}')
    assert number in data
    assert "is not valid JSON" in refused(tmp_path, data.encode()).message


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": 1, "schema": 1}', b"[" * 100_000, b'{"schema": 1}'],
    ids=["empty", "open", "list", "null", "not text", "twice", "deep", "bare"],
)
def test_what_is_no_such_file_at_all_is_refused(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data)


def test_a_truncated_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    write_pipeline(tmp_path, PIPELINE)
    data = (tmp_path / PIPELINE_FILE).read_bytes()
    for length in range(len(data.rstrip())):
        refused(tmp_path, data[:length])


def test_a_directory_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / PIPELINE_FILE).mkdir()
    with pytest.raises(ManifestError, match="cannot be read"):
        read_pipeline(tmp_path)


@pytest.mark.parametrize(
    "change", [{"start": ()}, {"max_tokens": 0}, {"suppress": (-1,)}, {"forced_last": 1, "suppress": (1,)}]
)
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        write_pipeline(tmp_path, replace(PIPELINE, generation=replace(GREEDY, **change)))
    assert not (tmp_path / PIPELINE_FILE).exists()
