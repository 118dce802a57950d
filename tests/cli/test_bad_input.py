"""Bad input of every kind: a stable code, the right exit code, the file or key named, nothing left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Edgekit


def refused(edgekit: Edgekit, *arguments: object) -> tuple[int, str, str]:
    """(exit code, error code, message and hint) of a command that must fail."""
    done = edgekit(*arguments, "--json")
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == done.returncode
    return done.returncode, error["code"], f"{error['message']} {error['hint']}"


@pytest.fixture()
def model(exported: Path, tmp_path: Path) -> Path:
    """A copy of the exported model that a test may harm."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


def test_a_target_with_a_typo_names_the_nearest_key(edgekit: Edgekit, exported: Path, tmp_path: Path) -> None:
    target = tmp_path / "kiosk.toml"
    target.write_text('name = "kiosk"\nextends = "this-machine"\n[budget]\nlatncy_p90_ms = 3\n')
    code, name, text = refused(edgekit, "compile", exported, "--target", target, "-o", tmp_path / "a")
    assert (code, name) == (2, "bad-target")
    assert "latncy_p90_ms" in text and "latency_p90_ms" in text and "kiosk.toml" in text
    assert not (tmp_path / "a").exists()


def test_a_negative_budget_is_refused(edgekit: Edgekit, exported: Path, tmp_path: Path) -> None:
    target = tmp_path / "kiosk.toml"
    target.write_text('name = "kiosk"\nextends = "this-machine"\n[budget]\nlatency_p90_ms = -3\n')
    code, name, text = refused(edgekit, "compile", exported, "--target", target, "-o", tmp_path / "a")
    assert (code, name) == (2, "bad-target")
    assert "latency_p90_ms" in text


