"""The whole way on a machine without the GPU: real engines for one, and no claim about running them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.files.manifests import read_manifest
from edgekit.stages.export import export
from edgekit.stages.parents import table_of
from edgekit.values import Change, Outcome
from edgekit_runtime.errors import HardwareMissing
from edgekit_tensorrt.description import read_description
from edgekit_tensorrt.driver import find_gpu
from tests.conftest import run_edgekit
from tests.models import WORDS, Size, tiny_classifier

LIMITS = ("latency_p90_ms=20", "accuracy_drop=1", "max_fallback=0.1", "artifact_mib=100")


@pytest.fixture(scope="module", autouse=True)
def without_the_gpu() -> None:
    try:
        gpu = find_gpu()
    except HardwareMissing:
        return
    if gpu.architecture == "sm_89":
        pytest.skip(f"this machine has what the engines are for ({gpu.name}): the conformance kit runs them")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported classifier and labelled rows."""
    home = tmp_path_factory.mktemp("journey")
    source = tiny_classifier(home / "source", Size(hidden=192, layers=2, heads=4, positions=128), seed=3)
    export(source, home / "model")
    drawn = random.Random(7)
    for name, count in (("calibration", 40), ("test", 20)):
        texts = (" ".join(drawn.choices(WORDS[:12], k=6)) for _ in range(count))
        rows = (json.dumps({"text": text, "label": drawn.choice(("negative", "positive"))}) for text in texts)
        (home / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    return home


@pytest.fixture(scope="module", params=["fp16", "int8", "fp8"])
def artifact(home: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Compiled by the command line."""
    output = home / request.param
    rows = ("--calibration", home / "calibration.jsonl") if request.param in ("int8", "fp8") else ()
    chosen = ("--target", "rtx-4060", "--precision", request.param)
    done = run_edgekit("compile", home / "model", *chosen, *rows, "-o", output)
    assert done.returncode == 0, done.stderr
    assert "unproven: it was never run" in done.stderr
    yield output


def test_a_real_engine_is_built_and_its_manifest_claims_no_run(artifact: Path, home: Path) -> None:
    table = table_of(read_manifest(artifact, "artifact").artifact)
    description = read_description(artifact)
    assert (description.library, description.architectures) == ("tensorrt-rtx", ("sm_89",))
    assert table.engine_versions["tensorrt-rtx"] == description.version
    assert table.precision == description.precision == artifact.name
    assert table.run.device == "gpu"
    assert table.placement is None
    assert table.signature == table_of(read_manifest(home / "model", "model").model).signature
    assert (artifact / "engine.plan").read_bytes()[:4] == b"vtrt"
    assert f"for sm_89 on {description.system}" in " ".join(table.notes)
    if artifact.name in ("int8", "fp8"):
        assert table.calibration is not None
        assert table.calibration.ranges > 0
        assert table.earned is not None
        assert (table.earned.refusal, table.earned.latency.change) == ("", Change.NOT_MEASURED)


def test_validate_exits_with_5_and_says_what_to_do(artifact: Path, home: Path) -> None:
    limits = [word for limit in LIMITS for word in ("--budget", limit)]
    done = run_edgekit("validate", artifact, "--data", home / "test.jsonl", *limits)
    assert done.returncode == 5, done.stdout
    assert "to have it measured, run `edgekit validate` on 'rtx-4060' itself" in done.stdout
    report = table_of(read_manifest(artifact.with_name(f"{artifact.name}.report"), "report").report)
    outcomes = {check.key: check.outcome for check in report.checks}
    assert outcomes.pop("artifact_mib") is Outcome.PASS
    assert set(outcomes.values()) == {Outcome.NOT_MEASURED}
    assert report.launches == ()


def test_a_package_travels_with_its_doubts_and_running_it_here_says_what_is_missing(
    artifact: Path, home: Path, tmp_path: Path
) -> None:
    if not artifact.with_name(f"{artifact.name}.report").is_dir():
        run_edgekit("validate", artifact, "--budget", LIMITS[0])
    file = tmp_path / "it.edgekit"
    done = run_edgekit("package", artifact, "-o", file)
    assert done.returncode == 0, done.stderr
    shown = run_edgekit("inspect", file)
    assert "unproven: answers, latency_p90_ms" in shown.stdout
    done = run_edgekit("run", file, "a good train")
    assert done.returncode == 4
    assert "error[hardware-missing]" in done.stderr
    assert "run this on the device" in done.stderr


def test_the_backend_answers_for_every_operator_before_anything_is_built(home: Path) -> None:
    done = run_edgekit(
        "backend", "check", "tensorrt", "--model", home / "model", "--target", "rtx-4060", "--json"
    )
    assert done.returncode == 0, done.stdout
    support = json.loads(done.stdout)
    assert support["supported"]
    assert "MatMul" in {row["op_type"] for row in support["operators"]}


def test_a_card_without_the_precision_is_refused_with_those_that_it_has(home: Path, tmp_path: Path) -> None:
    for precision in ("bf16", "fp8", "fp32"):
        output = tmp_path / precision
        done = run_edgekit(
            "compile", home / "model", "--target", "t4", "--precision", precision, "-o", output
        )
        assert done.returncode == 1, done.stderr
        assert "error[precision-not-given]" in done.stderr
        assert "fp16, int8" in done.stderr
        assert not output.exists()


def test_int8_for_a_card_without_fp32_engines_is_compared_with_none(home: Path, tmp_path: Path) -> None:
    chosen = ("--target", "t4", "--precision", "int8", "--calibration", home / "calibration.jsonl")
    done = run_edgekit("compile", home / "model", *chosen, "-o", tmp_path / "int8")
    assert done.returncode == 0, done.stderr
    assert "int8 was compared with no higher precision: fp32 cannot be built" in done.stderr
    assert read_description(tmp_path / "int8").architectures == ("sm_75",)


def test_an_engine_for_a_board_is_refused_where_the_board_is_not(home: Path, tmp_path: Path) -> None:
    target = ("--target", "jetson-orin-nano", "--precision", "fp16")
    done = run_edgekit("compile", home / "model", *target, "-o", tmp_path / "a")
    assert done.returncode == 4, done.stderr
    assert "error[backend-unavailable]" in done.stderr
    assert "builds on the target itself" in done.stderr
