"""An artifact opens as one session, whether it is made of one graph or of several."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit_runtime import serving
from edgekit_runtime.calls import Call, WorkerState
from edgekit_runtime.codec import Table
from edgekit_runtime.errors import ManifestError, OpenFailed
from edgekit_runtime.feeds import pack, unpack
from edgekit_runtime.generation import SCORES, TOKENS, GenerationSettings
from edgekit_runtime.pipelines import (
    ENCODER_DECODER,
    PIPELINE_FILE,
    EncoderDecoder,
    Pipeline,
    open_artifact,
    write_pipeline,
)
from edgekit_runtime.values import OpenRequest

FEEDS = {"input_ids": np.array([[5, 6]]), "attention_mask": np.array([[1, 1]])}


@pytest.fixture
def parts(speller: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every part that is opened while the test runs."""
    opened: list[Any] = []

    class Noted(speller.Part):  # type: ignore[name-defined, misc]
        def __init__(self, request: OpenRequest) -> None:
            super().__init__(request)
            self.request = request
            opened.append(self)

    monkeypatch.setattr(speller, "Part", Noted)
    return opened


def test_each_part_is_opened_in_its_own_directory_by_the_same_request(
    speller: ModuleType, parts: list[Any], artifact: Path
) -> None:
    request = OpenRequest(directory=artifact, precision="int8", threads=3, device="cpu", options={"mix": 0.5})
    session = open_artifact(speller.Part, request)
    assert isinstance(session, EncoderDecoder)
    assert [part.request.directory for part in parts] == [artifact / "encoder", artifact / "decoder"]
    for part in parts:
        found = part.request
        assert (found.precision, found.threads, found.device) == ("int8", 3, "cpu")
        assert found.options == {"mix": 0.5}
    session.close()
    assert [part.closed for part in parts] == [1, 1]


def test_a_model_of_one_graph_is_opened_as_it_is(speller: ModuleType, artifact: Path) -> None:
    request = OpenRequest(directory=artifact / "encoder", precision="fp32")
    session = open_artifact(speller.Part, request)
    assert type(session) is speller.Part
    assert session.run(FEEDS).keys() == {"cross.0.key", "cross.0.value"}


def test_parts_that_were_opened_are_closed_when_a_later_one_is_not(
    speller: ModuleType, parts: list[Any], artifact: Path
) -> None:
    request = OpenRequest(directory=artifact, precision="fp32", options={"refuse": "decoder"})
    with pytest.raises(OpenFailed, match="told to refuse the decoder"):
        open_artifact(speller.Part, request)
    assert [(part.part, part.closed) for part in parts] == [("encoder", 1)]


def test_parts_that_do_not_fit_each_other_are_closed(
    speller: ModuleType, parts: list[Any], artifact: Path
) -> None:
    (artifact / "decoder" / "part.txt").write_text("encoder")
    with pytest.raises(OpenFailed, match="do not fit each other"):
        open_artifact(speller.Part, OpenRequest(directory=artifact, precision="fp32"))
    assert [part.closed for part in parts] == [1, 1]


def test_a_part_that_is_missing_is_named_and_none_is_opened(
    speller: ModuleType, parts: list[Any], artifact: Path
) -> None:
    shutil.rmtree(artifact / "decoder")
    with pytest.raises(OpenFailed, match="lacks its part 'decoder'") as caught:
        open_artifact(speller.Part, OpenRequest(directory=artifact, precision="fp32"))
    assert "compile it again" in caught.value.hint
    assert parts == []


def test_a_pipeline_that_leads_outside_opens_nothing(
    speller: ModuleType, parts: list[Any], artifact: Path
) -> None:
    value = json.loads((artifact / PIPELINE_FILE).read_text())
    (artifact / PIPELINE_FILE).write_text(json.dumps({**value, "parts": ["encoder", "../artifact"]}))
    with pytest.raises(ManifestError, match="is refused"):
        open_artifact(speller.Part, OpenRequest(directory=artifact, precision="fp32"))
    assert parts == []


# --- in the worker ------------------------------------------------------------------------------------


def call(state: WorkerState, body: bytes = b"", **params: Any) -> Call:
    return Call(params=Table(params), body=body, state=state)


def test_the_worker_opens_runs_times_and_closes_it_as_any_session(
    speller: ModuleType, parts: list[Any], artifact: Path
) -> None:
    state = WorkerState(openers={"speller": speller.Part})
    opened = serving.open_session(
        call(state, backend="speller", directory=str(artifact), precision="fp32")
    ).value
    assert isinstance(opened, dict)
    assert [spec["name"] for spec in opened["signature"]["outputs"]] == [TOKENS, SCORES]  # type: ignore[index, call-overload]
    name = opened["session"]
    outputs = unpack(serving.run(call(state, pack(FEEDS), session=name)).body)
    assert outputs[TOKENS].tolist() == [[5, 6, 3]]
    placement = serving.placement(call(state, session=name)).value
    assert isinstance(placement, dict)
    assert placement["source"] == "known"
    profile = json.loads(serving.profile(call(state, session=name)).body)
    assert {item["name"] for item in profile} == {"encoder/node", "decoder/node"}
    serving.close_session(call(state, session=name))
    assert [part.closed for part in parts] == [1, 1]


def test_the_worker_tells_a_broken_pipeline_as_such(speller: ModuleType, artifact: Path) -> None:
    (artifact / PIPELINE_FILE).write_text("{")
    state = WorkerState(openers={"speller": speller.Part})
    with pytest.raises(ManifestError, match=r"pipeline\.json is not valid JSON"):
        serving.open_session(call(state, backend="speller", directory=str(artifact), precision="fp32"))


def test_a_backend_with_a_bug_is_told_with_its_name(speller: ModuleType, artifact: Path) -> None:
    settings = GenerationSettings(start=(2,), end=(3,), pad=0, max_tokens=4)
    pipeline = Pipeline(kind=ENCODER_DECODER, parts=("encoder", "decoder"), generation=settings)
    write_pipeline(artifact, pipeline)

    def opener(request: OpenRequest) -> Any:
        return object()

    state = WorkerState(openers={"speller": opener})
    with pytest.raises(OpenFailed, match="backend 'speller' could not open artifact"):
        serving.open_session(call(state, backend="speller", directory=str(artifact), precision="fp32"))
