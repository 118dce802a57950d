"""`run_contract(name)`: the kit on an installed backend, without a test file of one's own.

pytest runs in a child process and a temporary directory, with none of the caller's configuration,
so that nothing around it changes the answer and nothing is left behind.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edgekit.devices.local import module_path
from edgekit.discovery import find_backend
from edgekit.errors import WorkerError
from edgekit.stages.common import OnProgress, quiet
from edgekit.targets import load_target
from edgekit_runtime.errors import MissingDependency

TEST_FILE = """
from edgekit.testing import BackendContract


class TestBackend(BackendContract):
    backend = {name!r}
    target = {target!r}
"""

#: The outcome of a test that must open an artifact where the hardware for that is missing.
NEEDS_DEVICE = "needs the device"
#: Outcomes that break the contract, or leave it untested altogether.
BROKEN = ("failed", "blocked", "not available")
ROWS_VARIABLE = "EDGEKIT_CONTRACT_ROWS"
_LOOK_SECONDS = 0.2


def total_file(rows: Path) -> Path:
    """Where the child writes how many tests it will run, beside its rows."""
    return rows.with_suffix(".total")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractRow:
    """One test. outcome: passed, failed, blocked, not claimed, not available, needs the device, skipped."""

    test: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractResult:
    """What the kit found. passed: every claimed promise was tested and kept; exit_code: 0 then, 5 where
    all that can be tested without the device is kept, else 4."""

    backend: str
    rows: tuple[ContractRow, ...]
    passed: bool
    summary: str
    exit_code: int


def run_contract(
    name: str, *, target: str = "", verbose: bool = False, on_progress: OnProgress = quiet
) -> ContractResult:
    """Run the conformance kit on an installed backend. `verbose` shows pytest's own lines on stderr.

    target: name or file of a target to build for, "" for this machine. `on_progress` is told how many tests
    of how many are done, and the latest one's name. Raises UnknownName for a backend or target that there is
    not, MissingDependency without pytest.
    """
    find_backend(name)
    if target:  # the kit runs in another directory
        target = str(Path(load_target(target).origin).resolve())
    if importlib.util.find_spec("pytest") is None:
        raise MissingDependency("the conformance kit needs pytest", hint="pip install 'edgekit[testing]'")
    with tempfile.TemporaryDirectory(prefix="edgekit-contract-") as directory:
        file = TEST_FILE.format(name=name, target=target)
        rows = _rows(Path(directory), name, file, verbose, on_progress)
    counts = Counter(row.outcome for row in rows)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    kept = counts["passed"] > 0 and not any(counts[outcome] for outcome in BROKEN)
    passed = kept and not counts[NEEDS_DEVICE]
    return ContractResult(
        backend=name,
        rows=rows,
        passed=passed,
        summary=f"backend {name!r}: {summary}",
        exit_code=0 if passed else 5 if kept else 4,
    )


def _rows(
    directory: Path, name: str, file: str, verbose: bool, on_progress: OnProgress
) -> tuple[ContractRow, ...]:
    found = directory / "rows.jsonl"
    test = directory / "test_backend.py"
    test.write_text(file, encoding="utf-8")
    (directory / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(test),
        "-p",
        "edgekit.testing.rows",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-c", str(directory / "pytest.ini"), "--basetemp", str(directory / "tmp"), "-v", "-rA"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"PYTHONPATH": module_path(), ROWS_VARIABLE: str(found)}
    said = directory / "said.txt"
    with said.open("w", encoding="utf-8") as stream:
        out = sys.stderr if verbose else stream
        child = subprocess.Popen(command, cwd=directory, env=environment, stdout=out, stderr=out)
        code = _watched(child, found, on_progress)
    if code not in (0, 1) or not found.exists():
        words = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-15:]
        raise WorkerError(f"the conformance kit could not run on {name!r}", hint="\n".join(words))
    return _read(found)


def _watched(child: subprocess.Popen[bytes], found: Path, on_progress: OnProgress) -> int:
    """The exit code of the kit, its rows told as they come; whatever happens here, it is ended."""
    told = 0
    try:
        while True:
            code = child.poll()
            rows = _read(found)
            if len(rows) > told:
                told = len(rows)
                on_progress(told, _total(found), rows[-1].test)
            if code is not None:
                return code
            time.sleep(_LOOK_SECONDS)
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


def _read(found: Path) -> tuple[ContractRow, ...]:
    """The rows so far; a line that is still being written is left for the next look."""
    text = found.read_text(encoding="utf-8") if found.exists() else ""
    return tuple(ContractRow(**json.loads(line)) for line in text.splitlines(True) if line.endswith("\n"))


def _total(found: Path) -> int:
    total = total_file(found)
    text = total.read_text(encoding="utf-8") if total.exists() else ""
    return int(text) if text.isdecimal() else 0
