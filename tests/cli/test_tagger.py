"""A trained tagger the whole way by the command line: export, compile, validate on rows of words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Edgekit
from tests.taggers import tagged_sentences, trained_tagger


@pytest.fixture(scope="module")
def artifact(edgekit: Edgekit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tagger, exported and compiled."""
    root = tmp_path_factory.mktemp("tagger")
    done = edgekit("export", trained_tagger(root / "source"), "-o", root / "model")
    assert done.returncode == 0, done.stderr
    done = edgekit(
        "compile", root / "model", "--backend", "onnxruntime", "--threads", 1, "-o", root / "artifact"
    )
    assert done.returncode == 0, done.stderr
    return root / "artifact"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences that the tagger was not trained on."""
    path = tmp_path_factory.mktemp("rows") / "test.jsonl"
    sentences = tagged_sentences(240, seed=9)
    lines = (json.dumps({"words": words, "tags": tags}) + "\n" for words, tags in sentences)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_tags_of_a_trained_model_are_judged_by_entities_and_none_changes(
    artifact: Path, rows: Path, edgekit: Edgekit
) -> None:
    limits = ("--budget", "accuracy_drop=20", "--budget", "artifact_mib=100")
    done = edgekit("validate", artifact, "--data", rows, *limits, "--max-seconds", 60, "--json")
    report = json.loads(done.stdout)["report"]
    assert report["golden"]["outcome"] == "PASS", report["golden"]
    accuracy = report["accuracy"]
    assert accuracy["metric"] == "entity-f1"
    assert accuracy["model"] > 0.9
    assert accuracy["artifact"] == accuracy["model"]
    assert accuracy["flips"] == 0


def test_a_row_whose_tags_are_not_as_many_as_its_words_is_named(
    artifact: Path, tmp_path: Path, edgekit: Edgekit
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({"words": ["mr", "paris"], "tags": ["O"]}) + "\n", encoding="utf-8")
    done = edgekit("validate", artifact, "--data", path, "--no-budget")
    assert done.returncode == 2
    assert "bad.jsonl" in done.stderr
    assert "tags" in done.stderr