def test_a_cycle_of_targets_is_drawn(edgekit: Edgekit, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('name = "a"\nextends = "./b.toml"\n')
    (tmp_path / "b.toml").write_text('name = "b"\nextends = "./a.toml"\n')
    code, name, text = refused(
        edgekit, "compile", exported, "--target", tmp_path / "a.toml", "-o", tmp_path / "x"
    )
    assert (code, name) == (2, "bad-target")
    assert "a" in text and "->" in text


def test_an_unknown_target_backend_or_precision_names_the_nearest(
    edgekit: Edgekit, exported: Path, tmp_path: Path
) -> None:
    output = ("-o", tmp_path / "a")
    code, name, text = refused(edgekit, "compile", exported, "--target", "raspbery-pi-5", *output)
    assert (code, name, "raspberry-pi-5" in text) == (2, "unknown-name", True)
    code, name, text = refused(edgekit, "compile", exported, "--backend", "openvin", *output)
    assert (code, name, "'openvino'" in text) == (2, "unknown-name", True)
    choice = ("--backend", "onnxruntime", "--precision", "int88")
    code, name, text = refused(edgekit, "compile", exported, *choice, *output)
    assert (code, name, "'int8'" in text) == (2, "unknown-name", True)
    option = ("--backend", "onnxruntime", "--option", "per_chanel=true")
    code, name, text = refused(edgekit, "compile", exported, *option, *output)
    assert (code, name) == (2, "unknown-name")


def test_a_target_whose_backend_is_not_installed_says_so(
    edgekit: Edgekit, exported: Path, tmp_path: Path
) -> None:
    target = tmp_path / "board.toml"
    target.write_text('name = "board"\nbackend = "of-nobody"\n')
    code, name, text = refused(edgekit, "compile", exported, "--target", target, "-o", tmp_path / "a")
    assert (code, name) == (2, "unknown-name")
    assert "'of-nobody' is installed" in text and "onnxruntime" in text
    assert "pip install" not in text, "a foreign name is no pip command"


@pytest.mark.parametrize("harm", ["truncated", "garbage", "missing"])
def test_a_damaged_onnx_file_is_named_before_it_is_compiled(
    edgekit: Edgekit, model: Path, tmp_path: Path, harm: str
) -> None:
    file = model / "model.onnx"
    if harm == "truncated":
        file.write_bytes(file.read_bytes()[:1000])
    elif harm == "garbage":
        file.write_bytes(b"\xff" * 1000)
    else:
        file.unlink()
    choice = ("--backend", "onnxruntime", "-o", tmp_path / "a")
    code, name, text = refused(edgekit, "compile", model, *choice)
    assert (code, name, "model.onnx" in text) == (2, "digest-mismatch", True)
    assert not (tmp_path / "a").exists()


def test_a_folder_that_is_no_model_says_what_makes_one(edgekit: Edgekit, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    code, name, text = refused(
        edgekit, "compile", tmp_path / "folder", "--backend", "onnxruntime", "-o", tmp_path / "a"
    )
    assert (code, name, "edgekit export" in text) == (2, "bad-manifest", True)


def test_int8_without_the_rows_it_needs_says_how_to_give_them(
    edgekit: Edgekit, exported: Path, tmp_path: Path
) -> None:
    choice = ("--backend", "openvino", "--precision", "int8", "-o", tmp_path / "a")
    code, _, text = refused(edgekit, "compile", exported, *choice)
    assert "--calibration" in text
    assert code in (2, 4)
    assert not (tmp_path / "a").exists()


@pytest.fixture(scope="module")
def artifact(exported: Path, edgekit: Edgekit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bad") / "artifact"
    done = edgekit("compile", exported, "--backend", "onnxruntime", "-o", output)
    assert done.returncode == 0, done.stderr
    return output


def test_validating_without_a_budget_is_a_usage_error(edgekit: Edgekit, artifact: Path) -> None:
    code, name, text = refused(edgekit, "validate", artifact)
    assert (code, name, "--no-budget" in text) == (2, "usage", True)


@pytest.mark.parametrize(
    "budget", ["latency_p9_ms=3", "latency_p90_ms=x", "latency_p90_ms=-1", "latency_p90_ms"]
)
def test_a_budget_that_makes_no_sense_is_refused(edgekit: Edgekit, artifact: Path, budget: str) -> None:
    code, _, text = refused(edgekit, "validate", artifact, "--budget", budget)
    assert code == 2
    assert "latency_p9" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"review": "fine", "label": "positive"}\n', ("text", "review")),
        ("", ("no rows",)),
        ('{"text": "fine", "label": "splendid"}\n', ("splendid", "positive")),
        ('{"text": "fine", "label": "positive"}\n{"text": \n', ("row 2",)),
        ('{"text": "fine"}\n', ("label",)),
        ('{"text": "\\ud800", "label": "positive"}\n', ("row 1", "half a character")),
    ],
    ids=["missing column", "empty", "unknown label", "broken line", "no label", "half a character"],
)
def test_rows_that_cannot_judge_are_named(
    edgekit: Edgekit, artifact: Path, tmp_path: Path, content: str, words: tuple[str, ...]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(content)
    code, name, text = refused(edgekit, "validate", artifact, "--data", rows, "--budget", "accuracy_drop=2")
    assert (code, name) == (2, "bad-data")
    assert "rows.jsonl" in text
    assert all(word in text for word in words), text


def test_a_foreign_output_is_never_touched(edgekit: Edgekit, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    choice = ("--backend", "onnxruntime", "--force", "-o", tmp_path / "mine")
    code, name, _ = refused(edgekit, "compile", exported, *choice)
    assert (code, name) == (2, "bad-output")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_moved_or_changed_model_is_not_taken_for_the_one_compiled(
    edgekit: Edgekit, artifact: Path, model: Path
) -> None:
    (model / "extra.txt").write_text("x")
    budget = ("--budget", "artifact_mib=200", "--max-seconds", 5)
    code, name, _ = refused(edgekit, "validate", artifact, "--model", model, *budget)
    assert (code, name) == (2, "digest-mismatch")
    code, name, text = refused(edgekit, "validate", artifact, "--model", model.parent / "gone", *budget)
    assert (code, name, "--model" in text) == (2, "bad-manifest", True)


def test_usage_errors_of_the_command_line_exit_with_2(edgekit: Edgekit) -> None:
    assert edgekit("compile").returncode == 2
    assert edgekit("frobnicate").returncode == 2
    assert edgekit("validate", "x", "--confidence", "7").returncode == 2


def test_unknown_manifest_keys_are_refused(edgekit: Edgekit, artifact: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "copy"))
    data = json.loads((copy / "manifest.json").read_text())
    data["artifact"]["precison"] = "int8"
    (copy / "manifest.json").write_text(json.dumps(data))
    code, name, text = refused(edgekit, "inspect", copy)
    assert (code, name) == (2, "bad-manifest")
    assert "precison" in text and "precision" in text
