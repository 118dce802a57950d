"""Output directories appear whole or not at all."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.errors import OutputBusy, OutputError
from edgekit.files import directories
from edgekit.files.directories import new_directory
from edgekit.files.manifests import manifest_kind, read_manifest, verify, write_manifest
from edgekit.values import Outcome, ReportTable
from edgekit_runtime.values import Machine

MACHINE = Machine(
    arch="x86_64", system="Linux", cpu="a cpu", isa=(), cores=2, usable_cores=2.0, memory_mib=1024
)


def report_table(name: str = "it") -> ReportTable:
    return ReportTable(
        artifact_digest="sha256:" + "0" * 64,
        artifact_manifest="sha256:" + "1" * 64,
        artifact_name=name,
        backend="b",
        precision="fp32",
        verdict=Outcome.PASS,
        confidence=0.99,
        checks=(),
        machine=MACHINE,
        machine_is_target=True,
        target_name="t",
        workload={"batch": 1},
        threads=1,
        artifact_mib=1.0,
    )


def write_report(output: Path, text: str = "hello") -> None:
    with new_directory(output, "report") as work:
        (work / "note.txt").write_text(text)
        write_manifest(work, name="it", inputs=(), table=report_table())


def leftovers(parent: Path) -> list[str]:
    return [entry.name for entry in parent.iterdir() if entry.name.startswith(".edgekit-")]


def test_a_finished_directory_is_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_report(tmp_path / "out")
    assert (tmp_path / "out" / "note.txt").read_text() == "hello"
    assert read_manifest(tmp_path / "out", "report").name == "it"
    assert leftovers(tmp_path) == []


def test_an_error_inside_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_directory(tmp_path / "out", "report") as work:
        (work / "half.txt").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_earlier_directory_as_it_was(tmp_path: Path) -> None:
    write_report(tmp_path / "out", "first")
    with pytest.raises(RuntimeError), new_directory(tmp_path / "out", "report") as work:
        (work / "note.txt").write_text("second")
        raise RuntimeError
    assert (tmp_path / "out" / "note.txt").read_text() == "first"


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    write_report(tmp_path / "out", "first")
    write_report(tmp_path / "out", "second")
    assert (tmp_path / "out" / "note.txt").read_text() == "second"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("kind", ["foreign", "model"])
def test_what_edgekit_did_not_write_there_is_never_replaced(tmp_path: Path, kind: str) -> None:
    if kind == "foreign":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("years of work")
    else:
        write_report(tmp_path / "out")
    with pytest.raises(OutputError, match="out"), new_directory(tmp_path / "out", "artifact"):
        pytest.fail("must not begin")
    assert any((tmp_path / "out").iterdir())


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="not a directory"), new_directory(tmp_path / "out", "report"):
        pytest.fail("must not begin")


def _hold(output: Path, entered: object, leave: object) -> None:
    with new_directory(output, "report") as work:
        (work / "note.txt").write_text("slow")
        write_manifest(work, name="slow", inputs=(), table=report_table())
        entered.set()  # type: ignore[attr-defined]
        leave.wait(30)  # type: ignore[attr-defined]


def test_two_runs_for_one_output_do_not_mix(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    entered, leave = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "out", entered, leave))
    other.start()
    try:
        assert entered.wait(60)
        with (
            pytest.raises(OutputBusy, match="another edgekit run"),
            new_directory(tmp_path / "out", "report"),
        ):
            pytest.fail("must not begin")
    finally:
        leave.set()
        other.join(60)
    assert read_manifest(tmp_path / "out", "report").name == "slow"


def test_a_killed_run_leaves_nothing_that_is_taken_for_real_and_the_next_one_sweeps_up(
    tmp_path: Path,
) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from edgekit.files.directories import new_directory\n"
        "with new_directory(pathlib.Path(sys.argv[1]), 'report') as work:\n"
        "    (work / 'half.txt').write_text('half'); print('in', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"in\n"
        child.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    write_report(tmp_path / "out")
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a file system that refuses even root")
def test_a_read_only_place_is_a_clear_error() -> None:
    with pytest.raises(OutputError, match="cannot write"), new_directory(Path("/sys/kernel/out"), "report"):
        pytest.fail("must not begin")


@pytest.mark.parametrize("place", ["file/out", "file/deeper/out"])
def test_a_file_on_the_way_is_a_clear_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(OutputError, match="file"), new_directory(tmp_path / place, "report"):
        pytest.fail("must not begin")


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"), new_directory(tmp_path / "out", "report") as work:
        (work / "half.txt").write_text("half")
        with open("/dev/full", "w") as full:
            full.write("x")
    assert not (tmp_path / "out").exists()
    assert leftovers(tmp_path) == []


def test_until_a_run_ends_its_output_stays_as_it_was(tmp_path: Path) -> None:
    """Free at first, the earlier directory afterwards; the work is a hidden sibling."""
    output = tmp_path / "out"
    for earlier in (None, "first"):
        with new_directory(output, "report") as work:
            assert (work.parent, work.name.startswith(".edgekit-out-")) == (tmp_path, True)
            (work / "note.txt").write_text(earlier or "first")
            assert not manifest_kind(work)
            write_manifest(work, name="it", inputs=(), table=report_table())
            if earlier is None:
                assert not output.exists()
            else:
                assert (output / "note.txt").read_text() == earlier
                verify(output, read_manifest(output, "report"))


# --- outputs side by side -------------------------------------------------------------------------------

NEIGHBOURS = ["out-int8", "out-old", "out-01234567", "out-old-01234567", "out-01234567.old", "out.lock"]


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_run_leaves_the_unfinished_work_of_another_output_alone(tmp_path: Path, name: str) -> None:
    with new_directory(tmp_path / name, "report") as work:
        (work / "note.txt").write_text("neighbour")
        write_manifest(work, name="it", inputs=(), table=report_table())
        with pytest.raises(RuntimeError), new_directory(tmp_path / "out", "report"):
            raise RuntimeError
        assert not (tmp_path / "out").exists(), "what another output is making was taken for this one"
        write_report(tmp_path / "out")
        assert (work / "note.txt").read_text() == "neighbour"
    assert read_manifest(tmp_path / name, "report")
    assert leftovers(tmp_path) == []


def test_a_name_of_unfinished_work_is_no_output(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="unfinished work"),
        new_directory(tmp_path / ".edgekit-out-01234567.work", "report"),
    ):
        pytest.fail("must not begin")


def test_a_run_killed_while_it_replaced_an_earlier_directory_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path / "out", "first")
    rename = Path.rename

    def killed(self: Path, target: Path) -> None:
        if self != tmp_path / "out":
            raise KeyboardInterrupt
        rename(self, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", killed)
        write_report(tmp_path / "out", "second")
    assert not (tmp_path / "out").exists()
    with pytest.raises(RuntimeError), new_directory(tmp_path / "out", "report"):
        raise RuntimeError
    assert (tmp_path / "out" / "note.txt").read_text() == "first"
    assert leftovers(tmp_path) == []


def test_a_lock_file_that_its_holder_removes_as_we_take_it_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run before ends between our opening of the lock file and our locking of it."""
    try_lock, calls = directories._try_lock, []

    def late(descriptor: int) -> bool:
        calls.append(descriptor)
        if len(calls) == 1:
            next(tmp_path.glob(".edgekit-*.lock")).unlink()
        return try_lock(descriptor)

    monkeypatch.setattr(directories, "_try_lock", late)
    with new_directory(tmp_path / "out", "report"):
        with pytest.raises(OutputBusy), new_directory(tmp_path / "out", "report"):
            pytest.fail("two runs hold one lock")
        write_report(tmp_path / "other")
    assert len(calls) == 4, "a lock on a removed file is given up and taken anew"


