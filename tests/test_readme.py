"""README commands do what the README says; its target file and its Python lines are real."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.targets import load_target
from tests.conftest import ROOT, Edgekit

pytestmark = pytest.mark.slow

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The block under "The commands behind it", comments cut, continued lines joined."""
    block = TEXT.split("The commands behind it:")[1].split("with a target file")[0]
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.strip().startswith("edgekit")]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def desk(sentiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: their model, their rows, and the README's target file."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(sentiment / "model-frozen", folder / "my-model")
    shutil.copy(sentiment / "data" / "calibration.jsonl", folder / "train.jsonl")
    rows = (sentiment / "data" / "test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "test.jsonl").write_text("".join(rows[:300]), encoding="utf-8")
    # The kiosk is not at hand: its budget is tried on this machine.
    here = blocks("toml")[0].replace(
        'extends = "intel-n100"', 'extends = "this-machine"\nbackend = "openvino"'
    )
    (folder / "kiosk.toml").write_text(here, encoding="utf-8")
    return folder


def test_the_target_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "kiosk.toml").write_text(blocks("toml")[0], encoding="utf-8")
    target = load_target(tmp_path / "kiosk.toml")
    assert target.backend == "openvino"
    assert (target.budget.latency_p90_ms, target.budget.accuracy_drop, target.workload.sequence) == (
        20,
        1,
        64,
    )


def test_the_commands_run_in_the_order_shown(edgekit: Edgekit, desk: Path) -> None:
    shown = commands()
    names = ["export", "compile", "validate", "package", "run", "diff", "report"]
    assert [words[0] for words in shown] == names
    export, compile_, validate, package, run, diff, report_ = shown
    assert edgekit(*export, cwd=desk).returncode == 0
    done = edgekit(*compile_, cwd=desk)
    assert done.returncode == 0, done.stderr
    done = edgekit(*validate, cwd=desk)
    report = json.loads((desk / "build" / "kiosk.report" / "report.json").read_text(encoding="utf-8"))
    expected = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 5, "NOT_MEASURED": 5}[report["verdict"]]
    assert done.returncode == expected, done.stdout + done.stderr
    allowed = report["verdict"] in ("PASS", "NOT_MEASURED")
    assert edgekit(*package, cwd=desk).returncode == (0 if allowed else 1)
    if not allowed:
        assert edgekit(*package, "--allow-failed", cwd=desk).returncode == 0
    done = edgekit(*run, cwd=desk)
    assert (done.returncode, "positive" in done.stdout) == (0, True)
    shutil.copytree(desk / "build" / "kiosk", desk / "build" / "before")
    done = edgekit(*diff, "--max-seconds", 5, cwd=desk)
    assert done.returncode in (0, 5), done.stdout + done.stderr  # 5: too little time here to prove it
    assert "gate" in done.stdout
    reports = [word for path in report_ for word in (_glob(desk, path) if "*" in path else [path])]
    done = edgekit(*reports, cwd=desk)
    assert (done.returncode, "kiosk" in done.stdout) == (0, True), done.stderr
    assert (desk / "build" / "overview.html").is_file()


def _glob(desk: Path, pattern: str) -> list[str]:
    return [str(path.relative_to(desk)) for path in desk.glob(pattern)]


def test_the_python_lines_run(desk: Path) -> None:
    """Up to the artifact; the two lines after it do what the commands above have done."""
    (code,) = blocks("python")
    lines = code.splitlines()
    assert lines[-1].startswith("package = edgekit.package(")
    started = "\n".join(line for line in lines if not line.startswith(("report", "package")))
    done = subprocess.run(
        [sys.executable, "-c", started], capture_output=True, text=True, check=False, cwd=desk
    )
    assert done.returncode == 0, done.stderr


def test_every_link_leads_somewhere() -> None:
    readmes = [
        path for path in ROOT.rglob("README.md") if not {".venv", "build", "node_modules"} & set(path.parts)
    ]
    for readme in [*readmes, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", readme.read_text(encoding="utf-8")):
            assert (readme.parent / target).exists(), f"{readme} links to {target}"


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in TEXT
