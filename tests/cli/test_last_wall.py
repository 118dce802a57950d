"""What nobody foresaw is still no failed budget, and no traceback unless it is asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgekit.cli import app
from edgekit.errors import InternalError
from tests.conftest import Edgekit


def run_main(monkeypatch: pytest.MonkeyPatch, problem: BaseException, *flags: str) -> int:
    def broken() -> None:
        raise problem

    monkeypatch.setattr(app, "app", broken)
    monkeypatch.setattr(sys, "argv", ["edgekit", *flags])
    with pytest.raises(SystemExit) as caught:
        app.main()
    return int(caught.value.code or 0)


def test_a_bug_exits_with_4_and_says_that_it_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, KeyError("x")) == InternalError.exit_code == 4
    said = capsys.readouterr()
    assert said.err.startswith("error[internal]: KeyError")
    assert "bug" in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_with_json_the_bug_is_json_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, KeyError("x"), "--json") == 4
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "internal"


def test_a_file_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, PermissionError(13, "Permission denied", "rows.jsonl")) == 2
    assert "rows.jsonl: Permission denied" in capsys.readouterr().err


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, KeyboardInterrupt()) == 130
    assert "interrupted" in capsys.readouterr().err


def test_words_that_the_terminal_cannot_show_do_not_break_the_answer(
    edgekit: Edgekit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    (tmp_path / "ünï.toml").write_text(
        'name = "x"\nsummary = "Grüße"\nextends = "this-machine"\n', encoding="utf-8"
    )
    done = edgekit("target", "show", tmp_path / "ünï.toml")
    assert done.returncode == 0
    assert "Gr" in done.stdout
