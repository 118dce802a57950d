"""Files brought to a worker's machine and taken back: whole, in pieces, in one directory, and gone after."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit.errors import WorkerCrashed
from edgekit.host.client import WorkerClient
from edgekit.host.remote import DeviceWithFiles, bringing_files
from edgekit.host.scratch import LIMITS, Scratch
from edgekit_runtime.calls import Reply
from edgekit_runtime.errors import TransferFailed
from edgekit_runtime.manifests import FileEntry
from edgekit_runtime.scratch import PIECE
from tests.boards import Board, BoardPlace, board_plugged_in


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[BoardPlace]:
    with board_plugged_in(monkeypatch, tmp_path) as place:
        yield place


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """An empty file, a small one in a directory, and one of several pieces."""
    directory = tmp_path / "here"
    (directory / "part").mkdir(parents=True)
    (directory / "empty.bin").write_bytes(b"")
    (directory / "part" / "small.txt").write_text("small")
    (directory / "large.bin").write_bytes(os.urandom(1 << 20) * 9 + b"end")
    names = ("empty.bin", "part/small.txt", "large.bin")
    return {name: directory / name for name in names}


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.05)
    return condition()


# --- there and back -----------------------------------------------------------------------------------


def test_files_come_back_as_they_went_and_nothing_is_left_there(
    board: BoardPlace, files: dict[str, Path], tmp_path: Path
) -> None:
    back = tmp_path / "back"
    back.mkdir()
    seen: list[tuple[int, int, str]] = []
    with WorkerClient(Board(board.uri)) as worker:
        scratch = Scratch(worker)
        scratch.send("model", files, lambda *step: seen.append(step))
        assert Path(scratch.path("model")).is_relative_to(board.home)
        entries = scratch.entries("model")
        scratch.fetch("model", entries, back)
    assert {entry.path for entry in entries} == set(files)
    for name, path in files.items():
        assert (back / name).read_bytes() == path.read_bytes()
    assert seen[-1] == (9, 10, f"sending to {board.uri} (MiB)")
    assert board.left() == []


def test_only_the_devices_user_can_look_into_the_directory(board: BoardPlace) -> None:
    with WorkerClient(Board(board.uri)) as worker:
        Scratch(worker).directory("model")
        (made,) = (board.home / "tmp").iterdir()
        assert made.stat().st_mode & 0o077 == 0


def test_a_large_file_is_never_held_whole(board: BoardPlace, tmp_path: Path) -> None:
    large, back = tmp_path / "large.bin", tmp_path / "back"
    with large.open("wb") as stream:
        stream.truncate(40 * PIECE)
    back.mkdir()
    with WorkerClient(Board(board.uri), memory_mib=None) as worker:
        scratch = Scratch(worker)
        tracemalloc.start()
        scratch.send("model", {"large.bin": large})
        scratch.fetch("model", scratch.entries("model"), back)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 * PIECE
    assert (back / "large.bin").stat().st_size == 40 * PIECE


def test_what_lies_there_already_is_not_sent_again(
    board: BoardPlace, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with WorkerClient(Board(board.uri)) as worker:
        scratch = Scratch(worker)
        scratch.send("one", files)
        sent: list[str] = []
        call = worker.call

        def counting(function: str, *arguments: object, **named: object) -> Reply:
            sent.append(function.rpartition(":")[2])
            return call(function, *arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(worker, "call", counting)
        scratch.send("two", files)
        assert "put" not in sent
        assert [entry.sha256 for entry in scratch.entries("two")] == [
            entry.sha256 for entry in scratch.entries("one")
        ]
        scratch.remove("one")
        scratch.remove("two")
        scratch.send("three", files)
        assert "put" in sent, "what was removed there is not taken for known"


# --- names that lead elsewhere ------------------------------------------------------------------------


def test_a_name_that_leads_out_is_refused_on_the_device(board: BoardPlace) -> None:
    names = ("../out", "/etc/passwd", "a/../../out", "C:/x", "a\\b", "", "a/./b", "nul")
    functions = ("put", "get", "entries", "directory", "remove")
    with WorkerClient(Board(board.uri)) as worker:
        for name, function in itertools.product(names, functions):
            with pytest.raises(TransferFailed, match="refused"):
                worker.call(f"edgekit_runtime.scratch:{function}", {"name": name, "offset": 0}, timeout=60)
    assert not any(path.name == "out" for path in (*board.home.iterdir(), *board.home.parent.iterdir()))


def test_a_link_out_of_the_directory_is_refused_on_the_device(board: BoardPlace, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    with WorkerClient(Board(board.uri)) as worker:
        scratch = Scratch(worker)
        scratch.directory("built")
        Path(scratch.path("built/link")).symlink_to(secret)
        with pytest.raises(TransferFailed, match="leads out"):
            worker.call("edgekit_runtime.scratch:get", {"name": "built/link", "offset": 0}, timeout=60)
        with pytest.raises(TransferFailed, match="symbolic link"):
            scratch.entries("built")


def listing(*entries: tuple[str, int, str]) -> Reply:
    return Reply(
        body=json.dumps(
            [{"path": path, "size": size, "sha256": digest} for path, size, digest in entries]
        ).encode()
    )


_DIGEST = hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (listing(("../evil", 1, _DIGEST)), "leads outside"),
        (listing(("/etc/passwd", 1, _DIGEST)), "it is absolute"),
        (listing(("a", -1, _DIGEST)), "is negative"),
        (listing(("a", 1, "beef")), "is not a sha256"),
        (listing(("a", 1, _DIGEST), ("A", 1, _DIGEST)), "name the same file"),
        (listing(("a", 1 << 60, _DIGEST)), "to give"),
        (listing(*((f"f{number}", 1, _DIGEST) for number in range(LIMITS.entries + 1))), "to give"),
        (Reply(body=b"[{}]"), "lacks path"),
        (Reply(body=b"nonsense"), "cannot be"),
        (Reply(body=b"7"), "cannot be"),
    ],
    ids=["up", "absolute", "negative", "digest", "twice", "size", "count", "keys", "json", "no list"],
)
def test_a_listing_of_a_device_is_not_trusted(
    board: BoardPlace, monkeypatch: pytest.MonkeyPatch, reply: Reply, words: str
) -> None:
    worker = WorkerClient(Board(board.uri))
    monkeypatch.setattr(worker, "call", lambda *arguments, **named: reply)
    with pytest.raises(TransferFailed, match=words):
        Scratch(worker).entries("built")


@pytest.mark.parametrize(
    ("piece", "words"),
    [(b"y", "did not arrive whole"), (b"", "gave 0 bytes"), (b"xx", "gave 2 bytes")],
    ids=["other bytes", "too few", "too many"],
)
def test_bytes_of_a_device_that_are_not_those_it_listed_are_refused(
    board: BoardPlace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, piece: bytes, words: str
) -> None:
    worker = WorkerClient(Board(board.uri))
    monkeypatch.setattr(worker, "call", lambda *arguments, **named: Reply(body=piece))
    with pytest.raises(TransferFailed, match=words):
        Scratch(worker).fetch("built", [FileEntry(path="a", size=1, sha256=_DIGEST)], tmp_path)


def test_a_file_that_changed_on_its_way_is_refused(
    board: BoardPlace, monkeypatch: pytest.MonkeyPatch, files: dict[str, Path]
) -> None:
    with WorkerClient(Board(board.uri)) as worker:
        call = worker.call

        def damaging(function: str, params: object = None, *, body: bytes = b"", **named: object) -> Reply:
            return call(function, params, body=body.replace(b"end", b"END"), **named)  # type: ignore[arg-type]

        monkeypatch.setattr(worker, "call", damaging)
        with pytest.raises(TransferFailed, match=r"large\.bin did not arrive whole"):
            Scratch(worker).send("model", files)


# --- no room ------------------------------------------------------------------------------------------


def test_too_little_room_there_is_said_before_anything_is_sent(
    board: BoardPlace, monkeypatch: pytest.MonkeyPatch, files: dict[str, Path]
) -> None:
    worker = WorkerClient(Board(board.uri))
    monkeypatch.setattr(
        worker, "call", lambda *arguments, **named: Reply({"directory": "/somewhere", "free": 1 << 20})
    )
    with pytest.raises(TransferFailed, match=r"9 MiB are to go to board.* has 1 MiB free") as caught:
        Scratch(worker).send("model", files)
    assert "TMPDIR" in caught.value.hint


def test_too_little_room_here_is_said_before_anything_comes(
    board: BoardPlace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    worker = WorkerClient(Board(board.uri))
    with pytest.raises(TransferFailed, match="0 MiB are free here"):
        Scratch(worker).fetch("built", [FileEntry(path="a", size=1, sha256=_DIGEST)], tmp_path)


# --- it goes with its worker --------------------------------------------------------------------------


def kill_worker(worker: WorkerClient) -> None:
    os.kill(worker.hello.pid, signal.SIGKILL)


def kill_with_the_pipe(worker: WorkerClient) -> None:
    worker._kill()


def leave(worker: WorkerClient) -> None:
    worker.close()


def lose_the_line(worker: WorkerClient) -> None:
    """What a host that is killed, or a connection that breaks, leaves to the device."""
    assert worker._wire is not None
    worker._wire._pipe.stdin.close()


@pytest.mark.parametrize("ending", [kill_worker, kill_with_the_pipe, lose_the_line, leave])
def test_the_directory_is_gone_however_the_worker_ends(
    board: BoardPlace, files: dict[str, Path], ending: Callable[[WorkerClient], None]
) -> None:
    with WorkerClient(Board(board.uri)) as worker:
        Scratch(worker).send("model", files)
        assert board.left()
        ending(worker)
        assert eventually(lambda: board.left() == [])


def test_an_error_here_removes_the_directory_there(board: BoardPlace, files: dict[str, Path]) -> None:
    directory = files["large.bin"].parent
    with pytest.raises(KeyboardInterrupt), DeviceWithFiles(Board(board.uri)) as device:
        device.place(directory)
        assert board.left()
        raise KeyboardInterrupt
    assert board.left() == []


def test_an_interrupt_while_sending_removes_what_was_sent(board: BoardPlace, files: dict[str, Path]) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), DeviceWithFiles(Board(board.uri)) as device:
        device.place(files["large.bin"].parent, interrupt)
    assert eventually(lambda: board.left() == [])


# --- a device with files ------------------------------------------------------------------------------


def test_a_directory_is_brought_once_and_again_when_it_changed(
    board: BoardPlace, files: dict[str, Path]
) -> None:
    directory = files["large.bin"].parent
    with bringing_files(Board(board.uri)) as device:
        assert isinstance(device, DeviceWithFiles)
        first = device.place(directory)
        assert device.place(directory) == first
        files["part/small.txt"].write_text("another")
        second = device.place(directory)
        assert second != first
        assert (Path(second) / "part" / "small.txt").read_text() == "another"
        assert not Path(first).exists(), "the device's disk is not filled with what nobody needs"


def test_what_is_gone_here_goes_there_with_the_next_that_is_brought(
    board: BoardPlace, files: dict[str, Path], tmp_path: Path
) -> None:
    trial = tmp_path / "trial"
    trial.mkdir()
    (trial / "engine.bin").write_text("engine")
    with DeviceWithFiles(Board(board.uri)) as device:
        first = device.place(trial)
        shutil.rmtree(trial)
        device.place(files["large.bin"].parent)
        assert not Path(first).exists()


def test_a_keeper_that_was_lost_says_so(board: BoardPlace, files: dict[str, Path]) -> None:
    directory = files["large.bin"].parent
    with pytest.raises(WorkerCrashed), DeviceWithFiles(Board(board.uri)) as device:
        device.place(directory)
        assert device._keeper is not None
        os.kill(device._keeper.hello.pid, signal.SIGKILL)
        files["part/small.txt"].write_text("another")
        device.place(directory)
