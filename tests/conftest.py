"""What tests of several rooms share: a really fine-tuned model, exported once, and the command line."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Models are made once and reused by later runs; the recipe itself knows when they are up to date.
CACHE = ROOT / "build" / "tests"
SAMPLE = ROOT / "samples" / "01-sentiment"
Edgekit = Callable[..., "subprocess.CompletedProcess[str]"]

# Started in the background of a script, a suite inherits an ignored Ctrl-C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# torch's threads wait for each other by spinning, which takes CPU time from other work; beside each other,
# the workers of a suite are that other work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def unchanged_environment() -> Iterator[None]:
    """No test may leave the environment changed."""

    def environment() -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"}

    before = environment()
    yield
    assert environment() == before


def run_edgekit(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would, in a process of its own."""
    command = [sys.executable, "-m", "edgekit", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=580)
    assert "Traceback" not in done.stderr, done.stderr
    assert "error[internal]" not in done.stderr, done.stderr
    assert '"code": "internal"' not in done.stdout, done.stdout
    return done


@pytest.fixture(scope="session")
def edgekit() -> Edgekit:
    """`edgekit("compile", ...)`; a traceback on stderr fails the test at once."""
    return run_edgekit


def _recipe(script: str, *arguments: object) -> None:
    command = [sys.executable, str(SAMPLE / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture(scope="session")
def sentiment() -> Path:
    """data/{train,test,calibration}.jsonl and model-frozen/, a trained transformers folder."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _recipe("fetch.py", "-o", CACHE)
        made = ("--encoder", CACHE / "encoder", "--data", CACHE / "data", "-o", CACHE / "model-frozen")
        _recipe("finetune.py", "--frozen", *made)
    return CACHE


@pytest.fixture(scope="session")
def exported(sentiment: Path) -> Path:
    """The trained model, exported by the command line."""
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run_edgekit("export", sentiment / "model-frozen", "-o", CACHE / "model")
    assert done.returncode == 0, done.stderr
    return CACHE / "model"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier of texts, exported once for all workers of a run; nobody may change it."""
    from edgekit.stages.export import export
    from tests.models import Size, tiny_classifier

    own = tmp_path_factory.getbasetemp()
    place = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with (place / "tiny-model.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "tiny-model" / "manifest.json").exists():
            source = tiny_classifier(place / "tiny-source", Size(positions=128), seed=3)
            export(source, place / "tiny-model")
    return place / "tiny-model"


@pytest.fixture(scope="session")
def few_rows(sentiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 200 test rows."""
    path = tmp_path_factory.mktemp("rows") / "test.jsonl"
    lines = (sentiment / "data" / "test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:200]), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def emulator() -> str:
    """The emulator of x86 CPUs; skips without it, and fails where it must be there."""
    found = shutil.which("qemu-x86_64")
    how = "an emulated CPU needs qemu-x86_64: apt-get install qemu-user"
    if found is None or platform.machine() != "x86_64":
        if os.environ.get("EDGEKIT_REQUIRE_EMULATOR"):
            pytest.fail(how)
        pytest.skip(how)
    return found
