"""The compile half of a backend on a device that sees no file of this machine: promises hold there too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.errors import ContractViolation, WorkerOutOfMemory, WorkerTimeout
from edgekit.host.compiling import check_model, compile_model
from edgekit.values import CompileRequest
from tests.boards import Board, BoardPlace, board_plugged_in
from tests.plugin_folders import install_plugin


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[BoardPlace]:
    with board_plugged_in(monkeypatch, tmp_path) as place:
        yield place


def compiling(body: str) -> str:
    """A backend whose compile() writes one file, then does `body`."""
    head = """
class Compiler(Compiler):
    def compile(self, request, progress):
        (request.workdir / "engine.bin").write_bytes(b"engine")
        made = dict(files=("engine.bin",), precision=request.precision)
"""
    return head + "".join(f"        {line}\n" for line in body.splitlines())


def names(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


def test_the_request_arrives_with_the_devices_paths_and_the_files_come_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest, board: BoardPlace
) -> None:
    body = """
import os, tempfile
from edgekit_runtime.codec import to_json
import json
(request.workdir / "parts").mkdir()
beside, rows = (sorted(os.listdir(path)) for path in (request.model.parent, request.calibration))
seen = beside, os.getcwd(), tempfile.mkstemp()[1], rows
(request.workdir / "parts" / "seen.json").write_text(json.dumps([to_json(request), *seen]))
return Compiled(files=("engine.bin", "parts/seen.json"), precision="fp32")
"""
    install_plugin(monkeypatch, tmp_path, "telling", compiling(body))
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "row-0.safetensors").write_bytes(b"row")
    asked = replace(request_, calibration=rows, target=replace(request_.target, origin=str(tmp_path)))
    compiled = compile_model("telling", asked, device=Board(board.uri), timeout=120)
    assert compiled.files == ("engine.bin", "parts/seen.json")
    assert names(request_.workdir) == ["engine.bin", "parts", "parts/seen.json"]
    told, beside, directory, temporary, calibration = json.loads(
        (request_.workdir / "parts" / "seen.json").read_text()
    )
    assert beside == ["model.onnx", "model.onnx.data"], "the model, its weights, and no neighbour"
    assert calibration == ["row-0.safetensors"]
    paths = (told["model"], told["workdir"], told["calibration"], directory, temporary)
    assert all(Path(path).is_relative_to(board.home / "tmp") for path in paths)
    assert told["target"]["origin"] == ""
    assert told["options"] == dict(request_.options)
    assert board.left() == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("(request.workdir.parent / 'cache.bin').write_text('x'); return Compiled(**made)", "cache.bin"),
        (
            "(request.workdir.parent.parent / 'cache.bin').write_text('x'); return Compiled(**made)",
            "wrote outside its workdir: cache.bin",
        ),
        ("request.model.write_text('optimised'); return Compiled(**made)", "changed model.onnx"),
        ("(request.workdir / 'b').symlink_to(request.model); return Compiled(**made)", "is a symlink"),
    ],
    ids=["beside", "above", "model", "link"],
)
def test_a_promise_that_is_broken_on_the_device_is_a_violation_here(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    request_: CompileRequest,
    board: BoardPlace,
    body: str,
    words: str,
) -> None:
    install_plugin(monkeypatch, tmp_path, "breaker", compiling(body))
    with pytest.raises(ContractViolation, match="a bug in backend 'breaker'") as caught:
        compile_model("breaker", request_, device=Board(board.uri), timeout=120)
    assert words in caught.value.message
    assert names(request_.workdir) == []
    assert board.left() == []


@pytest.mark.parametrize(
    ("body", "error", "seconds"),
    [
        ("import time; time.sleep(600)", WorkerTimeout, 4),
        ("raise MemoryError", WorkerOutOfMemory, 300),
    ],
    ids=["hangs", "full"],
)
def test_a_device_that_hangs_or_runs_full_is_told_with_its_uri(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    request_: CompileRequest,
    board: BoardPlace,
    body: str,
    error: type[Exception],
    seconds: float,
) -> None:
    install_plugin(monkeypatch, tmp_path, "ending", compiling(body))
    with pytest.raises(error, match=f"edgekit-ending 0.1.*on {board.uri}"):
        compile_model("ending", request_, device=Board(board.uri), timeout=seconds)
    assert names(request_.workdir) == []
    assert board.left() == []


def test_a_model_is_checked_on_the_device_it_is_brought_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest, board: BoardPlace
) -> None:
    checking = """
def check(self, model, target):
    row = OperatorSupport(op_type=str(model), count=1, supported=True)
    return Support(supported=True, operators=(row,))
Compiler.check = check
"""
    install_plugin(monkeypatch, tmp_path, "checking", checking)
    support = check_model("checking", request_.model, request_.target, device=Board(board.uri))
    assert Path(support.operators[0].op_type).is_relative_to(board.home / "tmp")
    assert board.left() == []
