"""`python -m edgekit_runtime`: what it prints, and the exit code for every way to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import edgekit_runtime
from edgekit_runtime.__main__ import main

CommandLine = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def command_line(toy_site: Path, tmp_path: Path) -> CommandLine:
    """Starts the real command in its own process, with the toy backend installed."""
    sources = Path(edgekit_runtime.__path__[0]).parent
    environment = {**os.environ, "PYTHONPATH": f"{toy_site}{os.pathsep}{sources}", "TMPDIR": str(tmp_path)}

    def start(*arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "edgekit_runtime", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    return start


def test_run_prints_label_and_score_per_text(command_line: CommandLine, package: Path) -> None:
    process = command_line("run", package, "a fine film", "dull 😀")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines() == ["positive\t0.7685\ta fine film", "negative\t0.7311\tdull 😀"]


def test_verify_runs_the_self_test(command_line: CommandLine, package: Path) -> None:
    process = command_line("verify", package)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "parity    1 rows read alike" in out
    assert "goldens   3 of 3 agree" in out
    assert "verdict   PASS at 0.99, recorded" in out
    assert "PASS         latency_p90_ms 20 ms" in out
    assert "unproven" not in out


def test_a_wrong_engine_exits_with_1(command_line: CommandLine, parts, tmp_path: Path) -> None:
    wrong = parts.with_options(drift=0.1).write(tmp_path / "p.edgekit")
    process = command_line("verify", wrong)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert err.startswith("error: toy: 0 of 3 goldens agree")
    assert "hint: " in err


def test_the_temporary_directory_is_gone_afterwards(
    command_line: CommandLine, package: Path, parts, tmp_path: Path
) -> None:
    crashing = parts.with_options(crash=True).write(tmp_path / "p.edgekit")
    for path, code in ((package, 0), (crashing, 4)):
        process = command_line("run", path, "fine")
        process.communicate(timeout=60)
        assert process.returncode == code
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe that breaks raises EPIPE on POSIX only")
def test_a_reader_that_leaves_early_is_no_error(command_line: CommandLine, package: Path) -> None:
    process = command_line("run", package, *["fine film"] * 5000)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_exits_with_130_and_cleans_up(command_line: CommandLine, parts, tmp_path: Path) -> None:
    package = parts.write(tmp_path / "toy.edgekit")
    process = command_line("run", package, *["fine film"] * 60_000)
    while not list(tmp_path.glob("edgekit-*/golden")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert list(tmp_path.glob("edgekit-*")) == []


@pytest.mark.usefixtures("toy")
def test_json_output_is_one_object(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(package), "fine", "bad", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["row"] for item in found["predictions"]] == ["fine", "bad"]
    answers = [item["prediction"] for item in found["predictions"]]
    assert [answer["label"] for answer in answers] == ["positive", "negative"]
    assert answers[0]["scores"].keys() == {"negative", "positive"}
    assert (found["name"], found["answers"], found["verdict"]) == ("toy", "classification", "PASS")
    assert found["unproven"] == []
    assert main(["verify", str(package), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["goldens"]["cases"], found["goldens"]["agreeing"], found["parity_cases"]) == (3, 3, 1)


@pytest.mark.usefixtures("toy")
def test_pairs_are_taken_two_by_two(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(package), "--pairs", "good", "film"]) == 0
    assert capsys.readouterr().out.startswith("positive\t")
    assert main(["run", str(package), "--pairs", "good"]) == 2
    assert "even number of texts" in capsys.readouterr().err


@pytest.mark.usefixtures("toy")
def test_what_is_not_proven_is_said_every_time(
    parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    doubtful = replace(
        parts.table, verdict="FAIL", allow_failed=True, unproven=("latency_p90_ms", "peak_memory_mib")
    )
    path = str(replace(parts, table=doubtful).write(tmp_path / "p.edgekit"))
    lines = (
        "warning: packed with --allow-failed although its verdict was FAIL",
        "latency_p90_ms, peak_memory_mib",
    )
    assert main(["run", path, "fine"]) == 0
    captured = capsys.readouterr()
    assert all(line in captured.err for line in lines)
    assert captured.out.count("\n") == 1
    assert main(["verify", path]) == 0
    printed = capsys.readouterr().out
    assert all(line in printed for line in lines)
    for command in (["run", path, "fine"], ["verify", path]):
        assert main([*command, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["allow_failed"] is True
        assert found["unproven"] == ["latency_p90_ms", "peak_memory_mib"]


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({}, 0, ""),
        ({"refuse": True}, 4, "told to refuse"),
        ({"crash": True}, 4, "KeyError"),
        ({"interrupt": True}, 130, "interrupted"),
    ],
)
def test_the_exit_code_tells_what_happened(
    parts,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, bool],
    code: int,
    message: str,
) -> None:
    path = str(parts.with_options(**options).write(tmp_path / "p.edgekit"))
    for command in (["run", path, "fine"], ["verify", path]):
        assert main(command) == code
        assert message in capsys.readouterr().err


def test_a_bad_file_exits_with_2_and_a_missing_backend_with_4(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "torn.edgekit").write_bytes(package.read_bytes()[:-9])
    assert main(["verify", str(tmp_path / "torn.edgekit")]) == 2
    assert "is truncated" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "nowhere.edgekit"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bad-package"
    assert main(["run", str(package), "fine"]) == 4
    said = capsys.readouterr().err
    assert "backend 'toy' is not installed here" in said
    assert "install the distribution that provides it (installed: " in said
    assert "pip install" not in said, "a package's word is no pip command"


@pytest.mark.parametrize(
    "arguments", [[], ["run"], ["run", "p.edgekit"], ["fly", "p.edgekit"], ["verify", "a", "b"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m edgekit_runtime" in capsys.readouterr().err


def test_a_terminal_that_cannot_show_a_letter_gets_it_escaped(package: Path, toy_site: Path) -> None:
    sources = Path(edgekit_runtime.__path__[0]).parent
    environment = {
        **os.environ,
        "PYTHONPATH": f"{toy_site}{os.pathsep}{sources}",
        "PYTHONIOENCODING": "ascii",
    }
    command = [sys.executable, "-m", "edgekit_runtime", "run", str(package), "fine 電"]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"fine \\u96fb" in done.stdout


def test_help_imports_no_engine_and_no_tokenizer() -> None:
    code = (
        "import sys; from edgekit_runtime.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'tokenizers', 'safetensors', 'onnxruntime', 'torch', 'edgekit'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    sources = str(Path(edgekit_runtime.__path__[0]).parent)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": sources},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
