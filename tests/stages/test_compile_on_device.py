"""Artifacts built and checked on another device, over the worker's pipe alone."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit.errors import (
    ArtifactWrong,
    BackendUnavailable,
    CompileFailed,
    ModelNotSupported,
    UnknownName,
    WorkerCrashed,
)
from edgekit.files.manifests import read_manifest, verify
from edgekit.stages.backends import check_backend
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.parents import table_of
from edgekit.stages.validate import ValidateOptions, validate
from edgekit.values import ArtifactTable, CompileSettings, DeviceSettings, Match, Outcome, Target, Workload
from edgekit_runtime.manifests import list_files
from tests.boards import PYTHON, BoardPlace, board_plugged_in
from tests.pipelines import tiny_pipeline
from tests.plugin_folders import GOOD_BACKEND, install_plugin, make_plugin

pytestmark = pytest.mark.slow

#: The tutorial backend, whose engine must be built where it runs.
ON_TARGET = """
import os
from dataclasses import replace
from edgekit.api import CompileFailed, read_feeds
from edgekit_example import compiler as good, session as good_session

SPEC = dict(
    arches=("x86_64", "AMD64", "aarch64", "arm64"), precisions=("fp32", "int8"),
    capabilities=("dynamic-shapes", "placement"), builds_on="target",
)
ON_THE_BOARD = os.environ.get("HOME", "").endswith("board")

class Compiler(good.Compiler):
    def compile(self, request, progress):
        built = super().compile(replace(request, precision="fp32"), progress)
        if request.precision == "fp32":
            (request.workdir / "full.bin").write_bytes(bytes(1 << 20))  # what int8 saves
            return replace(built, files=(*built.files, "full.bin"), engine_versions={"engine": ENGINE})
        rows = len(list(read_feeds(request.calibration)))
        return replace(built, precision="int8", notes=(f"calibrated on {rows} rows",))

def open(request):
    return Bent(good_session.open_session(replace(request, precision="fp32")))

class Bent:
    def __init__(self, inner): self.inner = inner
    signature = property(lambda self: self.inner.signature)
    def run(self, feeds): return self.inner.run(feeds)
    def placement(self):
        found = self.inner.placement()
        row = found.rows[0]
        return replace(found, rows=(row, replace(row, precision="int8")))
    def profile(self): return ()
    def close(self): self.inner.close()

