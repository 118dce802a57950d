"""A package is written whole or not at all, the same bytes for the same inputs, and opens on a device."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import OutputBusy, OutputError
from edgekit.packaging.writer import PackageContents, write_package
from edgekit.values import InputEntry
from edgekit_runtime.errors import DigestMismatch, ManifestError, PackageError
from edgekit_runtime.goldens import Golden, write_goldens
from edgekit_runtime.package_info import PackageInfo, PackageTable
from edgekit_runtime.reader import open_package, read_info
from edgekit_runtime.values import Signature, TensorSpec, Tolerance

Write = Callable[..., PackageInfo]
DAY = "2026-01-01T00:00:00+00:00"
INPUTS = (InputEntry(role="artifact", digest="sha256:" + "a" * 64, path="../artifact"),)

TABLE = PackageTable(
    backend="example",
    backend_version="0.1.0",
    precision="fp32",
    task="custom",
    answers="tensor",
    signature=Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 4)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("batch", 4)),),
    ),
    tolerance=Tolerance(atol=1e-4, rtol=1e-4),
    verdict="PASS",
    confidence=0.99,
    options={"fast": True, "level": 3, "name": "x", "share": 0.5},
    engine_versions={"engine": "1.2"},
)


@pytest.fixture
def contents(tmp_path: Path) -> PackageContents:
    artifact = tmp_path / "artifact"
    (artifact / "blobs").mkdir(parents=True)
    (artifact / "blobs" / "model.bin").write_bytes(np.random.default_rng(1).bytes(300_000))
    (artifact / "manifest.json").write_text('{"kind": "artifact"}')
    (artifact / "graph.xml").write_text("<node/>" * 10_000)
    x = np.ones((2, 4), np.float32)
    write_goldens(tmp_path / "golden", [Golden(name="ones", feeds={"x": x}, outputs={"y": x})])
    return PackageContents(artifact=artifact, golden=tmp_path / "golden")


@pytest.fixture
def write(contents: PackageContents) -> Write:
    def call(output: Path, table: PackageTable = TABLE) -> PackageInfo:
        return write_package(output, table=table, contents=contents, name="demo", inputs=INPUTS, created=DAY)

    return call


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_is_written_is_what_a_device_reads(
    write: Write, contents: PackageContents, tmp_path: Path
) -> None:
    output = tmp_path / "demo.edgekit"
    written = write(output)
    assert read_info(output) == written
    assert written.table == TABLE
    assert written.inputs == INPUTS
    with open_package(output) as opened:
        for part in (
            "artifact/blobs/model.bin",
            "artifact/manifest.json",
            "artifact/graph.xml",
            "golden/cases.json",
        ):
            assert (opened.directory / part).read_bytes() == (tmp_path / part).read_bytes()


def test_the_same_inputs_give_the_same_bytes(write: Write, contents: PackageContents, tmp_path: Path) -> None:
    write(tmp_path / "one.edgekit")
    for path in contents.artifact.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        if path.is_file():
            path.chmod(0o600)
    write(tmp_path / "elsewhere" / "two.edgekit")
    assert (tmp_path / "one.edgekit").read_bytes() == (tmp_path / "elsewhere" / "two.edgekit").read_bytes()


def test_the_manifest_comes_first_then_files_by_name_text_packed_and_weights_as_they_are(
    write: Write, tmp_path: Path
) -> None:
    write(tmp_path / "demo.edgekit")
    with zipfile.ZipFile(tmp_path / "demo.edgekit") as archive:
        entries = archive.infolist()
    assert entries[0].filename == "manifest.json"
    files = [entry.filename for entry in entries[1:]]
    assert files == sorted(files)
    packed = {entry.filename: entry.compress_type == zipfile.ZIP_DEFLATED for entry in entries}
    assert packed["artifact/graph.xml"]
    assert packed["golden/cases.json"]
    assert not packed["artifact/blobs/model.bin"]
    assert not packed["golden/golden.safetensors"]


def test_text_that_shrinks_like_a_bomb_is_stored_so_that_readers_take_it(
    write: Write, contents: PackageContents, tmp_path: Path
) -> None:
    (contents.artifact / "zeros.json").write_text(" " * (5 << 20))
    write(tmp_path / "demo.edgekit")
    assert read_info(tmp_path / "demo.edgekit").name == "demo"


def test_an_earlier_package_is_replaced_even_a_torn_one(write: Write, tmp_path: Path) -> None:
    output = tmp_path / "demo.edgekit"
    write(output)
    whole = output.read_bytes()
    write(output, replace(TABLE, verdict="FAIL", allow_failed=True))
    assert read_info(output).table.verdict == "FAIL"
    output.write_bytes(whole[: len(whole) // 2])
    write(output)
    assert output.read_bytes() == whole
    output.write_bytes(b"")
    write(output)
    assert output.read_bytes() == whole


@pytest.mark.parametrize("content", [b"my thesis", b"PK\x03\x04 some other zip", b'{"kind": "package"}'])
def test_a_file_that_is_no_package_is_never_replaced(write: Write, tmp_path: Path, content: bytes) -> None:
    output = tmp_path / "demo.edgekit"
    output.write_bytes(content)
    with pytest.raises(OutputError, match="not an edgekit package"):
        write(output)
    assert output.read_bytes() == content


def test_directories_links_and_the_packed_directories_are_no_outputs(write: Write, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for output in (tmp_path / "folder", tmp_path / "link"):
        with pytest.raises(OutputError, match="not a plain file"):
            write(output)
    for output in (tmp_path / "artifact" / "x.edgekit", tmp_path / "golden" / "deep" / "x.edgekit"):
        with pytest.raises(OutputError, match="lies inside"):
            write(output)


def test_a_failure_leaves_the_earlier_package_and_nothing_else(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out" / "demo.edgekit"
    write(output)
    before = output.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    for fsync, error in ((full, OutputError), (interrupted, KeyboardInterrupt)):
        monkeypatch.setattr("os.fsync", fsync)
        with pytest.raises(error):
            write(output, replace(TABLE, verdict="FAIL"))
        assert output.read_bytes() == before
        assert names(output.parent) == ["demo.edgekit"]


def test_a_full_disk_is_explained(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left on device; nothing was left") as caught:
        write(tmp_path / "demo.edgekit")
    assert "free some space" in caught.value.hint


def test_what_a_killed_run_left_is_swept_up_by_the_next(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: object, *arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    output = tmp_path / "out" / "demo.edgekit"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(zipfile.ZipFile, "writestr", killed)
        patched.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        write(output)
    assert len(names(output.parent)) >= 1
    (output.parent / ".edgekit-demo.edgekit-2-01234567.work").write_text("of another output")
    write(output)
    assert names(output.parent) == [".edgekit-demo.edgekit-2-01234567.work", "demo.edgekit"]


def test_two_runs_do_not_write_one_package(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zip, tried = zipfile.ZipFile.writestr, []

    def meanwhile(self: zipfile.ZipFile, *arguments: object) -> None:
        if not tried:
            tried.append(True)
            with pytest.raises(OutputBusy, match="another edgekit run"):
                write(tmp_path / "demo.edgekit")
        write_zip(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(zipfile.ZipFile, "writestr", meanwhile)
    write(tmp_path / "demo.edgekit")
    assert tried
    assert read_info(tmp_path / "demo.edgekit").name == "demo"


def test_a_file_that_vanishes_while_it_is_packed_is_not_blamed_on_the_output(
    write: Write, contents: PackageContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zip = zipfile.ZipFile.writestr

    def meddling(self: zipfile.ZipFile, *arguments: object) -> None:
        (contents.artifact / "graph.xml").unlink()
        write_zip(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(zipfile.ZipFile, "writestr", meddling)
    with pytest.raises(FileNotFoundError, match=r"graph\.xml"):
        write(tmp_path / "demo.edgekit")
    assert names(tmp_path) == ["artifact", "golden"]


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_explained(write: Write, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "locked" / "demo.edgekit")


def test_a_parent_that_is_a_file_is_explained(write: Write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write(tmp_path / "file" / "demo.edgekit")


def test_a_file_that_changes_while_it_is_packed_makes_no_package(
    write: Write, contents: PackageContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = contents.artifact / "blobs" / "model.bin"
    write_zip = zipfile.ZipFile.writestr

    def meddling(self: zipfile.ZipFile, *arguments: object) -> None:
        model.write_bytes(b"other")
        write_zip(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(zipfile.ZipFile, "writestr", meddling)
    with pytest.raises(DigestMismatch, match="changed while it was packed"):
        write(tmp_path / "demo.edgekit")
    assert names(tmp_path) == ["artifact", "golden"]


def test_links_in_an_artifact_are_refused(write: Write, contents: PackageContents, tmp_path: Path) -> None:
    (contents.artifact / "link").symlink_to("/etc/passwd")
    with pytest.raises(ManifestError, match="symbolic link"):
        write(tmp_path / "demo.edgekit")


def test_what_a_reader_would_refuse_is_not_written(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="precision"):
        write(tmp_path / "demo.edgekit", replace(TABLE, precision="int3"))
    assert names(tmp_path) == ["artifact", "golden"]


def test_too_much_for_one_package_is_told_before_writing(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit_runtime.archive import Limits

    monkeypatch.setattr("edgekit.packaging.writer.LIMITS", Limits(entries=5))
    with pytest.raises(PackageError, match="too much for one package"):
        write(tmp_path / "demo.edgekit")


def test_the_file_can_be_read_by_others(write: Write, tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write(tmp_path / "demo.edgekit")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "demo.edgekit").stat().st_mode) == 0o644


def test_without_a_date_it_is_now(contents: PackageContents, tmp_path: Path) -> None:
    info = write_package(tmp_path / "p.edgekit", table=TABLE, contents=contents, name="demo", inputs=())
    assert info.created.endswith("+00:00")
    assert info.created > "2026"
