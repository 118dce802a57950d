"""A trained T5 goes the whole way on both engines, in fp32 and int8, and still translates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.report.jsonfmt import REPORT_FILE
from tests.conftest import Edgekit
from tests.translators import pairs, translator

pytestmark = pytest.mark.slow


def write_rows(path: Path, count: int, seed: int) -> Path:
    lines = [json.dumps({"text": text, "answer": answer}) for text, answer in pairs(count, seed)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def home(edgekit: Edgekit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model, test.jsonl, calibration.jsonl"""
    folder = tmp_path_factory.mktemp("translator")
    write_rows(folder / "test.jsonl", 40, 900)
    write_rows(folder / "calibration.jsonl", 60, 901)
    done = edgekit("export", translator(folder / "source"), "-o", folder / "model")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_translator_is_compiled_validated_compared_and_packaged(
    home: Path, edgekit: Edgekit, tmp_path: Path, backend: str
) -> None:
    quick = ("--workload", "data", "--max-seconds", 3, "--data", home / "test.jsonl")
    for precision in ("fp32", "int8"):
        made = tmp_path / precision
        calibration = ("--calibration", home / "calibration.jsonl") if precision == "int8" else ()
        asked = ("--backend", backend, "--precision", precision, *calibration, "--max-seconds", 5)
        done = edgekit("compile", home / "model", *asked, "-o", made)
        assert done.returncode == 0, done.stderr
        done = edgekit("validate", made, "--no-budget", *quick)
        assert done.returncode in (0, 5), done.stderr
        report = json.loads((made.with_name(f"{precision}.report") / REPORT_FILE).read_text("utf-8"))[
            "report"
        ]
        assert report["golden"]["outcome"] == "PASS"
        assert report["accuracy"]["model"] > 0.9, "a trained model, so that judging it means something"
        assert report["accuracy"]["artifact"] > report["accuracy"]["model"] - 0.1
        assert 1 <= report["generated"]["least"] < report["generated"]["most"]
    assert "decoder: " in (tmp_path / "int8" / "manifest.json").read_text("utf-8")
    done = edgekit(
        "diff", tmp_path / "fp32", tmp_path / "int8", "--workload", "sequence=8", "--max-seconds", 3
    )
    assert done.returncode == 0 and "answers to the timed inputs have: OLD" in done.stdout, done.stderr
    package = tmp_path / "translator.edgekit"
    done = edgekit("package", tmp_path / "fp32", "--allow-failed", "-o", package)
    assert done.returncode == 0, done.stderr
    done = edgekit("run", package, "red cat", "dog sleeps")
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["katze rot", "hund ruht"]
