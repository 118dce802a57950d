"""The checks around every call to a backend's compile half, with real plugins that break each promise."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.errors import (
    CompileFailed,
    ContractViolation,
    ModelFileError,
    OutputError,
    PluginError,
    PrecisionNotGiven,
    WorkerCrashed,
    WorkerOutOfMemory,
    WorkerTimeout,
)
from edgekit.host.compiling import compile_model
from edgekit.values import CompileRequest
from tests.plugin_folders import install_plugin

COMPILE = """
class Compiler(Compiler):
    def compile(self, request, progress):
        (request.workdir / "engine.bin").write_bytes(b"engine")
        made = dict(files=("engine.bin",), precision=request.precision)
"""


def breaking(body: str) -> str:
    """A backend whose compile() writes one file, then does `body`."""
    return COMPILE + "".join(f"        {line}\n" for line in body.splitlines())


def contents(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


# --- what works ---------------------------------------------------------------------------------------


def test_the_files_are_in_the_workdir_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest
) -> None:
    install_plugin(monkeypatch, tmp_path, "good")
    seen: list[tuple[int, int, str]] = []
    compiled = compile_model("good", request_, on_progress=lambda *step: seen.append(step), timeout=60)
    assert compiled.files == ("engine.bin",)
    assert compiled.engine_versions == {"fake": "1.0"}
    assert contents(request_.workdir) == ["engine.bin"]
    assert seen == [(0, 1, "copying"), (1, 1, "copying")]


def test_the_request_arrives_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest
) -> None:
    body = """
import json
from edgekit_runtime.codec import to_json
(request.workdir / "engine.bin").write_text(json.dumps(to_json(request)))
return Compiled(**made)
"""
    install_plugin(monkeypatch, tmp_path, "telling", breaking(body))
    asked = replace(request_, keep_high=("node",), seed=7, threads=2, calibration=tmp_path)
    compile_model("telling", asked, timeout=60)
    told = json.loads((asked.workdir / "engine.bin").read_text())
    assert told["options"] == {"level": 3, "fast": True, "mode": "x", "ratio": 0.5}
    assert type(told["options"]["fast"]) is bool
    assert told["keep_high"] == ["node"]
    assert told["target"]["budget"]["latency_p50_ms"] == 5.0
    assert told["signature"]["inputs"][0]["shape"] == ["batch", 4]
    assert (told["seed"], told["threads"], told["calibration"]) == (7, 2, str(tmp_path))


def test_relative_paths_are_settled_before_the_worker_changes_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest
) -> None:
    install_plugin(monkeypatch, tmp_path, "good")
    monkeypatch.chdir(tmp_path)
    asked = replace(request_, model=Path("model/model.onnx"), workdir=Path("out"))
    compile_model("good", asked, timeout=60)
    assert contents(tmp_path / "out") == ["engine.bin"]


def test_nested_files_are_complete_when_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest
) -> None:
    body = """
