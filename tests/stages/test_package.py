"""A package carries the verdict of this very artifact, run as it was validated, or none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgekit.errors import PackageRefused
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.package import PackageOptions, package
from edgekit.stages.validate import ValidateOptions, validate
from edgekit.values import Outcome
from edgekit_runtime.errors import DigestMismatch

QUICK = ValidateOptions(budget=("artifact_mib=200",), max_seconds=3)


@pytest.fixture(scope="module")
def compiled(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small compile of the trained model, one thread."""
    output = tmp_path_factory.mktemp("compiled") / "a"
    return compile_model(exported, output, CompileOptions(backend="onnxruntime", threads=1)).path


@pytest.fixture()
def artifact(compiled: Path, tmp_path: Path) -> Path:
    """A copy of it, as far from the model as it was, to be validated or harmed."""
    return Path(shutil.copytree(compiled, tmp_path / "a"))


def test_a_report_of_an_earlier_artifact_with_the_same_files_is_refused(
    exported: Path, artifact: Path, tmp_path: Path
) -> None:
    """fp32 artifacts hold the same bytes whatever their threads are: their manifests differ."""
    assert validate(artifact, options=QUICK).manifest.report is not None
    assert package(artifact, tmp_path / "one.edgekit").info.table.verdict == Outcome.PASS
    compile_model(exported, artifact, CompileOptions(backend="onnxruntime", threads=2))
    with pytest.raises(PackageRefused, match="of an earlier one"):
        package(artifact, tmp_path / "two.edgekit")
    assert not (tmp_path / "two.edgekit").exists()


def test_a_verdict_that_was_edited_is_found(artifact: Path, tmp_path: Path) -> None:
    options = ValidateOptions(budget=("artifact_mib=1",), max_seconds=3)
    report = validate(artifact, options=options).path / "manifest.json"
    with pytest.raises(PackageRefused, match="FAIL"):
        package(artifact, tmp_path / "it.edgekit")
    report.write_text(report.read_text(encoding="utf-8").replace('"FAIL"', '"PASS"'), encoding="utf-8")
    with pytest.raises(DigestMismatch, match=r"manifest\.json"):
        package(artifact, tmp_path / "it.edgekit")


def test_validating_without_a_budget_proves_nothing(artifact: Path, tmp_path: Path) -> None:
    result = validate(artifact, options=ValidateOptions(no_budget=True, max_seconds=3))
    assert result.manifest.report is not None
    assert result.manifest.report.verdict is Outcome.NOT_MEASURED
    table = package(artifact, tmp_path / "it.edgekit").info.table
    assert (table.verdict, table.unproven) == ("NOT_MEASURED", ("everything: validated without a budget",))


def test_the_threads_that_were_validated_are_the_threads_that_run(artifact: Path, tmp_path: Path) -> None:
    validate(artifact, options=ValidateOptions(budget=("artifact_mib=200",), max_seconds=3, threads=2))
    assert package(artifact, tmp_path / "it.edgekit").info.table.threads == 2


def test_a_changed_artifact_is_not_up_to_date(artifact: Path) -> None:
    validate(artifact, options=QUICK)
    assert validate(artifact, options=QUICK).up_to_date
    file = artifact / "model.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DigestMismatch, match=r"model\.onnx"):
        validate(artifact, options=QUICK)


def test_a_package_tells_nothing_of_the_builders_folders(artifact: Path, tmp_path: Path) -> None:
    made = package(artifact, tmp_path / "it.edgekit", PackageOptions(allow_failed=True))
    assert {entry.path for entry in made.info.inputs} == {""}
    assert (
        json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))["artifact"]["target"]["origin"]
        == ""
    )
