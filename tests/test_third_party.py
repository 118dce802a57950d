"""A stranger's backend: written outside the repository, pip-installed, and no change in core."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tutorial backend, copied under another name and installed by pip into a folder of its own."""
    root = tmp_path_factory.mktemp("stranger")
    project = root / "edgekit-acme"
    shutil.copytree(
        ROOT / "plugins" / "edgekit-example", project, ignore=shutil.ignore_patterns("tests", "__pycache__")
    )
    (project / "src" / "edgekit_example").rename(project / "src" / "edgekit_acme")
    for path in [project / "pyproject.toml", *(project / "src").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        text = text.replace("edgekit_example", "edgekit_acme").replace("edgekit-example", "edgekit-acme")
        path.write_text(
            text.replace('"example"', '"acme"').replace("\nexample = ", "\nacme = "), encoding="utf-8"
        )
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(root / "site"), str(project)], check=True, timeout=300)
    return root / "site"


def edgekit(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgekit", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=580)


def test_it_is_listed(site: Path) -> None:
    rows = json.loads(edgekit(site, "backend", "list", "--json").stdout)
    (row,) = [row for row in rows if row["name"] == "acme"]
    assert (row["distribution"], row["state"]) == ("edgekit-acme", "ready")


def test_it_compiles_and_validates(site: Path, exported: Path, few_rows: Path, tmp_path: Path) -> None:
    artifact, rows = tmp_path / "artifact", tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(few_rows.read_text(encoding="utf-8").splitlines(keepends=True)[:5]), encoding="utf-8"
    )
    done = edgekit(site, "compile", exported, "--backend", "acme", "-o", artifact)
    assert done.returncode == 0, done.stderr
    budget = ("--budget", "artifact_mib=200", "--budget", "accuracy_drop=99", "--max-seconds", "1", "--json")
    done = edgekit(site, "validate", artifact, "--data", rows, *budget)
    report = json.loads(done.stdout)["report"]
    assert (done.returncode, report["verdict"], report["backend"]) == (0, "PASS", "acme"), done.stderr