(request.workdir / "parts").mkdir()
(request.workdir / "parts" / "a.bin").write_bytes(b"a")
return Compiled(files=("engine.bin", "parts/a.bin"), precision="fp32")
"""
    install_plugin(monkeypatch, tmp_path, "nested", breaking(body))
    compile_model("nested", request_, timeout=60)
    assert contents(request_.workdir) == ["engine.bin", "parts", "parts/a.bin"]


def test_temporary_files_of_a_plugin_are_swept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest
) -> None:
    body = "import tempfile, os; tempfile.mkstemp(); os._exit(1)"
    install_plugin(monkeypatch, tmp_path, "messy", breaking(body))
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with pytest.raises(WorkerCrashed):
        compile_model("messy", request_, timeout=60)
    assert contents(scratch) == []


# --- broken promises ----------------------------------------------------------------------------------

VIOLATIONS = {
    "returns None": ("return None", "compile() returned NoneType, not Compiled"),
    "lists no files": ("return Compiled(files=(), precision='fp32')", "built no files"),
    "lists a missing file": (
        "return Compiled(files=('engine.bin', 'b.bin'), precision='fp32')",
        "listed files do not exist: b.bin",
    ),
    "forgets a file": (
        "(request.workdir / 'b.bin').write_text('b'); return Compiled(**made)",
        "files that are not listed: b.bin",
    ),
    "lists a file twice": (
        "return Compiled(files=('engine.bin', 'engine.bin'), precision='fp32')",
        "lists a file twice",
    ),
    "lists an absolute path": (
        "return Compiled(files=('/etc/passwd',), precision='fp32')",
        "lists '/etc/passwd'",
    ),
    "lists a path that leads out": (
        "return Compiled(files=('../model/model.onnx',), precision='fp32')",
        "lists '../model/model.onnx'",
    ),
    "lists what is no text": ("return Compiled(files=(request.workdir,), precision='fp32')", "tuple of text"),
    "gives versions that are no text": (
        "return Compiled(**made, engine_versions={'fake': 1})",
        "engine_versions must map",
    ),
    "writes a manifest": (
        "(request.workdir / 'manifest.json').write_text('{}')\n"
        "return Compiled(files=('engine.bin', 'manifest.json'), precision='fp32')",
        "manifest.json is edgekit's own name",
    ),
    "links to the model": (
        "(request.workdir / 'b').symlink_to(request.model)\n"
        "return Compiled(files=('engine.bin', 'b'), precision='fp32')",
        "b in the workdir is a symlink",
    ),
    "links a directory": (
        "(request.workdir / 'b').symlink_to(request.model.parent)\nreturn Compiled(**made)",
        "b in the workdir is a symlink",
    ),
    "hard-links the model": (
        "(request.workdir / 'b').hardlink_to(request.model)\n"
        "return Compiled(files=('engine.bin', 'b'), precision='fp32')",
        "hard link",
    ),
    "makes a fifo": (
        "import os; os.mkfifo(request.workdir / 'b')\n"
        "return Compiled(files=('engine.bin', 'b'), precision='fp32')",
        "no plain file",
    ),
    "writes beside the workdir": (
        "(request.workdir.parent / 'cache.bin').write_text('x'); return Compiled(**made)",
        "wrote outside its workdir: cache.bin",
    ),
    "writes above the workdir": (
        "(request.workdir.parent.parent / 'cache.bin').write_text('x'); return Compiled(**made)",
        "wrote outside its workdir: cache.bin",
    ),
    "writes into the working directory": (
        "import builtins; builtins.open('dump.txt', 'w').close(); return Compiled(**made)",
        "wrote outside its workdir: dump.txt",
    ),
    "removes its workdir": (
        "import shutil; shutil.rmtree(request.workdir); return Compiled(**made)",
        "removed its workdir",
    ),
    "changes the model": (
        "request.model.write_text('optimised'); return Compiled(**made)",
        "touched the model's directory: changed model.onnx",
    ),
    "changes external data": (
        "request.model.with_name('model.onnx.data').write_text('x'); return Compiled(**made)",
        "changed model.onnx.data",
    ),
    "adds a file beside the model": (
        "request.model.with_name('model.opt.onnx').write_text('x'); return Compiled(**made)",
        "added model.opt.onnx",
    ),
    "removes a file beside the model": (
        "request.model.with_name('manifest.json').unlink(); return Compiled(**made)",
        "removed manifest.json",
    ),
    "builds another precision": (
        "return Compiled(files=('engine.bin',), precision='fp16')",
        "built fp16 where fp32 was asked for",
    ),
    "calls sys.exit": ("import sys; sys.exit(0)", "tried to end the process (SystemExit: 0)"),
    "reports progress without numbers": ("progress('half', None, 'x')", "is not counted in numbers"),
}


@pytest.mark.parametrize("case", VIOLATIONS)
def test_a_broken_promise_is_a_bug_in_the_named_plugin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest, case: str
) -> None:
    body, words = VIOLATIONS[case]
    install_plugin(monkeypatch, tmp_path, "breaker", breaking(body), version="3.1")
    with pytest.raises(ContractViolation) as caught:
        compile_model("breaker", request_, timeout=60)
    assert "a bug in backend 'breaker' (edgekit-breaker 3.1)" in caught.value.message
    assert words in caught.value.message
    assert contents(request_.workdir) == [], "nothing is left after an error"


# --- errors and ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ("raise RuntimeError('no kernel for Erf')", CompileFailed, "RuntimeError: no kernel for Erf"),
        ("raise PrecisionNotGiven('int8 is slower')", PrecisionNotGiven, "int8 is slower"),
        ("raise CompileFailed('opset 99', hint='export with 17')", CompileFailed, "opset 99"),
        ("import os; os._exit(9)", WorkerCrashed, "exit code 9"),
        ("import ctypes; ctypes.string_at(0)", WorkerCrashed, "SIGSEGV"),
        ("import time; time.sleep(3600)", WorkerTimeout, "within 4 s"),
        ("raise MemoryError", WorkerOutOfMemory, "ran out of memory"),
        ("raise RuntimeError('std::bad_alloc')", WorkerOutOfMemory, "bad_alloc"),
        ("bytearray(3 << 30)", WorkerOutOfMemory, "ran out of memory"),
    ],
)
def test_what_goes_wrong_in_compile_has_its_own_error_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    request_: CompileRequest,
    body: str,
    error: type[PluginError],
    words: str,
) -> None:
    code = "\nfrom edgekit.api import CompileFailed, PrecisionNotGiven\n" + breaking(body)
    install_plugin(monkeypatch, tmp_path, "failing", code)
    with pytest.raises(error, match=words):
        compile_model("failing", request_, timeout=4, memory_mib=1500)
    assert contents(request_.workdir) == []


def test_an_error_of_the_worker_names_the_backend(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest
) -> None:
    install_plugin(monkeypatch, tmp_path, "failing", breaking("import os; os.abort()"))
    with pytest.raises(WorkerCrashed, match=r"backend 'failing' \(edgekit-failing 0\.1\): .*SIGABRT"):
        compile_model("failing", request_, timeout=60)


def test_ctrl_c_stops_the_compiler_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest
) -> None:
    pids: list[int] = []

    def interrupt(done: int, total: int, what: str) -> None:
        pids.append(done)
        threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,)).start()

    body = "import os, time; progress(os.getpid(), 0, 'compiling'); time.sleep(3600)"
    install_plugin(monkeypatch, tmp_path, "slow", breaking(body))
    with pytest.raises(KeyboardInterrupt):
        compile_model("slow", request_, on_progress=interrupt)
    assert contents(request_.workdir) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_missing_model_or_a_full_workdir_is_refused_before_the_plugin_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest
) -> None:
    install_plugin(monkeypatch, tmp_path, "good")
    with pytest.raises(ModelFileError, match=r"nothing\.onnx"):
        compile_model("good", replace(request_, model=tmp_path / "nothing.onnx"), timeout=60)
    (request_.workdir / "mine.txt").write_text("keep me")
    with pytest.raises(OutputError, match="not empty"):
        compile_model("good", request_, timeout=60)
    assert contents(request_.workdir) == ["mine.txt"], "what was there before is the user's"
