"""The judge is judged: a broken backend fails in the test named for its fault, a good one in none."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgekit.testing import BackendContract
from tests.testing.sabotage import COMPLETE, Sabotage, conformance_file, write_plugin
from tests.testing.sabotages import CHATTERBOX, GOOD, MODEST, SABOTAGES

pytestmark = pytest.mark.slow

#: Processes of their own or many runs: for good backends, and where a sabotage names them.
COSTLY = (
    "test_importing_the_plugin",
    "test_session_half_needs_no_edgekit",
    "test_the_host_finds_no_fault",
    "test_lower_precision_stays_near",
    *(f"test_right_numbers[{name}]" for name in ("several-inputs", "gather", "large-constant", "odd-names")),
)
#: Two halves of the work, for two cores.
BATCHES = ((GOOD, *SABOTAGES[0::2]), (CHATTERBOX, MODEST, *SABOTAGES[1::2]))

#: Leaves the costly tests to those that name them.
CONFTEST = """
COSTLY, CHOSEN = {costly!r}, {chosen!r}

def pytest_collection_modifyitems(items):
    items[:] = [
        item for item in items
        if not item.name.startswith(COSTLY) or item.name.startswith(CHOSEN.get(item.cls.__name__, ()))
    ]
"""

Outcomes = Mapping[str, Mapping[str, str]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Backend -> test -> "passed", "skipped" or what it failed with."""
    directories = [tmp_path_factory.mktemp("judged") for _ in BATCHES]
    with ThreadPoolExecutor(len(BATCHES)) as pool:
        runs = pool.map(run_kit, directories, BATCHES)
        return {backend: tests for run in runs for backend, tests in run.items()}


def run_kit(directory: Path, sabotages: Sequence[Sabotage]) -> dict[str, dict[str, str]]:
    folders = [COMPLETE, *(write_plugin(directory / "site", sabotage) for sabotage in sabotages)]
    chosen = {sabotage.class_name: (*sabotage.caught_by, *sabotage.knock_ons) for sabotage in sabotages}
    chosen |= {sabotage.class_name: ("test",) for sabotage in (GOOD, CHATTERBOX, MODEST)}
    (directory / "conftest.py").write_text(CONFTEST.format(costly=COSTLY, chosen=chosen))
    (directory / "test_sabotaged.py").write_text(conformance_file(sabotages))
    (directory / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=result.xml"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    names = {sabotage.class_name: sabotage.name for sabotage in sabotages}
    found: dict[str, dict[str, str]] = {sabotage.name: {} for sabotage in sabotages}
    for entry in ElementTree.parse(directory / "result.xml").iter("testcase"):
        backend = names[entry.attrib["classname"].rpartition(".")[2]]
        found[backend][entry.attrib["name"]] = outcome(entry)
    return found


def outcome(entry: ElementTree.Element) -> str:
    for kind in ("failure", "error"):
        if (problem := entry.find(kind)) is not None:
            return problem.attrib["message"]
    return "skipped" if entry.find("skipped") is not None else "passed"


def failures(tests: Mapping[str, str]) -> dict[str, str]:
    return {name: what for name, what in tests.items() if what not in ("passed", "skipped")}


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)
def test_a_fault_fails_the_test_named_for_it(outcomes: Outcomes, sabotage: Sabotage) -> None:
    failed = failures(outcomes[sabotage.name])
    missed = set(sabotage.caught_by) - set(failed)
    assert not missed, f"not caught by {missed}; failed: {failed}"
    expected = (*sabotage.caught_by, *sabotage.knock_ons)
    others = {name: what for name, what in failed.items() if not name.startswith(expected)}
    assert not others, "failed although its fault is another"


@pytest.mark.parametrize("backend", [GOOD, CHATTERBOX], ids=lambda backend: backend.name)
def test_a_good_backend_passes_everything(outcomes: Outcomes, backend: Sabotage) -> None:
    tests = outcomes[backend.name]
    assert failures(tests) == {}
    skipped = {name for name, what in tests.items() if what == "skipped"}
    unclaimed = {name for name in tests if any(word in name for word in ("fp16", "bf16", "fp8", "-weights"))}
    assert skipped == unclaimed | {"test_other_sizes_are_right_or_refused"}


def test_a_modest_backend_is_not_asked_for_more_than_it_claims(outcomes: Outcomes) -> None:
    tests = outcomes[MODEST.name]
    assert failures(tests) == {}
    claimed = {name for name, what in tests.items() if what == "passed"}
    assert {"test_right_numbers[conv]", "test_other_sizes_are_right_or_refused"} <= claimed
    refused = {
        "test_right_numbers[attention]",
        "test_dynamic_batch[1]",
        "test_placement_counts_executed_nodes",
    }
    assert not refused & claimed


def test_every_promise_has_a_saboteur() -> None:
    tests = {name for name in dir(BackendContract) if name.startswith("test_")}
    assert tests == {name.partition("[")[0] for sabotage in SABOTAGES for name in sabotage.caught_by}
