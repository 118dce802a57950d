"""An emulated CPU is a device like any other, says that it is emulated, and has the features of its model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edgekit.devices import device_schemes, open_device
from edgekit.devices.cpu_words import arm_words, x86_words
from edgekit.devices.emulator import find_emulator, known_cpus
from edgekit.devices.emulator_uri import parse_emulator
from edgekit.devices.lending import lend_packages
from edgekit.errors import DeviceError, UnknownName, UsageError
from edgekit.host.client import WorkerClient
from edgekit.host.sessions import remote_machine

OTHER = "aarch64"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that stands before all others."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_a_uri_names_architecture_cpu_and_root_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_AARCH64_SYSROOT", raising=False)
    place = parse_emulator("emulator:arm64/max,sve=off?sysroot=/a%20b")
    assert (place.arch, place.cpu, place.sysroot) == ("aarch64", "max,sve=off", Path("/a b"))
    assert parse_emulator("emulator:aarch64/cortex-a76").sysroot is None
    monkeypatch.setenv("EDGEKIT_AARCH64_SYSROOT", "/roots/arm")
    assert parse_emulator("emulator:aarch64/cortex-a76").sysroot == Path("/roots/arm")
    assert parse_emulator("emulator:x86_64/Haswell").sysroot is None
    assert "emulator" in device_schemes()


@pytest.mark.parametrize(
    "uri",
    [
        "emulator",
        "emulator:",
        "emulator:x86_64",
        "emulator:x86_64/",
        "emulator:/Haswell",
        "emulator:x86_64/,avx2=off",
        "emulator:x86_64/Haswell?root=/x",
        "emulator:x86_64/Haswell?sysroot",
        "emulator:x86_64/Haswell?sysroot=",
        "emulator:x86_64/Haswell?sysroot=/a&sysroot=/b",
    ],
)
def test_a_uri_that_says_too_little_or_too_much_is_refused_with_an_example(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_device(uri)
    assert "emulator:x86_64/Haswell" in caught.value.hint


def test_an_architecture_without_an_emulator_here_names_those_that_have_one() -> None:
    with pytest.raises(UnknownName, match="architecture 'sparc'") as caught:
        open_device("emulator:sparc/old")
    assert "aarch64" in caught.value.hint


def test_a_missing_emulator_is_a_device_error_that_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="qemu-x86_64 is not installed") as caught:
        open_device("emulator:x86_64/Haswell")
    assert (caught.value.code, caught.value.exit_code) == ("device-failed", 4)
    assert "apt install qemu-user" in caught.value.hint


def test_an_emulator_that_is_none_is_a_device_error_that_shows_what_it_said(pretended: Path) -> None:
    program(pretended / "qemu-x86_64", "echo something is wrong >&2; exit 1")
    with pytest.raises(DeviceError, match="something is wrong"):
        open_device("emulator:x86_64/Haswell")


def test_cpus_are_read_as_old_and_new_emulators_list_them(pretended: Path) -> None:
    old = "Available CPUs:\\nx86 486 (alias)\\nx86 Haswell-v1  Core\\n\\nRecognized CPUID flags:\\n  avx2"
    new = "Available CPUs:\\n  486  (alias)\\n  Haswell-v1\\n\\nRecognized CPUID flags:\\n  avx2"
    for text in (old, new):
        emulator = program(pretended / "qemu-x86_64", f"printf '{text}'")
        assert known_cpus(str(emulator)) == ("486", "Haswell-v1")


def test_another_architecture_needs_a_python_of_its_own(
    pretended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEKIT_AARCH64_SYSROOT", raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    program(pretended / "qemu-aarch64", "printf 'Available CPUs:\\n  cortex-a76\\n'")
    with pytest.raises(DeviceError, match="a Python for aarch64 is needed") as caught:
        open_device("emulator:aarch64/cortex-a76")
    assert "EDGEKIT_AARCH64_SYSROOT" in caught.value.hint
    with pytest.raises(DeviceError, match="no Python in"):
        open_device(f"emulator:aarch64/cortex-a76?sysroot={tmp_path}")


def test_a_python_that_does_not_run_there_is_a_device_error_and_its_root_stays_as_it_was(
    pretended: Path, tmp_path: Path
) -> None:
    listed = "printf 'Available CPUs:\\n  cortex-a76\\n'"
    program(pretended / "qemu-aarch64", f'[ "$2" = help ] && {listed} && exit; echo no numpy >&2; exit 1')
    program(tmp_path / "root" / "usr" / "bin" / "python3", "")
    before = sorted(path.relative_to(tmp_path) for path in (tmp_path / "root").rglob("*"))
    with pytest.raises(DeviceError, match="does not run there: no numpy"):
        open_device(f"emulator:aarch64/cortex-a76?sysroot={tmp_path / 'root'}")
    assert sorted(path.relative_to(tmp_path) for path in (tmp_path / "root").rglob("*")) == before


def test_a_root_directory_without_what_a_worker_needs_is_a_device_error_that_names_it(
    pretended: Path, tmp_path: Path
) -> None:
    listed = "printf 'Available CPUs:\\n  cortex-a76\\n'"
    told = """echo '{"lacking": ["numpy", "safetensors"], "words": []}'"""
    program(pretended / "qemu-aarch64", f'[ "$2" = help ] && {listed} && exit; {told}')
    program(tmp_path / "usr" / "bin" / "python3", "")
    with pytest.raises(DeviceError, match="its Python lacks numpy and safetensors"):
        open_device(f"emulator:aarch64/cortex-a76?sysroot={tmp_path}")


def test_the_runtime_and_the_openers_are_lent_and_nothing_else(tmp_path: Path) -> None:
    lend_packages(tmp_path)
    names = {path.name.partition("-")[0] for path in tmp_path.iterdir()}
    assert {"edgekit_runtime", "edgekit_onnxruntime"} <= names
    assert not {"numpy", "onnxruntime", "edgekit"} & names
    described = next(tmp_path.glob("edgekit_onnxruntime-*.dist-info"))
    assert "[edgekit.openers]" in (described / "entry_points.txt").read_text()


def test_features_are_named_as_linux_names_them() -> None:
    assert x86_words({"AVX2": True, "FMA3": True, "AVX512F": False, "SSE42": True}) == [
        "sse4_2",
        "avx2",
        "fma",
    ]
    # As a Cortex-A76 and a Neoverse N2 of QEMU 10 give them.
    assert arm_words(0x119FFB, 0) == ["fp", "asimd", "fphp", "asimdhp", "asimddp"]
    assert "i8mm" in arm_words(0xEFFFFFFB, 0x773FF)


@pytest.mark.usefixtures("emulator")
def test_an_emulated_cpu_is_known_by_its_name_has_its_own_features_and_says_it_is_emulated() -> None:
    device = open_device("emulator:x86_64/Haswell")
    shown = Path(device._shown)  # type: ignore[attr-defined]
    with WorkerClient(device) as worker:
        machine = remote_machine(worker)
    assert machine.emulated
    assert machine.cpu == "QEMU TCG Haswell"
    assert {"avx2", "fma"} <= set(machine.isa)
    assert not any(word.startswith(("avx512", "avx_vnni", "amx")) for word in machine.isa)
    del device, worker
    assert not shown.exists()


@pytest.mark.usefixtures("emulator")
def test_a_cpu_that_the_emulator_does_not_know_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="knows no CPU 'Haswel'") as caught:
        open_device("emulator:x86_64/Haswel")
    assert "'Haswell'" in caught.value.hint


@pytest.mark.skipif(
    not os.environ.get("EDGEKIT_AARCH64_SYSROOT"), reason="EDGEKIT_AARCH64_SYSROOT names no root directory"
)
def test_a_worker_of_another_architecture_runs_from_a_root_directory() -> None:
    assert shutil.which("qemu-aarch64") and find_emulator(OTHER)
    with WorkerClient(open_device("emulator:aarch64/cortex-a53")) as worker:
        machine = remote_machine(worker)
    assert (machine.arch, machine.cpu, machine.emulated) == ("aarch64", "Cortex-A53", True)
    assert "asimddp" not in machine.isa
