"""A disk that is really full: a clear error, and nothing is left on it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Edgekit


@pytest.fixture()
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB. Needs the right to mount; `tests/files` fakes a full one for everybody."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)]
    if os.name == "nt" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system here")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_compiling_onto_a_full_disk(edgekit: Edgekit, exported: Path, small_disk: Path) -> None:
    done = edgekit("compile", exported, "--backend", "onnxruntime", "-o", small_disk / "a", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (2, "bad-output")
    assert "No space left" in error["message"]
    assert list(small_disk.iterdir()) == []


def test_exporting_onto_a_full_disk(edgekit: Edgekit, sentiment: Path, small_disk: Path) -> None:
    done = edgekit("export", sentiment / "model-frozen", "-o", small_disk / "m", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (2, "bad-output")
    assert list(small_disk.iterdir()) == []
