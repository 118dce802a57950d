"""A package that was harmed, or made to harm, is refused by every command before it is unpacked."""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Edgekit

Entries = dict[str, bytes]


@pytest.fixture(scope="module")
def package(exported: Path, edgekit: Edgekit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound package, made without a report."""
    folder = tmp_path_factory.mktemp("packages")
    done = edgekit("compile", exported, "--backend", "onnxruntime", "-o", folder / "a")
    assert done.returncode == 0, done.stderr
    done = edgekit("package", folder / "a", "--allow-failed", "-o", folder / "sound.edgekit")
    assert done.returncode == 0, done.stderr
    return folder / "sound.edgekit"


def rewritten(package: Path, output: Path, change: Callable[[zipfile.ZipFile, Entries], None]) -> Path:
    """Write the package anew; `change` may alter entries, and write further ones itself."""
    with zipfile.ZipFile(package) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(output, "w") as new:
        change(new, entries)
        for name, data in entries.items():
            new.writestr(name, data)
    return output


def flip_a_weight(_: zipfile.ZipFile, entries: Entries) -> None:
    name = next(name for name in entries if name.endswith("model.onnx"))
    data = bytearray(entries[name])
    data[len(data) // 2] ^= 1
    entries[name] = bytes(data)


def climb_out(new: zipfile.ZipFile, _: Entries) -> None:
    new.writestr("../../x", "boo")


def link_out(new: zipfile.ZipFile, _: Entries) -> None:
    link = zipfile.ZipInfo("artifact/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    new.writestr(link, "/etc/passwd")


def blow_up(new: zipfile.ZipFile, _: Entries) -> None:
    new.writestr("artifact/zeros", b"\0" * 200_000_000, compress_type=zipfile.ZIP_DEFLATED)


def claim_the_wrong_hash(_: zipfile.ZipFile, entries: Entries) -> None:
    manifest = json.loads(entries["manifest.json"])
    manifest["files"][0]["sha256"] = "0" * 64
    entries["manifest.json"] = json.dumps(manifest).encode()


HARMS = (flip_a_weight, climb_out, link_out, blow_up, claim_the_wrong_hash)


@pytest.mark.parametrize("command", ["run", "inspect"])
@pytest.mark.parametrize("harm", [*HARMS, None], ids=lambda harm: harm.__name__ if harm else "truncated")
def test_a_harmed_package_is_refused(
    edgekit: Edgekit,
    package: Path,
    tmp_path: Path,
    command: str,
    harm: Callable[[zipfile.ZipFile, Entries], None] | None,
) -> None:
    bad = tmp_path / "bad.edgekit"
    if harm is None:
        bad.write_bytes(package.read_bytes()[:-1000])
    else:
        rewritten(package, bad, harm)
    done = edgekit(command, bad, *(["a text"] if command == "run" else []), "--json")
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 2, error
    assert error["code"] in ("bad-package", "digest-mismatch", "bad-manifest")
    assert "bad.edgekit" in error["message"]
    assert not (tmp_path.parent / "x").exists()


def test_the_sound_one_runs(edgekit: Edgekit, package: Path) -> None:
    done = edgekit("run", package, "a film to remember")
    assert done.returncode == 0, done.stderr
    assert "unproven" in done.stderr
