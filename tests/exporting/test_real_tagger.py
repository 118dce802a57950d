"""A MiniLM encoder tuned on the Brown corpus tags words of unseen documents, in fp32 and in int8."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CACHE, Edgekit
from tests.real_tagger import sentences, tuned_tagger, write_rows

pytestmark = pytest.mark.slow

DOWNLOADS = CACHE / "downloads"
HELD_OUT = 1000


@pytest.fixture(scope="module")
def model(sentiment: Path, edgekit: Edgekit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tagger, tuned on documents of their own and exported."""
    root = tmp_path_factory.mktemp("tagger")
    source = tuned_tagger(sentiment / "encoder", sentences(DOWNLOADS, "01234567", 1600), root / "source")
    done = edgekit("export", source, "-o", root / "model")
    assert done.returncode == 0, done.stderr
    return root / "model"


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences that only quantization sees."""
    return write_rows(tmp_path_factory.mktemp("rows") / "few.jsonl", sentences(DOWNLOADS, "8", 200))


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences that judge."""
    return write_rows(tmp_path_factory.mktemp("rows") / "test.jsonl", sentences(DOWNLOADS, "9", HELD_OUT))


def judged(edgekit: Edgekit, artifact: Path, rows: Path) -> dict[str, Any]:
    """The report on an artifact, by the share of right tags: these classes mark no entities."""
    limits = ("--no-budget", "--max-seconds", 3)
    done = edgekit("validate", artifact, "--data", rows, "--metric", "tag-accuracy", *limits, "--json")
    report: dict[str, Any] = json.loads(done.stdout)["report"]
    assert report["accuracy"]["rows"] == HELD_OUT
    return report


def test_it_tags_unseen_documents_rightly_and_int8_as_well_as_fp32(
    model: Path, calibration: Path, held_out: Path, edgekit: Edgekit, tmp_path: Path
) -> None:
    assert json.loads((model / "manifest.json").read_text())["model"]["task"] == "token-classification"
    compiled = ("compile", model, "--backend", "onnxruntime", "--precision")
    done = edgekit(*compiled, "fp32", "-o", tmp_path / "fp32")
    assert done.returncode == 0, done.stderr
    rows = ("--calibration", calibration, "--max-seconds", 0)
    done = edgekit(*compiled, "int8", *rows, "-o", tmp_path / "int8")
    assert done.returncode == 0, done.stderr

    fp32 = judged(edgekit, tmp_path / "fp32", held_out)
    assert fp32["golden"]["outcome"] == "PASS", fp32["golden"]
    assert fp32["accuracy"]["flips"] == 0
    assert fp32["accuracy"]["model"] > 0.9
    int8 = judged(edgekit, tmp_path / "int8", held_out)
    assert int8["golden"]["outcome"] == "PASS", int8["golden"]
    assert int8["artifact_mib"] < 0.3 * fp32["artifact_mib"]
    assert int8["accuracy"]["artifact"] > fp32["accuracy"]["artifact"] - 0.01
