"""The speller (see toys/speller.py), opened as a pipeline."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from edgekit_runtime.generation import GenerationSettings
from edgekit_runtime.pipelines import ENCODER_DECODER, EncoderDecoder, Pipeline, write_pipeline
from edgekit_runtime.values import OpenRequest

PARTS = ("encoder", "decoder")


@pytest.fixture(scope="session")
def speller() -> ModuleType:
    """The module: its `Part` is an opener."""
    spec = importlib.util.spec_from_file_location(
        "speller", Path(__file__).parents[1] / "toys" / "speller.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["speller"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def greedy() -> GenerationSettings:
    """Settings that spell a text of up to 20 letters."""
    return GenerationSettings(start=(2,), end=(3,), pad=0, max_tokens=21)


@pytest.fixture
def artifact(tmp_path: Path, greedy: GenerationSettings) -> Path:
    """An artifact of two parts."""
    directory = tmp_path / "artifact"
    for part in PARTS:
        (directory / part).mkdir(parents=True)
        (directory / part / "part.txt").write_text(part)
    write_pipeline(directory, Pipeline(kind=ENCODER_DECODER, parts=PARTS, generation=greedy))
    return directory


@pytest.fixture
def opened(speller: ModuleType, artifact: Path, greedy: GenerationSettings) -> Callable[..., object]:
    """Opens the parts and composes them: (session, encoder, decoder). Options go to both parts."""

    def compose(
        generation: GenerationSettings = greedy, **options: float | str
    ) -> tuple[EncoderDecoder, object, object]:
        parts = {
            part: speller.Part(OpenRequest(directory=artifact / part, precision="fp32", options=options))
            for part in PARTS
        }
        pipeline = Pipeline(kind=ENCODER_DECODER, parts=PARTS, generation=generation)
        return EncoderDecoder(parts, pipeline), parts["encoder"], parts["decoder"]

    return compose
