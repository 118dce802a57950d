"""What CPU a process sees and what its Python lacks, as JSON on stdout: run by path in an interpreter.

/proc/cpuinfo may be the host's under an emulator, so x86 features are those that numpy found by CPUID,
and Arm's the kernel ABI's own bits. Words are those of /proc/cpuinfo. Needs nothing of edgekit.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import platform
import sys
from collections.abc import Mapping

#: What a worker imports before any engine.
NEEDED = ("numpy", "safetensors")

#: numpy's word -> Linux's.
X86_WORDS = {"SSE42": "sse4_2", "F16C": "f16c", "AVX2": "avx2", "FMA3": "fma", "AVX512F": "avx512f"}

#: Bits of AT_HWCAP and AT_HWCAP2 (arch/arm64/include/uapi/asm/hwcap.h).
_AT_HWCAP, _AT_HWCAP2 = 16, 26
ARM_BITS = {
    _AT_HWCAP: {0: "fp", 1: "asimd", 9: "fphp", 10: "asimdhp", 20: "asimddp", 22: "sve"},
    _AT_HWCAP2: {1: "sve2", 9: "svei8mm", 12: "svebf16", 13: "i8mm", 14: "bf16", 23: "sme"},
}


def cpu_words() -> list[str]:
    """Features of this process's CPU; none on an architecture that is not known here."""
    arch = platform.machine()
    if arch == "x86_64":
        return x86_words(_numpy_features())
    return arm_words(_auxiliary(_AT_HWCAP), _auxiliary(_AT_HWCAP2)) if arch == "aarch64" else []


def x86_words(features: Mapping[str, bool]) -> list[str]:
    """Linux's words for what numpy found."""
    return [word for name, word in X86_WORDS.items() if features.get(name)]


def arm_words(hwcap: int, hwcap2: int) -> list[str]:
    """Linux's words for the bits that the kernel gives each process."""
    bits = {_AT_HWCAP: hwcap, _AT_HWCAP2: hwcap2}
    return [word for key, names in ARM_BITS.items() for bit, word in names.items() if bits[key] >> bit & 1]


def _numpy_features() -> Mapping[str, bool]:
    import numpy as np  # slow under an emulator, and not needed on Arm

    core = getattr(np, "_core", None) or getattr(np, "core", None)  # numpy 1 has the latter
    found: Mapping[str, bool] = getattr(getattr(core, "_multiarray_umath", None), "__cpu_features__", {})
    return found


def _auxiliary(key: int) -> int:
    read = ctypes.CDLL(None).getauxval
    read.restype, read.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    return int(read(key))


if __name__ == "__main__":
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    sys.stdout.write(json.dumps({"lacking": lacking, "words": [] if lacking else cpu_words()}))
