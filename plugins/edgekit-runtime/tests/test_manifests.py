"""File lists: paths that cannot leave their directory, files that cannot change unseen."""

from __future__ import annotations

import os
import socket
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_runtime.errors import DigestMismatch, ManifestError
from edgekit_runtime.manifests import (
    FileEntry,
    check_entries,
    file_entry,
    files_digest,
    list_files,
    safe_relative,
    verify_files,
)

ZERO = "0" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "model"
    (home / "deep" / "er").mkdir(parents=True)
    (home / "a.bin").write_bytes(b"alpha")
    (home / "deep" / "b.bin").write_bytes(b"")
    (home / "deep" / "er" / "ünïcode 1.txt").write_bytes(b"x" * 3_000_000)
    (home / "manifest.json").write_bytes(b"{}")
    return home


@pytest.mark.parametrize(
    "path", ["a", "a/b.bin", "deep/er/ünïcode 1.txt", "..a", "a..b", "con1", "model.onnx.data"]
)
def test_a_path_below_its_directory_is_taken(path: str) -> None:
    assert safe_relative(path) == PurePosixPath(path)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("../x", "'..'"),
        ("a/../../x", "'..'"),
        ("a/..", "'..'"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("./a", "empty part"),
        ("a\\b", "backslash"),
        ("\\\\server\\share", "backslash"),
        ("C:/x", "colon"),
        ("c:x", "colon"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("\udc80", "not valid text"),
        ("a/b.", "dot or space"),
        ("a /b", "dot or space"),
        ("NUL", "device name"),
        ("a/con.txt", "device name"),
        ("x" * 2000, "longer"),
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused_with_the_reason(path: str, reason: str) -> None:
    with pytest.raises(ManifestError, match=reason):
        safe_relative(path)


@given(st.text(max_size=30))
def test_what_is_taken_stays_below_the_directory(path: str) -> None:
    try:
        taken = safe_relative(path)
    except ManifestError:
        return
    root = Path("/somewhere/root")
    assert root in Path(os.path.normpath(root / taken)).parents
    assert taken.as_posix() == path


def test_every_file_is_listed_and_hashed(folder: Path) -> None:
    entries = list_files(folder)
    assert [entry.path for entry in entries] == ["a.bin", "deep/b.bin", "deep/er/ünïcode 1.txt"]
    assert entries[0] == FileEntry(
        path="a.bin", size=5, sha256="8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8"
    )
    verify_files(folder, entries)


def test_skipped_files_are_not_listed(folder: Path) -> None:
    assert "manifest.json" in {entry.path for entry in list_files(folder, skip=())}
    assert "a.bin" not in {entry.path for entry in list_files(folder, skip=("a.bin",))}


def test_symbolic_links_and_sockets_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "link").symlink_to(folder / "a.bin")
    with pytest.raises(ManifestError, match=r"link is a symbolic link"):
        list_files(folder)
    (folder / "link").unlink()
    (folder / "dir").symlink_to(folder / "deep", target_is_directory=True)
    with pytest.raises(ManifestError, match=r"dir is a symbolic link"):
        list_files(folder)
    (folder / "dir").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(folder)  # a socket's path must be short
        server.bind("sock")
    with pytest.raises(ManifestError, match="not a plain file"):
        list_files(folder)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not a directory"):
        list_files(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda home: (home / "a.bin").unlink(), r"a\.bin is missing"),
        (lambda home: (home / "new").write_bytes(b"!"), r"new is not in the manifest"),
        (lambda home: (home / "a.bin").write_bytes(b"longer than it was"), r"a\.bin has 18 bytes"),
        (lambda home: (home / "a.bin").write_bytes(b"alphA"), r"a\.bin was changed"),
    ],
)
def test_a_changed_directory_names_the_file(folder: Path, change: object, message: str) -> None:
    entries = list_files(folder)
    assert callable(change)
    change(folder)
    with pytest.raises(DigestMismatch, match=message):
        verify_files(folder, entries)


def test_entries_that_contradict_each_other_are_refused() -> None:
    def entry(path: str, size: int = 0, sha256: str = ZERO) -> FileEntry:
        return FileEntry(path=path, size=size, sha256=sha256)

    for entries, message in (
        ((entry("a"), entry("A")), "the same file"),
        ((entry("\u00e9"), entry("e\u0301")), "the same file"),
        ((entry("a"), entry("a/b")), "lies below"),
        ((entry("a", size=-1),), "negative"),
        ((entry("a", sha256="abc"),), "not a sha256"),
        ((entry("a", sha256="F" * 64),), "not a sha256"),
        ((entry("../a"),), "refused"),
    ):
        with pytest.raises(ManifestError, match=message):
            check_entries(entries)


def test_the_digest_of_a_set_of_files_does_not_depend_on_their_order() -> None:
    entries = [FileEntry(path=path, size=1, sha256=ZERO) for path in ("b", "a", "c")]
    assert files_digest(entries) == files_digest(reversed(entries))
    assert files_digest(entries) != files_digest(entries[:2])
    assert files_digest(()) == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_file_that_cannot_be_read_is_explained(folder: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        file_entry(folder, "deep")
