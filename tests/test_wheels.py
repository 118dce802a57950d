"""What is shipped works away from the checkout: wheels in a fresh environment, without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

WHEELS = (
    ".",
    *(f"plugins/edgekit-{name}" for name in ("runtime", "onnxruntime", "openvino", "tensorrt", "example")),
)
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def python(*arguments: object, executable: Path | str = sys.executable, cwd: Path = ROOT) -> str:
    command = [str(executable), *map(str, arguments)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=clean, timeout=580
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every distribution of the repository as a wheel."""
    directory = tmp_path_factory.mktemp("wheels")
    python("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", directory, *WHEELS)
    return directory


@pytest.fixture(scope="module")
def fresh(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that holds the wheels, one engine, and nothing for export."""
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home, with_pip=True)
    executable = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    wanted = ("edgekit", "edgekit-onnxruntime[compile]")
    options = ("-q", "--disable-pip-version-check", "-c", ROOT / "constraints.txt", "--find-links", wheels)
    python("-m", "pip", "install", *options, *wanted, executable=executable, cwd=home)
    return executable


@pytest.fixture(scope="module")
def run(fresh: Path) -> Run:
    """The command line of the fresh environment, run far from the checkout."""

    def run_edgekit(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        command = [str(fresh.with_name("edgekit")), *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=cwd, env=clean, timeout=580
        )

    return run_edgekit


def test_every_wheel_holds_its_code_and_its_marker_of_types(wheels: Path) -> None:
    import zipfile

    found = {
        wheel.name.split("-")[0]: set(zipfile.ZipFile(wheel).namelist()) for wheel in wheels.glob("*.whl")
    }
    assert set(found) == {
        f"edgekit{end}" for end in ("", "_runtime", "_onnxruntime", "_openvino", "_tensorrt", "_example")
    }
    assert all(f"{name}/py.typed" in files for name, files in found.items())
    assert "edgekit/shipped_targets/raspberry-pi-5.toml" in found["edgekit"]
    assert "edgekit/report/report.html.j2" in found["edgekit"]
    assert not any(
        file.startswith(("tests/", "samples/", "plugins/")) for files in found.values() for file in files
    )


def test_the_base_install_brings_no_torch_and_one_engine(fresh: Path, tmp_path: Path) -> None:
    listed = json.loads(python("-m", "pip", "list", "--format=json", executable=fresh, cwd=tmp_path))
    names = {entry["name"].lower() for entry in listed}
    assert "onnxruntime" in names
    assert names & {"torch", "transformers", "openvino", "nncf", "scikit-learn", "pytest"} == set()


def test_the_main_job_runs_from_wheels_alone(
    run: Run, exported: Path, sentiment: Path, few_rows: Path, tmp_path: Path
) -> None:
    """compile, validate, package, run, inspect: in an environment without torch, outside the checkout."""
    artifact, package = tmp_path / "artifact", tmp_path / "it.edgekit"
    choice = ("--backend", "onnxruntime", "--precision", "int8", "--target", "this-machine")
    rows = ("--calibration", sentiment / "data" / "calibration.jsonl", "--max-seconds", 0)
    done = run("compile", exported, *choice, *rows, "-o", artifact, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    limits = ("--budget", "artifact_mib=100", "--budget", "accuracy_drop=30")
    done = run("validate", artifact, "--data", few_rows, *limits, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert run("package", artifact, "-o", package, cwd=tmp_path).returncode == 0
    done = run("run", package, "a film to remember", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["predictions"][0]["prediction"]["label"] == "positive"
    assert run("inspect", package, cwd=tmp_path).returncode == 0


@pytest.fixture
def without_engine(fresh: Path, tmp_path: Path) -> Iterator[None]:
    """The engine and its metadata are put aside for one test, as if it had never been installed."""
    code = "import sysconfig; print(sysconfig.get_path('platlib'))"
    site = Path(python("-c", code, executable=fresh, cwd=tmp_path).strip())
    aside = site.with_name("put-aside")
    aside.mkdir()
    installed = sorted(site.glob("onnxruntime*"))
    assert len(installed) >= 2, installed
    for path in installed:
        path.rename(aside / path.name)
    yield
    for path in installed:
        (aside / path.name).rename(path)
    aside.rmdir()


@pytest.mark.usefixtures("without_engine")
def test_commands_that_need_no_runtime_work_without_one(run: Run, tmp_path: Path) -> None:
    """Without the engine, every other command works."""
    assert run("--help", cwd=tmp_path).returncode == 0
    assert "engine missing" in run("backend", "list", cwd=tmp_path).stdout
    assert run("backend", "show", "onnxruntime", cwd=tmp_path).returncode == 0
    assert "raspberry-pi-5" in run("target", "list", cwd=tmp_path).stdout
    assert run("target", "probe", cwd=tmp_path).returncode == 0
    assert "missing  backend onnxruntime" in run("doctor", cwd=tmp_path).stdout


def test_export_without_its_extra_says_what_to_install(run: Run, sentiment: Path, tmp_path: Path) -> None:
    done = run("export", sentiment / "model-frozen", "-o", tmp_path / "m", "--json", cwd=tmp_path)
    error = json.loads(done.stdout)["error"]
    assert (error["code"], done.returncode) == ("missing-dependency", 4)
    assert "edgekit[export]" in error["hint"]
