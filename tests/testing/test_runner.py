"""`run_contract`: the kit without a test file, for `edgekit backend test NAME`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from edgekit.errors import UnknownName
from edgekit.testing import ContractResult, run_contract
from edgekit_runtime.errors import MissingDependency
from tests.testing.sabotage import COMPLETE, Sabotage, write_plugin


def judged(monkeypatch: pytest.MonkeyPatch, directory: Path, sabotage: Sabotage) -> ContractResult:
    for folder in (COMPLETE, write_plugin(directory, sabotage)):
        monkeypatch.syspath_prepend(str(folder))
    return run_contract(sabotage.name)


def test_a_good_backend_passes_and_nothing_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told: list[tuple[int, int, str]] = []
    result = run_contract("example", on_progress=lambda *step: told.append(step))
    assert [step[0] for step in told] == sorted({step[0] for step in told})
    assert told[-1] == (len(result.rows), len(result.rows), result.rows[-1].test)
    assert result.passed, [row for row in result.rows if row.outcome in ("failed", "blocked")]
    assert list(tmp_path.iterdir()) == []
    outcomes = {row.test: (row.outcome, row.reason) for row in result.rows}
    assert outcomes["test_right_numbers[attention]"] == ("passed", "")
    assert outcomes["test_lower_precision_is_executed[int8]"] == ("not claimed", "not claimed: int8")
    assert outcomes["test_profile_shares_make_sense"] == ("not claimed", "not claimed: profile")
    assert result.summary.startswith("backend 'example': ")


def test_a_fault_is_one_failed_row_and_what_it_blocks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exits = """
class Compiler(complete.Compiler):
    def compile(self, request, progress):
        sys.exit(3)
"""
    result = judged(monkeypatch, tmp_path, Sabotage(name="runner-exits", compiler=exits))
    failed = {row.test: row.reason for row in result.rows if row.outcome == "failed"}
    assert list(failed) == ["test_keeps_the_worker_alive"]
    assert "SystemExit" in failed["test_keeps_the_worker_alive"]
    blocked = {row.reason.partition(":")[0] for row in result.rows if row.outcome == "blocked"}
    assert blocked == {"blocked by test_keeps_the_worker_alive"}
    assert not result.passed


def test_a_backend_that_cannot_work_here_is_not_a_pass(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    absent = """
class Compiler(complete.Compiler):
    def probe(self):
        return Probe(available=False, reason="there is no such chip in this machine")

from edgekit.api import Probe
"""
    result = judged(monkeypatch, tmp_path, Sabotage(name="runner-absent", compiler=absent))
    reasons = {row.reason for row in result.rows if row.outcome == "not available"}
    assert reasons == {"not available here: there is no such chip in this machine"}
    assert "failed" not in {row.outcome for row in result.rows}
    assert not result.passed


def test_tests_that_must_open_an_artifact_are_skipped_where_its_hardware_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = """
class Session(complete.Session):
    def __init__(self, request):
        super().__init__(request)
        raise HardwareMissing(f"there is no {request.device} in this machine")
"""
    for folder in (COMPLETE, write_plugin(tmp_path, Sabotage(name="runner-elsewhere", session=elsewhere))):
        monkeypatch.syspath_prepend(str(folder))
    result = run_contract("runner-elsewhere", target="rtx-4060")
    outcomes = {row.test: (row.outcome, row.reason) for row in result.rows}
    skipped = ("needs the device", "needs the device: there is no gpu in this machine")
    for test in (
        "test_right_numbers[conv]",
        "test_feeds_are_not_changed[matmul]",
        "test_close_twice_is_fine",
    ):
        assert outcomes[test] == skipped
    built = (
        "compile_gives_the_precision_asked",
        "the_host_finds_no_fault",
        "compile_twice_lists_the_same_files",
    )
    assert {outcomes[f"test_{test}"][0] for test in built} == {"passed"}
    # its opener reads the file before it looks for the chip
    assert outcomes["test_open_refuses_a_damaged_artifact[truncated]"][0] == "passed"
    assert {outcome for outcome, _ in outcomes.values()} <= {
        "passed",
        "needs the device",
        "not claimed",
        "skipped",
    }
    assert (result.passed, result.exit_code) == (False, 5)


def test_an_unknown_backend_is_told_before_anything_runs() -> None:
    with pytest.raises(UnknownName, match="no-such-backend"):
        run_contract("no-such-backend")


def test_without_pytest_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"edgekit\[testing\]"):
        run_contract("example")


def test_importing_the_room_imports_neither_pytest_nor_numpy() -> None:
    heavy = ["numpy", "onnx", "pytest"]
    code = f"import sys, edgekit.testing; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
