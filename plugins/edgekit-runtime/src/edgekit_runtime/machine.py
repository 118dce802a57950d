"""A machine's fingerprint: what `[match]` of a target is compared with and what a report names.

Every reader takes the root of the file system, so that recorded trees of other machines can be
read too. What a system does not tell stays empty.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

from edgekit_runtime.cgroups import cpu_limit, memory_limit
from edgekit_runtime.gpus import read_gpus
from edgekit_runtime.values import Machine

ROOT = Path("/")

#: CPU features edgekit cares about, by the names that Linux gives them.
X86_FEATURES = (
    "sse4_2",
    "f16c",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "avx_vnni_int8",
    "amx_int8",
    "amx_bf16",
)
ARM_FEATURES = (
    "asimd",
    "asimdhp",
    "fphp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "svei8mm",
    "svebf16",
    "sme",
)

#: (implementer, part) of /proc/cpuinfo on Arm, where no model name is given.
_ARM_CORES = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x4E, 0x004): "Carmel",
}

#: What QEMU calls its own CPU when it translates code: the "max" CPU on Arm.
_QEMU_ARM_CORE = (0x00, 0x051)


def read_machine(root: Path = ROOT) -> Machine:
    """The fingerprint of the machine whose file system begins at `root`."""
    cpuinfo = _text(root / "proc/cpuinfo")
    gpus = read_gpus(root)
    arch = platform.machine() if root == ROOT else recorded_arch(root) or platform.machine()
    cores = online_cores(root, cpuinfo)
    return Machine(
        arch=arch,
        system=platform.system() if root == ROOT else "Linux",
        cpu=cpu_name(cpuinfo) or (platform.processor() if root == ROOT and sys.platform != "linux" else ""),
        isa=isa_features(cpuinfo),
        cores=cores,
        usable_cores=usable_cores(root, cores),
        memory_mib=memory_mib(root),
        device_tree=_text(root / "proc/device-tree/model").strip("\0 \n"),
        gpu=tuple(gpu.name for gpu in gpus),
        gpu_arch=tuple(gpu.arch for gpu in gpus),
        emulated=is_emulated(root, arch, cpuinfo),
        governor=governor(root),
        python=platform.python_version(),
    )


def isa_features(cpuinfo: str) -> tuple[str, ...]:
    """The features every core has, in edgekit's order. Names are those of Linux."""
    cores = [set(flags.split()) for flags in _values(cpuinfo, "flags") + _values(cpuinfo, "Features")]
    if not cores:
        return ()
    common = set.intersection(*cores)
    return tuple(name for name in X86_FEATURES + ARM_FEATURES if name in common)


def cpu_name(cpuinfo: str) -> str:
    """The CPU's name; on Arm the names of its kinds of cores, as /proc/cpuinfo lists them.

    Some Arm kernels give a model name too, but the same one ("ARMv8 Processor") to every CPU.
    """
    cores = list(dict.fromkeys(_arm_cores(cpuinfo)))
    named = _values(cpuinfo, "model name")
    if named and not all(core in _ARM_CORES for core in cores):
        cores = []
    if cores:
        return " + ".join(
            _ARM_CORES.get(core, f"implementer 0x{core[0]:02x} part 0x{core[1]:03x}") for core in cores
        )
    return " ".join(named[0].split()) if named else ""


def online_cores(root: Path = ROOT, cpuinfo: str = "") -> int:
    """Logical CPUs that are online."""
    ranges = _text(root / "sys/devices/system/cpu/online").strip()
    if re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", ranges):
        return sum(_span(part) for part in ranges.split(","))
    return len(_values(cpuinfo, "processor")) or os.cpu_count() or 1


def usable_cores(root: Path = ROOT, cores: int | None = None) -> float:
    """CPUs this process may use at once: affinity, then the cgroup's quota. May be fractional."""
    usable = float(cores if cores is not None else online_cores(root))
    if root == ROOT and hasattr(os, "sched_getaffinity"):
        usable = min(usable, float(len(os.sched_getaffinity(0))))
    elif root != ROOT:
        allowed = _values(_text(root / "proc/self/status"), "Cpus_allowed_list")
        if allowed:
            usable = min(usable, float(sum(_span(part) for part in allowed[0].split(","))))
    quota = cpu_limit(root)
    return usable if quota is None else min(usable, quota)


def memory_mib(root: Path = ROOT) -> int:
    """Memory this process may use: the machine's, or its cgroup's limit when that is lower. 0: unknown."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    total = int(found[1]) * 1024 if found else (_physical_memory() if root == ROOT else 0)
    limit = memory_limit(root)
    if limit is not None:
        total = min(total, limit) if total else limit
    return total // (1024 * 1024)


def governor(root: Path = ROOT) -> str:
    """The frequency governor; several are joined by "+", "" when the system does not tell."""
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return "+".join(sorted({_text(path).strip() for path in files} - {""}))


def is_emulated(root: Path, arch: str, cpuinfo: str) -> bool:
    """Whether instructions are translated rather than executed, so that times say nothing.

    Signs: the kernel is of another architecture than the process; an Arm process sees an x86
    cpuinfo; the CPU bears QEMU's own name; the process itself is called qemu-ARCH.
    """
    kernel = _text(root / "proc/sys/kernel/arch").strip()
    if kernel and _family(kernel) != _family(arch):
        return True
    if _family(arch) == "arm" and _values(cpuinfo, "vendor_id") and _values(cpuinfo, "flags"):
        return True
    if any(name.startswith(("QEMU TCG", "QEMU Virtual")) for name in _values(cpuinfo, "model name")):
        return True
    if _QEMU_ARM_CORE in _arm_cores(cpuinfo):
        return True
    return _text(root / "proc/self/comm").startswith("qemu-")


def recorded_arch(root: Path) -> str:
    """The architecture that a recorded tree says it is of."""
    return _text(root / "proc/sys/kernel/arch").strip()


def _family(arch: str) -> str:
    """Architectures of which one runs the other's code natively count as one."""
    lowered = arch.lower()
    if lowered in ("x86_64", "amd64", "i386", "i486", "i586", "i686", "x86"):
        return "x86"
    if lowered.startswith(("arm", "aarch64")):
        return "arm"
    return lowered


def _arm_cores(cpuinfo: str) -> list[tuple[int, int]]:
    makers = _values(cpuinfo, "CPU implementer")
    parts = _values(cpuinfo, "CPU part")
    try:
        return [(int(maker, 16), int(part, 16)) for maker, part in zip(makers, parts, strict=False)]
    except ValueError:
        return []


def _values(text: str, key: str) -> list[str]:
    """What stands after "key:" on each line that begins with it."""
    return [match.strip() for match in re.findall(rf"^{re.escape(key)}[ \t]*:(.*)$", text, re.MULTILINE)]


def _span(part: str) -> int:
    first, _, last = part.strip().partition("-")
    return int(last or first) - int(first) + 1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
