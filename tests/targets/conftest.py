"""Machines as recorded, and target directories that nothing of this host leaks into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit import discovery
from edgekit.targets import places
from edgekit_runtime.values import Machine

MACHINES = {
    "n100": Machine(
        arch="x86_64",
        system="Linux",
        cpu="Intel(R) N100",
        isa=("avx", "avx2", "avx_vnni", "f16c", "fma"),
        cores=4,
        usable_cores=4.0,
        memory_mib=15800,
    ),
    "haswell": Machine(
        arch="x86_64",
        system="Linux",
        cpu="Intel(R) Core(TM) i5-4590 CPU @ 3.30GHz",
        isa=("avx", "avx2", "f16c", "fma"),
        cores=4,
        usable_cores=1.5,
        memory_mib=7900,
    ),
    "server": Machine(
        arch="x86_64",
        system="Linux",
        cpu="Intel(R) Xeon(R) Processor",
        isa=("avx2", "avx512_vnni", "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl", "f16c", "fma"),
        cores=2,
        usable_cores=2.0,
        memory_mib=24000,
    ),
    "pi4": Machine(
        arch="aarch64",
        system="Linux",
        cpu="",
        isa=("asimd", "crc32", "fp"),
        cores=4,
        usable_cores=4.0,
        memory_mib=3792,
        device_tree="Raspberry Pi 4 Model B Rev 1.5",
    ),
    "pi5": Machine(
        arch="aarch64",
        system="Linux",
        cpu="",
        isa=("asimd", "asimddp", "asimdhp", "crc32", "fp", "fphp"),
        cores=4,
        usable_cores=4.0,
        memory_mib=8063,
        device_tree="Raspberry Pi 5 Model B Rev 1.0",
    ),
    "jetson": Machine(
        arch="aarch64",
        system="Linux",
        cpu="",
        isa=("asimd", "asimddp", "asimdhp"),
        cores=6,
        usable_cores=6.0,
        memory_mib=7620,
        device_tree="NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
    ),
    "phone": Machine(
        arch="aarch64",
        system="Android",
        cpu="",
        isa=("asimd", "asimddp"),
        cores=8,
        usable_cores=8.0,
        memory_mib=7400,
    ),
    "rtx": Machine(
        arch="x86_64",
        system="Linux",
        cpu="AMD Ryzen 5 7600 6-Core Processor",
        isa=("avx2", "avx512_vnni", "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl", "f16c", "fma"),
        cores=12,
        usable_cores=12.0,
        memory_mib=31900,
        gpu=("NVIDIA GeForce RTX 4060",),
    ),
    "agx": Machine(
        arch="aarch64",
        system="Linux",
        cpu="",
        isa=("asimd", "asimddp", "asimdhp"),
        cores=12,
        usable_cores=12.0,
        memory_mib=62800,
        device_tree="NVIDIA Jetson AGX Orin Developer Kit",
        gpu=("Orin",),
        gpu_arch=("sm_87",),
    ),
    "emulated-pi5": Machine(
        arch="aarch64",
        system="Linux",
        cpu="",
        isa=("asimd", "asimddp"),
        cores=2,
        usable_cores=2.0,
        memory_mib=24000,
        device_tree="Raspberry Pi 5 Model B Rev 1.0",
        emulated=True,
    ),
}

#: Other cards in the same machine, as their driver names them.
MACHINES |= {
    name: replace(MACHINES["rtx"], gpu=(gpu,), gpu_arch=(arch,))
    for name, gpu, arch in (
        ("rtx-4060-ti", "NVIDIA GeForce RTX 4060 Ti", "sm_89"),
        ("rtx-3060", "NVIDIA GeForce RTX 3060", "sm_86"),
        ("rtx-5070", "NVIDIA GeForce RTX 5070", "sm_120"),
        ("l4", "NVIDIA L4", "sm_89"),
        ("t4", "Tesla T4", "sm_75"),
    )
}

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the targets of the person who runs it."""
    monkeypatch.setattr(places, "user_dir", lambda: tmp_path / "user")
    monkeypatch.setattr(discovery, "plugin_target_dirs", lambda: (tmp_path / "plugin",))
    (tmp_path / "user").mkdir()
    (tmp_path / "plugin").mkdir()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a target file; the text gets a name unless it has one."""

    def _write(text: str, name: str = "kiosk", where: str = "") -> Path:
        path = tmp_path / where / f"{name}.toml"
        path.write_text(text if "name =" in text else f'name = "{name}"\n{text}', encoding="utf-8")
        return path

    return _write
