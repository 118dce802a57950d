"""Output directories appear whole or not at all."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.errors import OutputBusy, OutputError
from edgekit.files.directories import new_directory
from edgekit.files.manifests import read_manifest, write_manifest
from edgekit.values import Outcome, ReportTable
from edgekit_runtime.values import Machine

MACHINE = Machine(
    arch="x86_64", system="Linux", cpu="a cpu", isa=(), cores=2, usable_cores=2.0, memory_mib=1024
)


def report_table(name: str = "it") -> ReportTable:
    return ReportTable(
        artifact_digest="sha256:" + "0" * 64,
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


def test_the_swap_is_quick_to_tell_apart_from_a_half_written_one(tmp_path: Path) -> None:
    """While a run is under way, its temporary directory is no edgekit directory of any kind."""
    with new_directory(tmp_path / "out", "report") as work:
        time.sleep(0)
        assert work.name.startswith(".edgekit-out-")
        (work / "note.txt").write_text("x")
        write_manifest(work, name="it", inputs=(), table=report_table())
        assert not (tmp_path / "out").exists()
