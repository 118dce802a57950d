"""`edgekit diff`: what it prints, its JSON, its exit codes, and its answers to bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Edgekit

QUICK = ("--workload", "sequence=16", "--max-seconds", 1)


@pytest.fixture(scope="module")
def built(edgekit: Edgekit, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as fp32/ with a report, int8/ and int8.edgekit, by the command line; source/ is none."""
    root = tmp_path_factory.mktemp("built")
    rows = root / "rows.jsonl"
    texts = ("a good lamp", "the bad train is not good", "water", "people report music")
    lines = [json.dumps({"text": text, "label": "positive"}) for text in texts]
    rows.write_text("\n".join(lines), encoding="utf-8")
    shutil.copytree(tiny_model, root / "model")
    (root / "source").mkdir()
    (root / "source" / "config.json").write_text("{}", encoding="utf-8")
    choice = ("--backend", "onnxruntime", "--threads", 1)
    calibrated = ("--precision", "int8", "--calibration", rows, "--keep-anyway", "--max-seconds", 0)
    for command in (
        ("compile", root / "model", *choice, "-o", root / "fp32"),
        ("compile", root / "model", *choice, *calibrated, "-o", root / "int8"),
        ("validate", root / "fp32", "--no-budget", "--max-seconds", 1),
        ("package", root / "int8", "--allow-failed", "-o", root / "int8.edgekit"),
    ):
        done = edgekit(*command)
        assert done.returncode == 0, done.stderr
    return root


def test_the_text_names_both_sides_every_figure_and_a_sentence(edgekit: Edgekit, built: Path) -> None:
    done = edgekit("diff", built / "fp32", built / "int8.edgekit", *QUICK)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"OLD  {built / 'fp32'} (artifact: onnxruntime")
    assert lines[1].startswith(f"NEW  {built / 'int8.edgekit'} (package: onnxruntime")
    for title in ("latency p50, ms", "latency p90, ms", "cold start, ms", "memory, peak, MiB", "size, MiB"):
        assert any(line.startswith(title) for line in lines)
    assert any(line.startswith("precision") and line.endswith("int8") for line in lines)
    assert any(line.startswith("int8 on cpu") for line in lines)
    assert any(line.startswith("not measured: accuracy: ") and "--data" in line for line in lines)
    assert "confidence" in lines[-1]


def test_an_artifact_against_itself_is_never_called_different(edgekit: Edgekit, built: Path) -> None:
    done = edgekit("diff", built / "fp32", built / "fp32", *QUICK, "--fail-on", "bigger,fallback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No difference in speed is proven" in done.stdout or "as fast as OLD within" in done.stdout
    assert done.stdout.splitlines()[-1] == "PASS: not bigger PASS, no more fallback PASS"


def test_json_holds_the_whole_table_and_nothing_else(edgekit: Edgekit, built: Path) -> None:
    done = edgekit(
        "diff", built / "fp32", built / "int8", *QUICK, "--data", built / "rows.jsonl", "--json", "-q"
    )
    table = json.loads(done.stdout)
    assert done.returncode == 0 and not done.stderr
    assert table["schema"] == 1
    assert [figure["key"] for figure in table["figures"]] == [
        "latency_p50",
        "latency_p90",
        "cold_start",
        "peak_memory",
        "size",
        "accuracy",
    ]
    assert table["pairs"] and table["pairs"][0]["old_ms"] > 0
    assert table["accuracy"]["rows"] == 4
    assert table["gates"] == []


@pytest.mark.parametrize(
    ("old", "new", "gates", "code"),
    [
        ("fp32", "int8", "bigger", 0),
        ("int8", "fp32", "bigger", 1),
        ("int8", "fp32", "bigger,slower", 1),
        ("fp32", "fp32.report", "slower", 5),
    ],
)
def test_the_exit_code_is_that_of_the_worst_gate(
    edgekit: Edgekit, built: Path, old: str, new: str, gates: str, code: int
) -> None:
    """One second proves nothing about speed: `slower` is undecided, never PASS."""
    done = edgekit("diff", built / old, built / new, *QUICK, "--fail-on", gates)
    assert done.returncode == code, done.stdout + done.stderr
    words = {0: "PASS", 1: "FAIL", 5: "INCONCLUSIVE"}
    assert done.stdout.splitlines()[-1].startswith(f"{words[code]}: ")


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code", "text"),
    [
        (("fp32", "nowhere"), "usage", 2, "nowhere"),
        (("model", "fp32"), "usage", 2, "edgekit compile"),
        (("source", "fp32"), "bad-manifest", 2, "manifest.json"),
        (("fp32", "int8", "--fail-on", "slow"), "unknown-name", 2, "slower"),
        (("fp32", "int8", "--margin", "-1"), "usage", 2, "--margin"),
        (("fp32", "int8", "--data", "nowhere.jsonl"), "usage", 2, "nowhere.jsonl"),
        (("fp32", "int8", "--metric", "accuracy"), "usage", 2, "--data"),
        (("fp32", "int8", "--columns", "text"), "usage", 2, "--columns"),
        (("fp32", "int8", "--workload", "sequence=-1"), "usage", 2, "--workload"),
        (("fp32", "int8", "--device", "ssh//nobody"), "unknown-name", 2, "ssh//nobody"),
    ],
)
def test_bad_input_is_explained(
    edgekit: Edgekit, built: Path, arguments: tuple[str, ...], code: str, exit_code: int, text: str
) -> None:
    old, new, *flags = arguments
    done = edgekit("diff", built / old, built / new, *flags, "--json")
    error = json.loads(done.stdout)["error"]
    assert (error["code"], done.returncode) == (code, exit_code), error
    assert text in f"{error['message']} {error['hint']}"


def test_a_damaged_package_is_refused(edgekit: Edgekit, built: Path, tmp_path: Path) -> None:
    whole = (built / "int8.edgekit").read_bytes()
    harmed = tmp_path / "harmed.edgekit"
    harmed.write_bytes(whole[: len(whole) // 2])
    done = edgekit("diff", built / "fp32", harmed, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "bad-package"
