"""An honest package opens, predicts, proves itself and leaves nothing behind."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit_runtime.archive import Limits
from edgekit_runtime.errors import (
    EdgekitError,
    InputError,
    OpenFailed,
    PackageError,
    SelfTestFailed,
    SessionClosed,
)
from edgekit_runtime.goldens import Golden, write_goldens
from edgekit_runtime.reader import is_package, open_package, read_info
from edgekit_runtime.values import Tolerance


def test_what_was_packed_is_unpacked(parts, package: Path) -> None:
    with open_package(package) as opened:
        found = {
            path.relative_to(opened.directory).as_posix(): path.read_bytes()
            for path in opened.directory.rglob("*")
            if path.is_file()
        }
        assert found == parts.files
        assert opened.info == parts.info() == read_info(package)


def test_the_directory_is_private_and_removed_on_close(
    package: Path, unpack_to: Callable[[], list[str]]
) -> None:
    opened = open_package(package)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (opened.directory, *opened.directory.iterdir())}
    assert modes == {0o700}
    assert len(unpack_to()) == 1
    opened.close()
    assert unpack_to() == []
    opened.close()


def test_an_error_while_it_is_open_removes_the_directory_too(
    package: Path, unpack_to: Callable[[], list[str]]
) -> None:
    with pytest.raises(ZeroDivisionError), open_package(package):
        raise ZeroDivisionError
    assert unpack_to() == []


@pytest.mark.usefixtures("toy")
def test_texts_get_their_labels(package: Path) -> None:
    with open_package(package) as opened:
        found = opened.predict(["a fine film", "dull", ("bad", "bad")])
    assert [item.label for item in found] == ["positive", "negative", "negative"]
    assert all(0.5 < item.score <= 1.0 for item in found)


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("options", [{}, {"batch": 3}, {"tokens": 8}, {"batch": 1, "tokens": 16}])
def test_artifacts_of_one_shape_give_the_same_labels(parts, tmp_path: Path, options: dict[str, int]) -> None:
    with open_package(parts.with_options(**options).write(tmp_path / "p.edgekit")) as opened:
        found = opened.predict(["a fine film", "dull " * 20])
    assert [item.label for item in found] == ["positive", "negative"]
    assert found[0].score == pytest.approx(0.7685, abs=1e-4), "two logits 1.2 apart"


@pytest.mark.usefixtures("toy")
def test_a_wrong_row_is_refused_before_any_is_run(package: Path) -> None:
    with open_package(package) as opened, pytest.raises(InputError, match="row 1"):
        opened.predict(["fine", 3])  # type: ignore[list-item]


@pytest.mark.usefixtures("toy")
def test_the_package_proves_itself(package: Path) -> None:
    with open_package(package) as opened:
        assert opened.check_parity() == 1
        judgement = opened.self_test()
    assert (judgement.cases, judgement.agreeing, judgement.passed, judgement.reason) == (3, 3, True, "")


@pytest.mark.usefixtures("toy")
def test_an_engine_that_answers_differently_fails_the_self_test(parts, tmp_path: Path) -> None:
    opening = open_package(parts.with_options(drift=0.01).write(tmp_path / "p.edgekit"))
    with (
        opening as opened,
        pytest.raises(SelfTestFailed, match=r"0 of 3 goldens agree.*values differ") as caught,
    ):
        opened.self_test()
    assert caught.value.exit_code == 1


@pytest.mark.usefixtures("toy")
def test_a_lower_precision_is_judged_as_such(parts, tmp_path: Path) -> None:
    drifting = parts.with_options(drift=0.01)
    lower = replace(drifting, table=replace(drifting.table, precision="int8"))
    with open_package(lower.write(tmp_path / "p.edgekit")) as opened:
        assert opened.self_test().passed
    tolerant = replace(drifting, table=replace(drifting.table, tolerance=Tolerance(atol=0.1, rtol=0)))
    with open_package(tolerant.write(tmp_path / "p.edgekit")) as opened:
        assert opened.self_test().passed


@pytest.mark.usefixtures("toy")
def test_goldens_of_other_shapes_than_the_artifact_takes_are_left_out_aloud(parts, tmp_path: Path) -> None:
    with open_package(parts.with_options(batch=2).write(tmp_path / "p.edgekit")) as opened:
        judgement = opened.self_test()
        assert (judgement.cases, judgement.passed) == (1, True)
        assert "2 goldens have other shapes" in judgement.reason
    opening = open_package(parts.with_options(batch=7).write(tmp_path / "p.edgekit"))
    with opening as opened, pytest.raises(SelfTestFailed, match="none of its 3 goldens fits"):
        opened.self_test()


@pytest.mark.usefixtures("toy")
def test_damaged_goldens_are_no_proof(parts, tmp_path: Path) -> None:
    write_goldens(tmp_path / "g", [Golden(name="x", feeds={"other": np.ones(1)}, outputs={})])
    files = dict(parts.files) | {
        f"golden/{path.name}": path.read_bytes() for path in (tmp_path / "g").iterdir()
    }
    opening = open_package(replace(parts, files=files).write(tmp_path / "p.edgekit"))
    with opening as opened, pytest.raises(SelfTestFailed, match="none of its 1 goldens fits"):
        opened.self_test()


@pytest.mark.usefixtures("toy")
def test_a_closed_package_says_so(package: Path) -> None:
    opened = open_package(package)
    opened.predict(["fine"])
    opened.close()
    for call in (lambda: opened.predict(["fine"]), lambda: opened.run({}), opened.self_test):
        with pytest.raises(SessionClosed, match="toy was closed"):
            call()


def test_a_backend_that_is_not_installed_is_named(package: Path) -> None:
    with open_package(package) as opened, pytest.raises(OpenFailed, match="'toy' is not installed"):
        opened.predict(["fine"])


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(("option", "message"), [("refuse", "told to refuse"), ("crash", "KeyError")])
def test_an_engine_that_cannot_open_is_explained(parts, tmp_path: Path, option: str, message: str) -> None:
    opening = open_package(parts.with_options(**{option: True}).write(tmp_path / "p.edgekit"))
    with opening as opened, pytest.raises(OpenFailed, match=message):
        opened.predict(["fine"])


@pytest.mark.usefixtures("toy")
def test_a_custom_task_runs_on_feeds_and_gives_its_outputs(parts, tmp_path: Path) -> None:
    with open_package(parts.answering("tensor").write(tmp_path / "p.edgekit")) as opened:
        assert opened.self_test().passed
        (found,) = opened.predict(["fine film"])
        ran = opened.run(opened.processor.feeds(["fine film"]))
    assert np.array_equal(found["logits"], ran["logits"])


@pytest.mark.usefixtures("toy")
def test_a_package_without_a_processor_has_no_parity_to_prove(parts, tmp_path: Path) -> None:
    files = {path: data for path, data in parts.files.items() if not path.startswith("processor/")}
    with open_package(replace(parts, files=files).write(tmp_path / "p.edgekit")) as opened:
        assert opened.check_parity() == 0
        assert opened.self_test().passed
        with pytest.raises(InputError, match="no processor"):
            opened.predict(["fine"])


def test_a_full_disk_is_told_before_unpacking(
    package: Path, unpack_to: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Full)
    with pytest.raises(PackageError, match="1000 are free") as caught:
        open_package(package)
    assert "TMPDIR" in caught.value.hint
    assert unpack_to() == []


def test_a_write_error_while_unpacking_is_explained_and_cleaned_up(
    package: Path, unpack_to: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", broken)
    with pytest.raises(PackageError, match="No space left on device"):
        open_package(package)
    assert unpack_to() == []


def test_a_package_is_known_by_its_first_bytes(package: Path, tmp_path: Path) -> None:
    assert is_package(package)
    torn = tmp_path / "torn"
    torn.write_bytes(package.read_bytes()[:500])
    assert is_package(torn)
    for content in (b"", b"PK\x03\x04", b'{"schema": 1, "kind": "package"}'):
        (tmp_path / "other").write_bytes(content)
        assert not is_package(tmp_path / "other")
    assert not is_package(tmp_path)
    assert not is_package(tmp_path / "nowhere")


def test_limits_can_be_tightened(package: Path) -> None:
    size = sum(entry.size for entry in read_info(package).files)
    for limits in (Limits(entries=3), Limits(total=size // 2), Limits(manifest=100)):
        with pytest.raises(PackageError, match="more than"):
            read_info(package, limits=limits)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a FIFO")
def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "nowhere.edgekit", "no such file"),
        (tmp_path, "is not a file"),
        (tmp_path / "pipe", "is not a file"),
        (Path("with\0nul"), "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ):
        with pytest.raises(EdgekitError, match=message) as caught:
            open_package(path)
        assert caught.value.exit_code == 2
