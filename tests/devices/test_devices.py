"""Devices are found by uri, and a local worker sees what this process sees."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import discovery
from edgekit.devices import Device, LocalDevice, WorkerPipe, device_schemes, open_device
from edgekit.devices.local import module_path
from edgekit.errors import DeviceError, PluginBroken, UnknownName
from edgekit.host.client import WorkerClient
from edgekit_runtime.frames import write_frame

PLUGIN = """
from edgekit.api import DeviceKind, hookimpl
from edgekit.devices import LocalDevice


@hookimpl
def edgekit_device_kinds():
    made = ("open_device", "broken", "leaving", "nothing")
    schemes = {name: f"test-{name.replace('_', '-')}" for name in made}
    return [DeviceKind(scheme=schemes[name], factory=f"{__name__}:{name}") for name in made]


class Elsewhere(LocalDevice):
    def __init__(self, uri):
        self.uri = uri


def open_device(uri):
    return Elsewhere(uri)


def broken(uri):
    raise OSError("no route to host")


def leaving(uri):
    raise SystemExit(0)


def nothing(uri):
    return None
"""


@pytest.fixture
def device_plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Four device kinds that a plugin brings."""
    information = tmp_path / "devices-0.1.dist-info"
    information.mkdir()
    (tmp_path / "edgekit_test_devices.py").write_text(PLUGIN)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: devices\nVersion: 0.1\n")
    (information / "entry_points.txt").write_text("[edgekit.plugins]\ndevices = edgekit_test_devices\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    discovery._plugins.cache_clear()
    yield
    discovery._plugins.cache_clear()


def test_local_is_this_machine() -> None:
    device = open_device("local")
    assert isinstance(device, LocalDevice)
    assert isinstance(device, Device)
    assert device.uri == "local"
    assert open_device().uri == open_device("local://").uri == "local"
    with pytest.raises(DeviceError, match="just 'local'"):
        open_device("local://elsewhere")


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no device kind 'locl'") as caught:
        open_device("locl")
    assert "'local'" in caught.value.hint


@pytest.mark.usefixtures("device_plugin")
def test_a_plugins_kind_is_opened_by_its_scheme_and_runs_workers() -> None:
    assert "test-open-device" in device_schemes()
    device = open_device("test-open-device://board:22")
    assert device.uri == "test-open-device://board:22"
    with WorkerClient(device) as worker:
        assert worker.call("edgekit_runtime.serving:machine", timeout=60).value


@pytest.mark.usefixtures("device_plugin")
def test_a_kind_that_fails_is_a_device_error_and_one_that_makes_no_device_is_broken() -> None:
    with pytest.raises(DeviceError, match="no route to host"):
        open_device("test-broken://x")
    with pytest.raises(DeviceError, match="SystemExit"):
        open_device("test-leaving://x")
    with pytest.raises(PluginBroken, match="made a NoneType"):
        open_device("test-nothing://x")


def test_a_worker_sees_modules_that_only_this_process_has_on_its_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "only_here.py").write_text(
        "from edgekit_runtime.calls import Reply, worker_function\n"
        "@worker_function\ndef there(call):\n    return Reply('seen')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with WorkerClient(open_device("local")) as worker:
        assert worker.call("only_here:there", timeout=60).value == "seen"


def test_a_workers_modules_do_not_come_from_the_directory_it_is_started_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "numpy.py").write_text("raise RuntimeError('the wrong numpy')\n")
    monkeypatch.setattr(sys, "path", [entry or os.sep for entry in sys.path])
    monkeypatch.chdir(tmp_path)
    with WorkerClient(open_device("local")) as worker:
        worker.call("edgekit_runtime.serving:control", timeout=60)


def test_the_standard_library_is_not_handed_to_helpers_in_another_python() -> None:
    entries = module_path().split(os.pathsep)
    assert sysconfig.get_path("stdlib") not in entries
    assert sysconfig.get_path("purelib") not in entries


def test_an_interpreter_that_cannot_be_started_is_a_device_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(DeviceError, match="cannot be started"), WorkerClient(open_device("local")):
        pass
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(DeviceError, match="does not know its Python"), WorkerClient(open_device("local")):
        pass


# --- what answers is no worker of ours ------------------------------------------------------------------


class Impostor:
    """A device on which `python -m edgekit_runtime.worker` is some other program."""

    uri = "impostor://"

    def __init__(self, code: str) -> None:
        self.code = code

    def start_worker(self, environment: object) -> WorkerPipe:
        from edgekit.devices.local import LocalPipe

        command = [sys.executable, "-c", self.code]
        return LocalPipe(
            subprocess.Popen(
                command, stdin=-1, stdout=-1, stderr=-1, bufsize=0, start_new_session=os.name == "posix"
            )
        )


def greeting(**words: int | str) -> str:
    stream = io.BytesIO()
    write_frame(stream, {"type": "hello", **words})
    said = f"sys.stdout.buffer.write({stream.getvalue()!r}); sys.stdout.flush()"
    return f"import sys, time; {said}; time.sleep(60)"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit('No module named edgekit_runtime')", "No module named edgekit_runtime"),
        ("import time; print('Welcome!', flush=True); time.sleep(60)", "not a frame: 'Welcome!"),
        (greeting(protocol=99, runtime="9.0", python="3.20", pid=1), "speaks protocol 99, this is 1"),
    ],
    ids=["not installed", "a profile that prints", "another protocol"],
)
def test_what_is_no_worker_is_a_device_error_that_shows_what_it_said(code: str, words: str) -> None:
    with pytest.raises(DeviceError) as caught, WorkerClient(Impostor(code)):
        pass
    cause = caught.value.__cause__
    assert words in f"{caught.value} {cause}"
    assert "edgekit-runtime" in caught.value.hint
