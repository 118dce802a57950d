"""The GPUs of a machine: names and architectures, as drivers and boards tell them. No library is loaded.

Architectures are words such as "sm_89": NVIDIA's compute capability 8.9.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

#: Boards whose GPU is part of the chip, by a word of /proc/device-tree/compatible: its name in CUDA and its
#: architecture. https://developer.nvidia.com/cuda-gpus
_CHIPS = {"nvidia,tegra234": ("Orin", "sm_87"), "nvidia,tegra194": ("Xavier", "sm_72")}
#: The driver's own tool; it answers in a second or two, or not at all.
_TOOL, _SECONDS = "nvidia-smi", 20.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. arch: "" where nothing tells it."""

    name: str
    arch: str


def read_gpus(root: Path) -> tuple[Gpu, ...]:
    """The GPUs of the machine whose file system begins at `root`.

    The driver's tool is asked of the machine at hand alone; elsewhere, and without it, /proc tells.
    """
    asked = _asked(_TOOL) if root == Path("/") else ()
    return asked or _recorded(root) or _on_chip(root)


def told(text: str) -> tuple[Gpu, ...]:
    """Of the tool's lines "NAME, 8.9", which are one for each GPU. A line without a name says an error."""
    found = []
    for line in text.splitlines():
        name, comma, capability = line.rpartition(",")
        number = re.fullmatch(r"(\d+)\.(\d+)", capability.strip())
        if comma and name.strip():
            found.append(Gpu(name.strip(), f"sm_{number[1]}{number[2]}" if number else ""))
    return tuple(found)


@functools.cache
def _asked(name: str) -> tuple[Gpu, ...]:
    import shutil  # here, not above: a worker's cold start needs neither
    import subprocess

    tool = shutil.which(name)
    if tool is None:
        return ()
    command = [tool, "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()
    return told(done.stdout) if done.returncode == 0 else ()


def _recorded(root: Path) -> tuple[Gpu, ...]:
    """As the kernel driver names them."""
    files = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    models = (re.search(r"^Model[ \t]*:(.*)$", _text(path), re.MULTILINE) for path in files)
    return tuple(Gpu(model[1].strip(), "") for model in models if model)


def _on_chip(root: Path) -> tuple[Gpu, ...]:
    words = _text(root / "proc/device-tree/compatible").split("\0")
    return tuple(Gpu(*_CHIPS[word]) for word in words if word in _CHIPS)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