ENGINE = "1.0 on the host"
"""


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Path:
    return tiny_model


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[BoardPlace]:
    with board_plugged_in(monkeypatch, tmp_path) as place:
        yield place


@pytest.fixture
def on_target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, board: BoardPlace) -> Callable[[str], None]:
    """Install the backend, in version 0.1 here and 2.0 on the board; what is given is only there."""

    def install(only_there: str = "") -> None:
        install_plugin(monkeypatch, tmp_path, "ontarget", ON_TARGET)
        code = f'{GOOD_BACKEND}{ON_TARGET}\nENGINE = "2.0 on the board"\n{only_there}'
        folder = make_plugin(tmp_path / "there", "ontarget", code, version="2.0")
        folder.rename(board.home / "site")

    return install


def target(board: BoardPlace | None = None, match: Match | None = None) -> Target:
    return Target(
        name="board",
        match=match or Match(arch=platform.machine()),
        device=DeviceSettings(uri="local" if board is None else board.uri),
        workload=Workload(sequence=8),
    )


def built(model: Path, output: Path, options: CompileOptions) -> ArtifactTable:
    result = compile_model(model, output, options)
    verify(output, result.manifest)
    return table_of(result.manifest.artifact)


# --- what is built, and by whom -----------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["example", "onnxruntime"])
def test_a_real_backend_builds_there_what_it_builds_here(
    board: BoardPlace, model: Path, tmp_path: Path, backend: str
) -> None:
    here, there = tmp_path / "a" / "here", tmp_path / "a" / "there"
    options = functools.partial(CompileOptions, backend=backend, target=target())
    built(model, here, options())
    table = built(model, there, options(device=board.uri))
    assert list_files(there) == list_files(here)
    assert table.built_on.python == PYTHON
    assert table.placement is not None
    assert board.told().count('"edgekit_runtime.scratch:put"') == 1, "the model alone, and that once"
    assert board.left() == []


def test_a_model_of_several_graphs_is_built_there_part_by_part(board: BoardPlace, tmp_path: Path) -> None:
    model = tiny_pipeline(tmp_path / "pipeline")
    here, there = tmp_path / "a" / "here", tmp_path / "a" / "there"
    options = functools.partial(CompileOptions, backend="onnxruntime", target=target())
    built(model, here, options())
    built(model, there, options(device=board.uri))
    assert list_files(there) == list_files(here)
    assert {"encoder/model.onnx", "decoder/model.onnx", "pipeline.json"} <= {
        entry.path for entry in list_files(there)
    }


def test_no_path_of_this_machine_reaches_the_device(
    board: BoardPlace, model: Path, tmp_path: Path, on_target: Callable[..., None]
) -> None:
    on_target()
    options = CompileOptions(
        target=dataclasses.replace(target(board), origin=str(tmp_path / "board.toml")),
        backend="ontarget",
        precision="int8",
        calibration=rows(tmp_path / "rows.jsonl"),
        max_seconds=0,
    )
    built(model, tmp_path / "out" / "artifact", options)
    ours = (str(model), str(tmp_path / "out"), str(tmp_path / "board.toml"), str(tmp_path / "rows.jsonl"))
    told = board.told()
    assert str(board.home / "tmp") in told, "the device's own paths were heard"
    assert not [path for path in ours if path in told]
    opened = board.opened()
    assert any(path.endswith("model.onnx") for path in opened)
    code = (sys.prefix, sys.base_prefix, *map(os.path.realpath, filter(None, sys.path)), *sys.path)
    elsewhere = [
        path
        for path in opened
        if path.startswith(os.path.realpath(tmp_path.parents[1])) and not path.startswith(str(board.home))
    ]
    assert not [path for path in elsewhere if not path.startswith(tuple(filter(None, code)))]


def test_versions_and_machine_in_the_manifest_are_the_devices(
    board: BoardPlace, model: Path, tmp_path: Path, on_target: Callable[..., None]
) -> None:
    on_target()
    table = built(model, tmp_path / "a", CompileOptions(backend="ontarget", target=target(board)))
    assert table.backend_version == "2.0"
    assert table.engine_versions == {"engine": "2.0 on the board"}
    assert table.built_on.python == PYTHON


def test_calibration_rows_are_brought_to_the_device(
    board: BoardPlace, model: Path, tmp_path: Path, on_target: Callable[..., None]
) -> None:
    on_target()
    asked = CompileOptions(
        backend="ontarget",
        target=target(board),
        precision="int8",
        calibration=rows(tmp_path / "rows.jsonl"),
        max_seconds=0,
    )
    assert "calibrated on 24 rows" in built(model, tmp_path / "a", asked).notes


def rows(path: Path) -> Path:
    texts = (f"the {one} is {other}" for one in ("train", "lamp", "water") for other in "abcdefgh")
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_the_answers_are_checked_on_the_device(
    board: BoardPlace, model: Path, tmp_path: Path, on_target: Callable[..., None]
) -> None:
    on_target(
        "\ndef wrong(self, feeds): return {k: -v for k, v in self.inner.run(feeds).items()}\nBent.run = wrong"
    )
    with pytest.raises(ArtifactWrong, match="disagrees with the model"):
        compile_model(model, tmp_path / "a", CompileOptions(backend="ontarget", target=target(board)))
    assert not (tmp_path / "a").exists()
    assert board.left() == []


def test_the_model_is_checked_by_the_devices_backend(
    board: BoardPlace, model: Path, tmp_path: Path, on_target: Callable[..., None]
) -> None:
    on_target("""
