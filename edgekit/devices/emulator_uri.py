"""`emulator:ARCH/CPU[?sysroot=DIR]`: which CPU to emulate, and where a Python for it is."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

from edgekit.errors import UnknownName, UsageError
from edgekit.files.tables import nearest

SCHEME = "emulator"
ARCHES = ("aarch64", "x86_64")
_SAME = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_FORM = "write for example `emulator:x86_64/Haswell` or `emulator:aarch64/cortex-a76?sysroot=DIR`"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorUri:
    """cpu: QEMU's name of a CPU model, with features after commas as `qemu -cpu` takes them.

    sysroot: a root directory of `arch` with Python, numpy and the engine in it; None for the Python that
    runs edgekit, which needs `arch` to be this machine's.
    """

    text: str
    arch: str
    cpu: str
    sysroot: Path | None = None


def parse_emulator(uri: str) -> EmulatorUri:
    """Take a uri apart. Raises UsageError, or UnknownName for an architecture without an emulator here."""
    scheme, _, rest = uri.partition(":")
    place, _, query = rest.partition("?")
    arch, slash, cpu = place.partition("/")
    if scheme != SCHEME or not slash or not arch or not cpu.partition(",")[0]:
        raise UsageError(f"{uri!r} names no emulated CPU", hint=_FORM)
    known = plain_arch(arch)
    if known not in ARCHES:
        raise UnknownName(f"{uri!r}: no emulator for architecture {arch!r}", hint=nearest(arch, ARCHES))
    return EmulatorUri(text=uri, arch=known, cpu=cpu, sysroot=_sysroot(uri, known, query))


def sysroot_variable(arch: str) -> str:
    """The environment variable that names a root directory of `arch`."""
    return f"EDGEKIT_{arch.upper()}_SYSROOT"


def plain_arch(word: str) -> str:
    """The one word for an architecture that systems call by several."""
    return _SAME.get(word.strip().casefold(), word.strip().casefold())


def is_native(arch: str) -> bool:
    """Whether the Python that runs edgekit is of `arch`."""
    return plain_arch(platform.machine()) == arch


def _sysroot(uri: str, arch: str, query: str) -> Path | None:
    try:
        keys = parse_qs(query, strict_parsing=True, keep_blank_values=True) if query else {}
    except ValueError:
        raise UsageError(f"{uri!r}: {query!r} is no KEY=VALUE", hint=_FORM) from None
    unknown = sorted(set(keys) - {"sysroot"})
    if unknown:
        raise UsageError(f"{uri!r}: no key {unknown[0]!r}", hint=f"`sysroot` is the only one; {_FORM}")
    if keys and keys["sysroot"] in ([""], ["", ""]):
        raise UsageError(f"{uri!r}: `sysroot` is empty", hint=_FORM)
    if len(keys.get("sysroot", ())) > 1:
        raise UsageError(f"{uri!r}: `sysroot` stands there twice", hint=_FORM)
    given = keys["sysroot"][0] if keys else os.environ.get(sysroot_variable(arch), "")
    return Path(given).expanduser() if given else None
