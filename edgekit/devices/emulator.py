"""Another CPU on this machine: the same worker under QEMU's user-mode emulation. Linux only.

For right and wrong, not for speed: the same file may compute other numbers on another CPU, since engines
choose their kernels by the CPU's features. An emulated machine says so in its fingerprint.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekit.devices.base import WorkerPipe
from edgekit.devices.emulator_uri import EmulatorUri, is_native, parse_emulator, sysroot_variable
from edgekit.devices.lending import lend_packages
from edgekit.devices.local import WORKER, module_path, start_pipe
from edgekit.errors import DeviceError, UnknownName
from edgekit.files.tables import nearest

INSTALL = "`apt install qemu-user` (Debian, Ubuntu), or your system's package of QEMU's user-mode emulators"
_PROBE_SECONDS = 120.0
_CPU_WORDS = Path(__file__).with_name("cpu_words.py")

#: What a Python of another architecture is taken from its root directory; never /proc, /sys, /dev or /tmp.
_LINKED = ("bin", "etc", "lib*", "opt", "sbin", "usr")
_PYTHONS = ("usr/local/bin/python3", "usr/bin/python3", "opt/python/bin/python3")
#: What this machine's libraries need and another architecture's must not see.
_NOT_LENT = ("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME", "PYTHONUSERBASE", "VIRTUAL_ENV")

#: (implementer, part) that /proc/cpuinfo shows for QEMU's Arm CPUs, which QEMU tells itself from 8.2 on.
_ARM_PARTS = {
    "a64fx": ("0x46", "0x001"),
    "cortex-a35": ("0x41", "0xd04"),
    "cortex-a53": ("0x41", "0xd03"),
    "cortex-a55": ("0x41", "0xd05"),
    "cortex-a57": ("0x41", "0xd07"),
    "cortex-a710": ("0x41", "0xd47"),
    "cortex-a72": ("0x41", "0xd08"),
    "cortex-a76": ("0x41", "0xd0b"),
    "neoverse-n1": ("0x41", "0xd0c"),
    "neoverse-n2": ("0x41", "0xd49"),
    "neoverse-v1": ("0x41", "0xd40"),
}
_QEMU_PART = ("0x00", "0x051")


def find_emulator(arch: str) -> str:
    """The path of the emulator for `arch`, "" when none is installed."""
    return shutil.which(f"qemu-{arch}") or shutil.which(f"qemu-{arch}-static") or ""


def known_cpus(emulator: str) -> tuple[str, ...]:
    """The CPU models that an emulator offers, as `-cpu help` lists them. Raises DeviceError."""
    told = _run([emulator, "-cpu", "help"], os.environ)
    listed = told.stdout.partition("Available CPUs:")[2].partition("\n\n")[0]
    names = (re.match(r"\s*(?:x86\s+)?(\S+)", line) for line in listed.splitlines() if line.strip())
    found = tuple(name[1] for name in names if name is not None)
    if not found:
        raise DeviceError(f"{emulator} lists no CPUs: {_last_words(told.stderr)}", hint=INSTALL)
    return found


def open_emulator(uri: str) -> EmulatorDevice:
    """The device that `emulator:ARCH/CPU` names, tried once.

    Raises UsageError, UnknownName for a CPU the emulator does not know, DeviceError when the emulator is
    not installed or cannot run Python with numpy.
    """
    return EmulatorDevice(parse_emulator(uri))


class EmulatorDevice:
    """Workers under an emulated CPU, which see this machine's files and devices.

    The interpreter is this one, or for another architecture that of a root directory. What the emulator
    shows in place of this machine's files lies in a temporary directory that goes with the device.
    """

    shares_files = True

    def __init__(self, place: EmulatorUri) -> None:
        self.uri = place.text
        self._place = place
        self._emulator = self._found()
        python = self._python()
        self._shown = Path(tempfile.mkdtemp(prefix="edgekit-emulator-"))
        weakref.finalize(self, shutil.rmtree, self._shown, ignore_errors=True)
        (self._shown / "proc").mkdir()
        if place.sysroot is not None:
            self._show(place.sysroot)
            python = str(self._shown / python)
        self._command = [self._emulator, "-cpu", place.cpu, "-L", str(self._shown), python]
        self._tell(())  # some engines cannot even be imported where another architecture's is told
        self._tell(self._words())

    def start_worker(self, environment: Mapping[str, str]) -> WorkerPipe:
        """Start the worker under the emulator, in a session of its own."""
        command = [*self._command, "-P", "-m", WORKER]
        return start_pipe(command, {**self._environment(), **environment})

    def _found(self) -> str:
        arch, cpu = self._place.arch, self._place.cpu.partition(",")[0]
        if sys.platform != "linux":
            raise DeviceError(f"{self.uri}: QEMU's user-mode emulation runs on Linux only", hint="use Linux")
        emulator = find_emulator(arch)
        if not emulator:
            raise DeviceError(f"{self.uri}: the emulator qemu-{arch} is not installed", hint=INSTALL)
        cpus = known_cpus(emulator)
        if cpu not in cpus:
            raise UnknownName(
                f"{self.uri}: {emulator} knows no CPU {cpu!r}",
                hint=f"{nearest(cpu, cpus)} `{Path(emulator).name} -cpu help` lists them",
            )
        return emulator

    def _python(self) -> str:
        """The interpreter: a path, or for a root directory the path in it."""
        sysroot, arch = self._place.sysroot, self._place.arch
        if sysroot is None:
            if not is_native(arch):
                raise DeviceError(
                    f"{self.uri}: a Python for {arch} is needed",
                    hint=f"give a root directory with Python, numpy and the engine for {arch} as "
                    f"?sysroot=DIR or in {sysroot_variable(arch)}: edgekit/devices/README.md",
                )
            if not sys.executable:
                raise DeviceError("this process does not know its Python (sys.executable is empty)")
            return sys.executable
        found = next((python for python in _PYTHONS if (sysroot / python).is_file()), "")
        if not found:
            raise DeviceError(
                f"{self.uri}: no Python in {sysroot}",
                hint=f"one of {', '.join(_PYTHONS)} must be there: edgekit/devices/README.md",
            )
        return found

    def _show(self, sysroot: Path) -> None:
        """Link to a root directory, which stays as it is, and lend it the runtime."""
        for pattern in _LINKED:
            for entry in sysroot.resolve().glob(pattern):
                (self._shown / entry.name).symlink_to(entry)
        lent = self._shown / "lent"
        lent.mkdir()
        lend_packages(lent)

    def _environment(self) -> dict[str, str]:
        if self._place.sysroot is None:
            return {**os.environ, "PYTHONPATH": module_path()}
        kept = {key: value for key, value in os.environ.items() if key not in _NOT_LENT}
        return {**kept, "PYTHONPATH": str(self._shown / "lent")}

    def _words(self) -> tuple[str, ...]:
        """The CPU's features as an emulated process finds them."""
        told = _run([*self._command, "-P", str(_CPU_WORDS)], self._environment())
        if told.returncode != 0:
            raise DeviceError(
                f"{self.uri}: Python does not run there: {_last_words(told.stderr)}",
                hint=f"it ran {' '.join(self._command)}",
            )
        found: dict[str, list[str]] = json.loads(told.stdout)
        if found["lacking"]:
            lacking = " and ".join(found["lacking"])
            raise DeviceError(
                f"{self.uri}: its Python lacks {lacking}", hint=f"install {lacking} in the root directory"
            )
        return tuple(found["words"])

    def _tell(self, words: Sequence[str]) -> None:
        """Write the /proc/cpuinfo that workers see: older emulators show them this machine's."""
        model = self._place.cpu.partition(",")[0]
        if self._place.arch == "aarch64":
            maker, part = _ARM_PARTS.get(model, _QEMU_PART)
            lines = [f"Features\t: {' '.join(words)}", f"CPU implementer\t: {maker}"]
            lines += ["CPU architecture: 8", "CPU variant\t: 0x0", f"CPU part\t: {part}", "CPU revision\t: 0"]
        else:
            lines = [f"model name\t: QEMU TCG {self._place.cpu}", f"flags\t\t: {' '.join(words)}"]
        cores = ["\n".join([f"processor\t: {number}", *lines, ""]) for number in range(os.cpu_count() or 1)]
        (self._shown / "proc" / "cpuinfo").write_text("\n".join(cores), encoding="utf-8")


def _run(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env=environment,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{command[0]} gave no answer within {_PROBE_SECONDS:g} s") from None
    except OSError as cause:
        raise DeviceError(f"{command[0]} cannot be started: {cause}", hint=INSTALL) from cause


def _last_words(stderr: str) -> str:
    """The last line that is no warning about a feature that the emulator lacks."""
    lines = [line for line in stderr.splitlines() if line.strip() and "warning: TCG" not in line]
    return lines[-1].strip() if lines else "it said nothing"