# --- whose error it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EEXIST, errno.ENOTDIR, errno.EPERM])
@pytest.mark.parametrize("place", [("/elsewhere/rows.jsonl",), ()], ids=["elsewhere", "nowhere"])
def test_an_error_of_the_stage_itself_is_not_blamed_on_the_output(
    tmp_path: Path, number: int, place: tuple[str, ...]
) -> None:
    raised = OSError(number, os.strerror(number), *place)
    with pytest.raises(OSError) as caught, new_directory(tmp_path / "out", "report"):
        raise raised
    assert caught.value is raised
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_place_without_room_is_the_outputs_trouble_whoever_meets_it(tmp_path: Path, number: int) -> None:
    with pytest.raises(OutputError, match="out: cannot write"), new_directory(tmp_path / "out", "report"):
        raise OSError(number, os.strerror(number))


def test_trouble_below_the_work_directory_is_the_outputs(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="out: cannot write"), new_directory(tmp_path / "out", "report"):
        (next(tmp_path.glob("link/.edgekit-*.work")) / "no" / "such").write_text("x")
    assert leftovers(tmp_path) == []


def test_trouble_while_the_finished_work_is_flushed_is_the_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    words = "Input/output error; nothing was left there"
    with pytest.raises(OutputError, match=words), new_directory(tmp_path / "out", "report") as work:
        (work / "note.txt").write_text("x")
    assert list(tmp_path.iterdir()) == []
