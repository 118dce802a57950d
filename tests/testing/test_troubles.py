"""A trouble fails one test and blocks the others, and none goes unseen."""

from __future__ import annotations

import pytest

from edgekit.errors import CompileFailed, ContractViolation, WorkerCrashed, WorkerOutOfMemory, WorkerTimeout
from edgekit.testing.troubles import ALIVE, CLEAN, IN_TIME, Docket, named_for
from edgekit_runtime.errors import EdgekitError, ProtocolError

Failed, Skipped = pytest.fail.Exception, pytest.skip.Exception
ERROR = CompileFailed("no kernel for Conv", hint="use another engine")


def docket() -> Docket:
    return Docket(frozenset({"test_first", "test_named", "test_last"}))


def test_the_named_test_fails_and_the_others_are_blocked() -> None:
    tests = docket()
    with tests.during("test_first"):
        trouble = tests.trouble(ERROR, "test_named")
        with pytest.raises(Skipped, match="blocked by test_named: no kernel for Conv"):
            tests.report(trouble)
    with (
        tests.during("test_named"),
        pytest.raises(Failed, match=r"CompileFailed: no kernel.*\n.*another engine"),
    ):
        tests.report(trouble)
    with tests.during("test_last"), pytest.raises(Skipped):
        tests.report(tests.trouble(ERROR, "test_named"))
    tests.close()


def test_the_first_that_meets_it_fails_when_the_named_test_is_not_chosen() -> None:
    tests = docket()
    with tests.during("test_first"):
        trouble = tests.trouble(ERROR, "test_elsewhere")
        with pytest.raises(Failed):
            tests.report(trouble)
    with tests.during("test_last"), pytest.raises(Skipped, match="blocked by test_first"):
        tests.report(trouble)
    tests.close()


def test_the_first_that_meets_it_fails_when_the_named_test_has_passed() -> None:
    tests = docket()
    with tests.during("test_named"):
        pass
    with tests.during("test_last"), pytest.raises(Failed):
        tests.report(tests.trouble(ERROR, "test_named"))
    tests.close()


def test_a_trouble_that_its_own_test_did_not_meet_fails_the_class() -> None:
    tests = docket()
    with tests.during("test_first"), pytest.raises(Skipped):
        tests.report(tests.trouble(ERROR, "test_named"))
    with tests.during("test_named"):
        pass
    with pytest.raises(Failed, match="blocked by test_named, which passed"):
        tests.close()


def test_an_error_in_a_telling_block_is_the_running_tests_own() -> None:
    tests = docket()
    with tests.during("test_first"), pytest.raises(Failed, match="no kernel"), tests.telling():
        raise ERROR


@pytest.mark.parametrize(
    ("error", "test"),
    [
        (WorkerTimeout("late"), IN_TIME),
        (WorkerCrashed("signal SIGSEGV"), ALIVE),
        (WorkerOutOfMemory("too much"), ALIVE),
        (ContractViolation("compile() tried to end the process (SystemExit: 3)"), ALIVE),
        (ContractViolation("compile() wrote outside"), ""),
        (ProtocolError("not a frame"), CLEAN),
        (ERROR, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, EdgekitError) else "",
)
def test_a_lost_worker_has_a_test_of_its_own(error: EdgekitError, test: str) -> None:
    assert named_for(error) == test
