"""The fingerprint of machines that were recorded, and of this one."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from edgekit_runtime.cgroups import cpu_limit, memory_limit
from edgekit_runtime.machine import cpu_name, is_emulated, isa_features, read_machine

#: Parts of /proc and /sys as machines show them: {machine: {path: lines}}.
TREES: dict[str, dict[str, list[str]]] = json.loads(
    Path(__file__).with_name("machines.json").read_text(encoding="utf-8")
)


def recorded(name: str) -> dict[str, str]:
    return {path: "".join(lines) for path, lines in TREES[name].items()}


PI_5, BIG_LITTLE, DESKTOP = recorded("raspberry-pi-5"), recorded("big-little"), recorded("desktop")
CONTAINER_V1, CONTAINER_V2 = recorded("container-v1"), recorded("container-v2")
NESTED_V2, PLAIN_V1 = recorded("nested-v2"), recorded("plain-v1")


def plant(root: Path, tree: Mapping[str, str]) -> Path:
    """Write a tree below `root`."""
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_raspberry_pi_is_recognised(tmp_path: Path) -> None:
    machine = read_machine(plant(tmp_path, PI_5))
    assert machine.arch == "aarch64"
    assert machine.cpu == "Cortex-A76"
    assert machine.isa == ("asimd", "asimdhp", "fphp", "asimddp")
    assert (machine.cores, machine.usable_cores, machine.memory_mib) == (4, 4.0, 8062)
    assert machine.device_tree == "Raspberry Pi 5 Model B Rev 1.0"
    assert machine.governor == "ondemand"
    assert not machine.emulated


def test_cores_of_two_kinds_have_the_features_of_both_and_one_may_be_offline(tmp_path: Path) -> None:
    machine = read_machine(plant(tmp_path, BIG_LITTLE))
    assert machine.cpu == "Cortex-A55 + Cortex-A76"
    assert "asimddp" in machine.isa
    assert "i8mm" not in machine.isa, "half of the cores lack it"
    assert machine.cores == 7
    assert machine.governor == "performance+schedutil"


def test_a_desktop_has_its_gpu_and_no_limit(tmp_path: Path) -> None:
    machine = read_machine(plant(tmp_path, DESKTOP))
    assert machine.cpu == "13th Gen Intel(R) Core(TM) i5-13500"
    assert machine.isa == ("sse4_2", "f16c", "avx2", "fma", "avx_vnni")
    assert machine.gpu == ("NVIDIA GeForce RTX 4060",)
    assert (machine.cores, machine.usable_cores, machine.memory_mib) == (20, 20.0, 31839)


def test_a_board_tells_the_gpu_of_its_chip(tmp_path: Path) -> None:
    compatible = "nvidia,p3737-0000+p3701-0000\0nvidia,p3701-0000\0nvidia,tegra234\0"
    machine = read_machine(plant(tmp_path, {"proc/device-tree/compatible": compatible}))
    assert (machine.gpu, machine.gpu_arch) == (("Orin",), ("sm_87",))


def test_a_driver_that_names_its_gpu_only_leaves_the_architecture_empty(tmp_path: Path) -> None:
    assert read_machine(plant(tmp_path, DESKTOP)).gpu_arch == ("",)


@pytest.mark.skipif(os.name == "nt", reason="the tool is a script here")
@pytest.mark.parametrize(
    ("script", "gpus"),
    [
        (
            "printf 'NVIDIA GeForce RTX 5070, 12.0\\nTesla T4, 7.5\\n'",
            [["NVIDIA GeForce RTX 5070", "Tesla T4"], ["sm_120", "sm_75"]],
        ),
        ("printf 'Orin (nvgpu), [N/A]\\n'", [["Orin (nvgpu)"], [""]]),
        ("echo 'NVIDIA-SMI has failed because it could not communicate with the driver, 9.9'; exit 9", None),
        ("exit 0", None),
    ],
    ids=["two cards", "capability not told", "no driver", "nothing said"],
)
def test_the_drivers_own_tool_tells_names_and_architectures(
    script: str, gpus: list[list[str]] | None, tmp_path: Path
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    code = (
        "import json; from edgekit_runtime.machine import read_machine; found = read_machine(); "
        "print(json.dumps([found.gpu, found.gpu_arch]))"
    )

    def read(path: str) -> object:
        environment = {**os.environ, "PATH": path}
        return json.loads(subprocess.check_output([sys.executable, "-c", code], env=environment))

    without = read("/no-such-directory")
    assert read(str(tmp_path)) == (gpus or without)


@pytest.mark.parametrize(
    ("tree", "cpus", "mib"),
    [
        (CONTAINER_V2, 1.5, 2048),
        (CONTAINER_V1, 0.5, 512),
        (NESTED_V2, 2.0, 1024),
        (PLAIN_V1, None, None),
        (DESKTOP, None, None),
        ({}, None, None),
    ],
    ids=["container v2", "container v1", "nested v2", "plain v1", "desktop", "nothing"],
)
def test_the_tightest_limit_of_the_enclosing_groups_counts(
    tmp_path: Path, tree: dict[str, str], cpus: float | None, mib: int | None
) -> None:
    root = plant(tmp_path, tree)
    assert cpu_limit(root) == cpus
    assert memory_limit(root) == (None if mib is None else mib << 20)
    if tree:
        machine = read_machine(root)
        assert machine.usable_cores == (20.0 if cpus is None else cpus)
        assert machine.memory_mib == (31839 if mib is None else mib)


def test_affinity_limits_too(tmp_path: Path) -> None:
    plant(tmp_path, {**PI_5, "proc/self/status": "Cpus_allowed_list:\t1,3\n"})
    assert read_machine(tmp_path).usable_cores == 2.0


def test_a_tree_that_tells_nothing_leaves_everything_empty(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    assert (machine.cpu, machine.isa, machine.gpu, machine.governor, machine.device_tree) == (
        "",
        (),
        (),
        "",
        "",
    )
    assert machine.memory_mib == 0


@pytest.mark.parametrize(
    ("arch", "tree", "emulated"),
    [
        ("aarch64", PI_5, False),
        ("armv7l", PI_5, False),
        ("x86_64", DESKTOP, False),
        ("i686", DESKTOP, False),
        ("aarch64", {"proc/sys/kernel/arch": "x86_64\n"}, True),
        ("riscv64", {"proc/sys/kernel/arch": "x86_64\n"}, True),
        ("aarch64", {"proc/cpuinfo": DESKTOP["proc/cpuinfo"]}, True),
        (
            "x86_64",
            {"proc/cpuinfo": "processor: 0\nmodel name : QEMU TCG CPU version 2.5+\nflags : sse4_2\n"},
            True,
        ),
        (
            "x86_64",
            {"proc/cpuinfo": "processor: 0\nmodel name : QEMU Virtual CPU version 7\nflags : fpu\n"},
            True,
        ),
        ("aarch64", {"proc/cpuinfo": "CPU implementer : 0x00\nCPU part : 0x051\n"}, True),
        ("x86_64", {**DESKTOP, "proc/self/comm": "qemu-x86_64\n"}, True),
        ("x86_64", {**DESKTOP, "proc/self/comm": "python3\n"}, False),
    ],
)
def test_emulation_is_seen_by_its_signs(
    tmp_path: Path, arch: str, tree: dict[str, str], emulated: bool
) -> None:
    root = plant(tmp_path, tree)
    cpuinfo = tree.get("proc/cpuinfo", "")
    assert is_emulated(root, arch, cpuinfo) is emulated


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (
            "model name : ARMv8 Processor rev 1 (v8l)\nCPU implementer : 0x41\nCPU part : 0xd0b\n",
            "Cortex-A76",
        ),
        ("model name : Oryon\nCPU implementer : 0x51\nCPU part : 0x001\n", "Oryon"),
        ("CPU implementer : 0x51\nCPU part : 0x001\n", "implementer 0x51 part 0x001"),
        ("CPU implementer : ?\nCPU part : 0x001\n", ""),
        ("", ""),
    ],
)
def test_an_arm_cpu_is_named_by_its_cores_where_they_are_known(cpuinfo: str, name: str) -> None:
    assert cpu_name(cpuinfo) == name


def test_only_features_that_every_core_has_count() -> None:
    assert isa_features("flags : avx2 fma\nflags : fma\n") == ("fma",)
    assert isa_features("flags : avx512_vnni_more\n") == ()


def test_this_machine_agrees_with_python() -> None:
    machine = read_machine()
    assert machine.arch == platform.machine()
    assert machine.system == platform.system()
    assert 0 < machine.usable_cores <= machine.cores <= (os.cpu_count() or 1)
    assert machine.memory_mib > 0
    if sys.platform == "linux" and machine.arch == "x86_64":
        assert machine.cpu
        assert not machine.emulated