def check(self, model, target):
    row = OperatorSupport(op_type="Erf", count=2, supported=False, reason="no such unit on this board")
    return Support(supported=False, operators=(row,))
Compiler.check = check
""")
    with pytest.raises(ModelNotSupported, match=r"Erf \(2\): no such unit on this board"):
        compile_model(model, tmp_path / "a", CompileOptions(backend="ontarget", target=target(board)))
    assert check_backend("ontarget", model, "this-machine").supported
    assert not check_backend("ontarget", model, "this-machine", board.uri).supported


def test_it_is_up_to_date_until_the_device_has_another_version(
    board: BoardPlace, model: Path, tmp_path: Path, on_target: Callable[..., None]
) -> None:
    on_target()
    options = CompileOptions(backend="ontarget", target=target(board))
    assert not compile_model(model, tmp_path / "a", options).up_to_date
    assert compile_model(model, tmp_path / "a", options).up_to_date
    metadata = next((board.home / "site").glob("*.dist-info/METADATA"))
    metadata.write_text(metadata.read_text().replace("2.0", "2.1"))
    assert not compile_model(model, tmp_path / "a", options).up_to_date


# --- which device -------------------------------------------------------------------------------------


def test_an_engine_that_builds_anywhere_is_built_here_unless_a_device_is_asked_for(
    board: BoardPlace, model: Path, tmp_path: Path
) -> None:
    table = built(model, tmp_path / "a", CompileOptions(backend="example", target=target(board)))
    assert table.built_on.python != PYTHON
    assert board.opened() == []


def test_a_target_may_ask_to_be_built_on(board: BoardPlace, model: Path, tmp_path: Path) -> None:
    asked = dataclasses.replace(target(board), compile=CompileSettings(builds_on="target"))
    table = built(model, tmp_path / "a", CompileOptions(backend="example", target=asked))
    assert table.built_on.python == PYTHON


def test_another_machine_than_the_target_is_refused_with_the_way_to_reach_it(
    board: BoardPlace, model: Path, tmp_path: Path, on_target: Callable[..., None]
) -> None:
    on_target()
    options = functools.partial(CompileOptions, backend="ontarget")
    elsewhere = Match(system="Board")
    with pytest.raises(BackendUnavailable, match="builds on the target itself, and this is not") as caught:
        compile_model(model, tmp_path / "a", options(target=target(match=elsewhere)))
    assert "--device" in caught.value.hint
    with pytest.raises(BackendUnavailable, match=f"and {board.uri} is not 'board'"):
        compile_model(model, tmp_path / "a", options(target=target(board, elsewhere)))
    given = options(target=target(match=elsewhere), device=f"{board.uri}?system=Board")
    assert built(model, tmp_path / "a", given).built_on.system == "Board"


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ("edgekit=", "has no edgekit, which building there needs"),
        ("edgekit-example=", "has no edgekit-example, which"),
        ("edgekit=0.0.1", "has edgekit 0.0.1, this is"),
    ],
)
def test_a_device_that_cannot_build_says_what_to_install_there(
    board: BoardPlace, model: Path, tmp_path: Path, claims: str, words: str
) -> None:
    options = CompileOptions(backend="example", target=target(), device=f"{board.uri}?{claims}")
    with pytest.raises(BackendUnavailable, match=words) as caught:
        compile_model(model, tmp_path / "a", options)
    assert "pip install 'edgekit-example[compile]'" in caught.value.hint


def test_a_missing_engine_is_missed_where_it_would_build(
    board: BoardPlace, model: Path, tmp_path: Path, on_target: Callable[..., None]
) -> None:
    on_target("\nSPEC = {**SPEC, 'engine_modules': ('no_such_engine',)}")
    with pytest.raises(BackendUnavailable, match=f"installed on {board.uri} but its engine is not"):
        compile_model(model, tmp_path / "a", CompileOptions(backend="ontarget", target=target(board)))


# --- errors and ends ----------------------------------------------------------------------------------


def failing(body: str) -> str:
    return f"\ndef compile(self, request, progress):\n    {body}\nCompiler.compile = compile\n"


def test_an_error_of_the_devices_plugin_keeps_its_code_and_hint(
    board: BoardPlace, model: Path, tmp_path: Path, on_target: Callable[..., None]
) -> None:
    on_target(failing('raise CompileFailed("no kernel for Erf", hint="keep Erf high")'))
    with pytest.raises(CompileFailed, match="no kernel for Erf") as caught:
        compile_model(model, tmp_path / "a", CompileOptions(backend="ontarget", target=target(board)))
    assert board.uri in caught.value.message
    assert caught.value.hint == "keep Erf high"
    assert not (tmp_path / "a").exists()
    assert board.left() == []


def test_a_crash_on_the_device_leaves_nothing_on_either_side(
    board: BoardPlace, model: Path, tmp_path: Path, on_target: Callable[..., None]
) -> None:
    on_target(failing("import tempfile; tempfile.mkstemp(); os._exit(3)"))
    output = tmp_path / "out" / "a"
    with pytest.raises(WorkerCrashed, match=f"ontarget.*{board.uri}.*exit code 3"):
        compile_model(model, output, CompileOptions(backend="ontarget", target=target(board)))
    assert list(output.parent.iterdir()) == []
    assert board.left() == []
    assert [path.name for path in (board.home / "tmp").glob("tmp*")] == []


def test_progress_comes_from_the_device_and_an_interrupt_ends_the_work_there(
    board: BoardPlace, model: Path, tmp_path: Path, on_target: Callable[..., None]
) -> None:
    pid = tmp_path / "pid"
    on_target(
        failing(f"""import pathlib, time
    pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))
    while True:
        progress(1, 2, "building on the board")
        time.sleep(0.05)""")
    )

    def interrupt(done: int, total: int, what: str) -> None:
        if what == "building on the board":
            raise KeyboardInterrupt

    output = tmp_path / "out" / "a"
    with pytest.raises(KeyboardInterrupt):
        compile_model(model, output, CompileOptions(backend="ontarget", target=target(board)), interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert list(output.parent.iterdir()) == []
    assert board.left() == []


# --- afterwards ---------------------------------------------------------------------------------------


def test_an_artifact_is_validated_on_a_device_that_sees_no_file_of_this_machine(
    board: BoardPlace, model: Path, tmp_path: Path
) -> None:
    built(model, tmp_path / "a", CompileOptions(backend="example", target=target()))
    options = ValidateOptions(no_budget=True, device=board.uri, max_seconds=2.0)
    report = table_of(validate(tmp_path / "a", None, options).manifest.report)
    assert report.machine.python == PYTHON
    assert report.golden is not None
    assert report.golden.outcome is Outcome.PASS
    assert board.told().count('"edgekit_runtime.scratch:put"') == len(list_files(tmp_path / "a", skip=()))
    assert board.left() == []


def test_the_command_line_names_the_device_that_it_does_not_know(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgekit", "compile", model, "-o", tmp_path / "a"]
    done = subprocess.run(
        [*map(str, command), "--backend", "example", "--device", "pigeon://coop"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "error[unknown-name]: no device kind 'pigeon'" in done.stderr) == (2, True)


def test_the_manifest_of_an_artifact_from_a_device_reads_back(
    board: BoardPlace, model: Path, tmp_path: Path
) -> None:
    table = built(model, tmp_path / "a", CompileOptions(backend="example", target=target(), device=board.uri))
    assert read_manifest(tmp_path / "a", "artifact").artifact == table
    with pytest.raises(UnknownName, match="no device kind"):
        compile_model(model, tmp_path / "b", CompileOptions(backend="example", device="pigeon://coop"))
