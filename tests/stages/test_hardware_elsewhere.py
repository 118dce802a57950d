"""An artifact whose hardware is not in this machine: it is built, and nothing is claimed of it."""

from __future__ import annotations

import functools
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.errors import CompileFailed
from edgekit.files.manifests import Manifest, read_manifest
from edgekit.report import render
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.package import PackageOptions, package
from edgekit.stages.parents import table_of
from edgekit.stages.validate import ValidateOptions, validate
from edgekit.stages.verdicts import exit_code
from edgekit.values import ArtifactTable, Change, Match, Outcome, RunSettings, Target, Workload
from edgekit_runtime.errors import HardwareMissing
from tests.models import WORDS
from tests.plugin_folders import install_plugin

MISSING = "there is no accelerator in this machine"
#: Builds anywhere, in int8 a smaller file; opens nowhere, for its engine runs on what is not here.
ELSEWHERE = f"""
from dataclasses import replace
from edgekit.api import CompileFailed, HardwareMissing
from edgekit_example import compiler as good

SPEC = dict(
    arches=("x86_64", "AMD64", "aarch64", "arm64"), precisions=("fp32", "int8"),
    capabilities=("dynamic-shapes", "placement", "keep-high"), device="accelerator",
)
UNBUILDABLE = ()

class Compiler(good.Compiler):
    def compile(self, request, progress):
        if request.precision in UNBUILDABLE:
            raise CompileFailed(f"there are no {{request.precision}} kernels for it")
        built = super().compile(replace(request, precision="fp32"), progress)
        if request.precision == "int8":
            return replace(built, precision="int8")
        (request.workdir / "full.bin").write_bytes(bytes(1 << 20))  # what int8 saves
        return replace(built, files=(*built.files, "full.bin"))

def open(request):
    raise HardwareMissing({MISSING!r}, hint="run it where one is")
"""
LIMITS = (
    "latency_p90_ms=20",
    "peak_memory_mib=500",
    "accuracy_drop=1",
    "max_fallback=0",
    "artifact_mib=1000",
)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Path:
    return tiny_model


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CompileOptions]:
    install_plugin(monkeypatch, tmp_path, "elsewhere", ELSEWHERE)
    target = Target(
        name="board",
        match=Match(gpu="A board's own"),
        run=RunSettings(device="gpu"),
        workload=Workload(sequence=16),
    )
    return functools.partial(CompileOptions, target=target, backend="elsewhere")


def rows(path: Path, count: int = 120) -> Path:
    drawn = random.Random(path.name)
    texts = [" ".join(drawn.choices(WORDS[:12], k=5)) for _ in range(count)]
    lines = (json.dumps({"text": text, "label": drawn.choice(("negative", "positive"))}) for text in texts)
    path.write_text("\n".join(lines) + "\n")
    return path


def built(model: Path, output: Path, options: CompileOptions) -> ArtifactTable:
    return table_of(compile_model(model, output, options).manifest.artifact)


def test_it_is_kept_with_the_models_signature_and_a_note_that_nothing_is_proven(
    model: Path, tmp_path: Path, options: Callable[..., CompileOptions]
) -> None:
    table = built(model, tmp_path / "a", options(precision="fp32"))
    assert table.signature == table_of(read_manifest(model, "model").model).signature
    assert table.placement is None
    assert table.run.device == "gpu", "the target's word"
    wanted = f"unproven: it was never run: {MISSING}; `edgekit validate` on 'board' tells whether it is right"
    assert wanted in table.notes
    assert not any("checked on" in note or "agree" in note for note in table.notes)


def test_int8_earns_its_place_by_its_size_alone_and_no_node_is_chosen(
    model: Path, tmp_path: Path, options: Callable[..., CompileOptions]
) -> None:
    asked = options(
        precision="int8", calibration=rows(tmp_path / "rows.jsonl"), calibration_rows=40,
        tune_data=rows(tmp_path / "tune.jsonl", 60), budget=("accuracy_drop=1",),
    )  # fmt: skip
    table = built(model, tmp_path / "a", asked)
    assert table.earned is not None
    assert table.earned.size < 1
    assert table.earned.latency.change is Change.NOT_MEASURED
    assert table.restored is None
    assert f"unproven: accuracy_drop chose no node to keep high: {MISSING}" in table.notes
    assert not any("emulated" in note for note in table.notes), "a CPU like the target's says nothing of it"


def test_a_speed_that_cannot_be_compared_is_not_measured_even_where_the_machine_is_the_target(
    model: Path, tmp_path: Path, options: Callable[..., CompileOptions]
) -> None:
    asked = options(precision="int8", calibration=rows(tmp_path / "rows.jsonl"), target="this-machine")
    table = built(model, tmp_path / "a", asked)
    assert table.earned is not None
    assert (table.earned.latency.change, table.earned.latency.reason) == (Change.NOT_MEASURED, MISSING)
    assert table.run.device == "accelerator", "the backend's own word, where the target has none"


