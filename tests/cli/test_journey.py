"""The whole way on a really fine-tuned model: every command, both runtimes, and what each leaves behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Edgekit

pytestmark = pytest.mark.slow

#: Limits that any machine keeps. None is on latency: what other work does to a test must not decide it.
GENEROUS = ("--budget", "artifact_mib=200", "--budget", "accuracy_drop=20")
QUICK = ("--max-seconds", 5)
LATENCY = ("--budget", "latency_p50_ms=10000", "--max-seconds", 60)
BACKENDS = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def artifacts(
    exported: Path, sentiment: Path, edgekit: Edgekit, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """One artifact per backend and precision, all by the command line."""
    root = tmp_path_factory.mktemp("artifacts")
    rows = sentiment / "data" / "calibration.jsonl"
    for backend in BACKENDS:
        for precision in ("fp32", "int8"):
            output = root / f"{backend}-{precision}"
            choice = ("--backend", backend, "--precision", precision, "--calibration", rows, "--threads", 1)
            done = edgekit("compile", exported, *choice, "--calibration-rows", 100, *QUICK, "-o", output)
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip() == str(output)
    return root


@pytest.fixture(scope="module")
def validated(artifacts: Path, few_rows: Path, edgekit: Edgekit) -> Path:
    """The int8 artifact of one backend with a passing report beside it."""
    artifact = artifacts / "onnxruntime-int8"
    done = edgekit("validate", artifact, "--data", few_rows, *GENEROUS, *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    return artifact


@pytest.mark.parametrize("backend", BACKENDS)
def test_int8_executes_in_int8_and_is_smaller(artifacts: Path, backend: str) -> None:
    sizes = {}
    for precision in ("fp32", "int8"):
        manifest = json.loads((artifacts / f"{backend}-{precision}" / "manifest.json").read_text())
        sizes[precision] = sum(entry["size"] for entry in manifest["files"])
        executed = {row["precision"] for row in manifest["artifact"]["placement"]["rows"] if row["nodes"]}
        assert precision in executed
        assert manifest["artifact"]["precision"] == precision
    assert executed != {"fp32"}
    assert sizes["int8"] < 0.6 * sizes["fp32"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_artifact_validates_against_a_generous_budget(
    artifacts: Path, few_rows: Path, edgekit: Edgekit, backend: str, precision: str
) -> None:
    artifact = artifacts / f"{backend}-{precision}"
    done = edgekit("validate", artifact, "--data", few_rows, *GENEROUS, *QUICK, "--json")
    report = json.loads(done.stdout)["report"]
    assert done.returncode == 0, (report["checks"], done.stderr)
    assert report["verdict"] == "PASS"
    assert report["golden"]["outcome"] == "PASS"
    assert report["launches"]
    assert {check["key"]: check["outcome"] for check in report["checks"]} == {
        "artifact_mib": "PASS",
        "accuracy_drop": "PASS",
    }
    assert report["accuracy"]["model"] > 0.7
    if precision == "fp32":
        assert report["accuracy"]["flips"] == 0


def test_a_report_is_readable_by_people_and_by_ci(validated: Path) -> None:
    report = validated.with_name(validated.name + ".report")
    assert {path.name for path in report.iterdir()} >= {
        "manifest.json",
        "report.json",
        "report.html",
        "junit.xml",
    }
    assert "PASS" in (report / "report.html").read_text(encoding="utf-8")


def test_validating_again_repeats_the_verdict_without_measuring(
    validated: Path, few_rows: Path, edgekit: Edgekit
) -> None:
    report = validated.with_name(validated.name + ".report") / "manifest.json"
    before = report.stat().st_mtime_ns
    done = edgekit("validate", validated, "--data", few_rows, *GENEROUS, *QUICK)
    assert done.returncode == 0
    assert "up to date" in done.stderr
    assert report.stat().st_mtime_ns == before


def test_a_latency_limit_is_proven_unless_the_machine_is_busy(
    validated: Path, edgekit: Edgekit, tmp_path: Path
) -> None:
    done = edgekit("validate", validated, *LATENCY, "-o", tmp_path / "report", "--json")
    (check,) = json.loads(done.stdout)["report"]["checks"]
    if check["outcome"] == "PASS":
        assert done.returncode == 0
        assert check["observed"]["low"] < check["observed"]["high"] < 10000
    else:
        assert (check["outcome"], done.returncode) == ("INCONCLUSIVE", 5)
        assert check["reason"]


def test_a_limit_that_is_not_kept_exits_with_1(validated: Path, edgekit: Edgekit, tmp_path: Path) -> None:
    limits = ("--budget", "artifact_mib=1", "--budget", "peak_memory_mib=1")
    done = edgekit("validate", validated, *limits, "-o", tmp_path / "report", "--json", "--max-seconds", 60)
    assert done.returncode == 1
    outcomes = {check["key"]: check["outcome"] for check in json.loads(done.stdout)["report"]["checks"]}
    assert outcomes == {"artifact_mib": "FAIL", "peak_memory_mib": "FAIL"}


def test_what_is_not_measured_is_never_a_pass(validated: Path, edgekit: Edgekit, tmp_path: Path) -> None:
    limits = ("--budget", "accuracy_drop=2", "--budget", "energy_mj=5", "--budget", "artifact_mib=200")
    done = edgekit("validate", validated, *limits, "-o", tmp_path / "report", "--json", "--max-seconds", 30)
    outcomes = {check["key"]: check["outcome"] for check in json.loads(done.stdout)["report"]["checks"]}
    assert outcomes == {
        "accuracy_drop": "NOT_MEASURED",
        "energy_mj": "NOT_MEASURED",
        "artifact_mib": "PASS",
    }
    assert done.returncode == 5


def test_too_little_time_is_inconclusive_and_says_what_it_would_take(
    validated: Path, edgekit: Edgekit, tmp_path: Path
) -> None:
    limits = ("--budget", "latency_p99_ms=10000")
    done = edgekit("validate", validated, *limits, "-o", tmp_path / "report", "--json", "--max-seconds", 4)
    (check,) = json.loads(done.stdout)["report"]["checks"]
    assert (done.returncode, check["outcome"]) == (5, "INCONCLUSIVE")
    assert "launches" in check["reason"]


def test_another_machine_is_not_measured(
    exported: Path, sentiment: Path, edgekit: Edgekit, tmp_path: Path
) -> None:
    artifact = tmp_path / "pi"
    done = edgekit("compile", exported, "--target", "raspberry-pi-5", "-o", artifact)
    assert done.returncode == 0, done.stderr
    assert "not 'raspberry-pi-5'" in done.stderr
    done = edgekit("validate", artifact, "--budget", "latency_p50_ms=10000", "--json", *QUICK)
    (check,) = json.loads(done.stdout)["report"]["checks"]
    assert (done.returncode, check["outcome"]) == (5, "NOT_MEASURED")


def test_calibration_rows_do_not_judge(
    artifacts: Path, sentiment: Path, edgekit: Edgekit, tmp_path: Path
) -> None:
    rows = sentiment / "data" / "calibration.jsonl"
    limits = ("--budget", "accuracy_drop=50", "-o", tmp_path / "report", "--json", *QUICK)
    done = edgekit("validate", artifacts / "openvino-int8", "--data", rows, *limits)
    (check,) = json.loads(done.stdout)["report"]["checks"]
    assert (done.returncode, check["outcome"]) == (5, "INCONCLUSIVE")
    assert "also calibrated" in check["reason"]


def test_a_package_runs_and_proves_itself(validated: Path, edgekit: Edgekit, tmp_path: Path) -> None:
    package = tmp_path / "sentiment.edgekit"
    done = edgekit("package", validated, "-o", package)
    assert (done.returncode, done.stdout.strip()) == (0, str(package)), done.stderr
    done = edgekit(
        "run", package, "a wonderful film, warm and funny", "dull, lifeless and far too long", "--json"
    )
    answers = [row["prediction"]["label"] for row in json.loads(done.stdout)["predictions"]]
    assert answers == ["positive", "negative"]
    done = edgekit("inspect", package, "--json")
    assert json.loads(done.stdout)["table"]["verdict"] == "PASS"
    assert edgekit("package", validated, "-o", package).stderr.startswith(f"{package}: up to date")


def test_an_artifact_without_a_passing_report_is_not_packaged(
    artifacts: Path, edgekit: Edgekit, tmp_path: Path
) -> None:
    artifact, package = artifacts / "openvino-fp32", tmp_path / "it.edgekit"
    nowhere = ("--report", tmp_path / "none")
    done = edgekit("package", artifact, *nowhere, "-o", package, "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "package-refused")
    assert not package.exists()
    done = edgekit("package", artifact, *nowhere, "-o", package, "--allow-failed", "--json")
    table = json.loads(done.stdout)["table"]
    assert done.returncode == 0
    assert table["allow_failed"] is True
    assert table["unproven"]


@pytest.mark.parametrize("what", ["model", "artifact", "report"])
def test_inspect_tells_what_is_inside_and_finds_a_changed_file(
    validated: Path, exported: Path, edgekit: Edgekit, tmp_path: Path, what: str
) -> None:
    report = validated.with_name(validated.name + ".report")
    path = tmp_path / what
    shutil.copytree({"model": exported, "artifact": validated, "report": report}[what], path)
    done = edgekit("inspect", path)
    assert done.returncode == 0, done.stderr
    assert f"edgekit {what}" in done.stdout
    victim = next(file for file in sorted(path.rglob("*")) if file.is_file() and file.name != "manifest.json")
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = edgekit("inspect", path, "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "digest-mismatch")
    assert victim.name in json.loads(done.stdout)["error"]["message"]


def test_a_compile_that_would_change_nothing_does_nothing(
    artifacts: Path, exported: Path, sentiment: Path, edgekit: Edgekit
) -> None:
    output = artifacts / "openvino-int8"
    before = (output / "manifest.json").stat().st_mtime_ns
    rows = ("--calibration", sentiment / "data" / "calibration.jsonl", "--calibration-rows", 100)
    choice = ("--backend", "openvino", "--precision", "int8", "--threads", 1)
    done = edgekit("compile", exported, *choice, *rows, "-o", output)
    assert (done.returncode, "up to date" in done.stderr) == (0, True)
    assert (output / "manifest.json").stat().st_mtime_ns == before