def test_auto_takes_no_precision_whose_answers_nobody_has_seen(
    model: Path, tmp_path: Path, options: Callable[..., CompileOptions]
) -> None:
    table = built(model, tmp_path / "a", options(precision="auto", calibration=rows(tmp_path / "rows.jsonl")))
    assert table.precision == "fp32"
    assert any(
        note.startswith("int8 was not kept: its answers cannot be checked here") for note in table.notes
    )


def test_hardware_without_kernels_for_the_higher_precision_gets_the_lower_one_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Callable[..., CompileOptions]
) -> None:
    install_plugin(monkeypatch, tmp_path, "int8-only", ELSEWHERE + "\nUNBUILDABLE = ('fp32',)\n")
    asked = functools.partial(options, backend="int8-only", precision="int8")
    asked = functools.partial(asked, calibration=rows(tmp_path / "rows.jsonl"))
    table = built(model, tmp_path / "a", asked())
    assert table.precision == "int8"
    assert table.earned is None
    assert any("cannot be built: there are no fp32 kernels for it" in note for note in table.notes)
    with pytest.raises(CompileFailed, match="no fp32 kernels"):  # nodes kept high would need them
        compile_model(
            model,
            tmp_path / "b",
            asked(tune_data=rows(tmp_path / "tune.jsonl", 60), budget=("accuracy_drop=1",)),
        )


@pytest.fixture
def artifact(model: Path, tmp_path: Path, options: Callable[..., CompileOptions]) -> Path:
    return compile_model(model, tmp_path / "artifact", options(precision="fp32")).path


def outcomes(manifest: Manifest) -> dict[str, Outcome]:
    return {check.key: check.outcome for check in table_of(manifest.report).checks}


def test_validate_measures_nothing_but_the_size_and_says_where_it_can_be(
    artifact: Path, tmp_path: Path
) -> None:
    asked = ValidateOptions(data=rows(tmp_path / "test.jsonl", 20), budget=LIMITS)
    manifest = validate(artifact, options=asked).manifest
    report = table_of(manifest.report)
    assert outcomes(manifest).pop("artifact_mib") is Outcome.PASS
    assert {what for key, what in outcomes(manifest).items() if key != "artifact_mib"} == {
        Outcome.NOT_MEASURED
    }
    assert exit_code(manifest) == 5
    reasons = {check.reason for check in report.checks if check.outcome is Outcome.NOT_MEASURED}
    assert reasons == {f"nothing was run: {MISSING}"}
    assert report.golden is not None
    assert (report.golden.outcome, report.golden.reason) == (Outcome.NOT_MEASURED, MISSING)
    assert (report.launches, report.accuracy, report.placement) == ((), None, None)
    assert (
        f"nothing was run: {MISSING}; to have it measured, run `edgekit validate` on 'board' itself"
        in report.notes
    )
    for form in ("terminal", "markdown", "html", "junit"):
        assert MISSING in render(form, manifest), form
    assert not validate(artifact, options=asked).up_to_date, "the hardware may be there the next time"


def test_limits_that_all_pass_without_a_run_prove_nothing(artifact: Path) -> None:
    manifest = validate(artifact, options=ValidateOptions(budget=("artifact_mib=1000",))).manifest
    assert outcomes(manifest) == {"artifact_mib": Outcome.PASS}
    assert table_of(manifest.report).verdict is Outcome.NOT_MEASURED
    assert exit_code(manifest) == 5
    assert f"is not proven: it was not run: {MISSING}" in render("terminal", manifest)


def test_a_limit_on_the_size_can_be_missed_here(artifact: Path) -> None:
    manifest = validate(artifact, options=ValidateOptions(budget=("artifact_mib=0.5",))).manifest
    assert exit_code(manifest) == 1


def test_measuring_without_a_budget_is_no_success_where_nothing_ran(artifact: Path) -> None:
    manifest = validate(artifact, options=ValidateOptions(no_budget=True)).manifest
    assert exit_code(manifest) == 5


def test_a_package_lists_what_is_unproven_and_running_it_says_what_is_missing(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate(artifact, options=ValidateOptions(budget=LIMITS))
    result = package(artifact, tmp_path / "it.edgekit", PackageOptions())
    assert result.info.table.unproven == (
        "answers", "latency_p90_ms", "peak_memory_mib", "accuracy_drop", "max_fallback",
    )  # fmt: skip
    assert not result.info.table.allow_failed
    path = next(folder for folder in sys.path if "plugin-elsewhere" in folder)
    monkeypatch.setenv("PYTHONPATH", path)
    for command in (("edgekit", "run"), ("edgekit_runtime", "run"), ("edgekit_runtime", "verify")):
        words = ("a good train",) if command[1] == "run" else ()
        done = subprocess.run(
            [sys.executable, "-m", *command, str(result.path), *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == HardwareMissing.exit_code == 4, done.stderr
        assert MISSING in done.stderr
        assert "run it where one is" in done.stderr
        assert "Traceback" not in done.stderr
