"""Which kind of int8 weights the target's CPU multiplies rightly."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from edgekit.api import Target
from edgekit_runtime.machine import read_machine

_X86 = ("x86_64", "amd64")
_DOT_PRODUCT = "asimddp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """signed: int8 weights are right, else uint8 must be taken, or int8 of 7 bits. why: in words."""

    signed: bool
    why: tuple[str, ...]


def arithmetic(target: Target, asked: str) -> Arithmetic:
    """What the target's CPU does with unsigned activations and signed weights; `asked` overrides it.

    x86 without VNNI adds two products of 8 bits in 16 bits and saturates: answers are wrong there.
    """
    if asked != "auto":
        return Arithmetic(signed=asked == "int8", why=(f"weights are {asked} as asked",))
    arch = target.match.arch or platform.machine()
    isa, where = _features(target, arch)
    if arch.lower() not in _X86:
        return Arithmetic(
            signed=True, why=(f"weights are int8: {arch} multiplies them exactly", *_gain(isa, where))
        )
    if any("vnni" in feature or feature == "amx_int8" for feature in isa):
        why = f"weights are int8: {where} has VNNI. Do not run this artifact on x86 CPUs without it"
        return Arithmetic(signed=True, why=(why,))
    why = f"{where} has no VNNI, without which signed weights of 8 bits saturate"
    return Arithmetic(
        signed=False, why=(f"weights are uint8, or int8 of 7 bits where ranges are fixed: {why}",)
    )


def _features(target: Target, arch: str) -> tuple[tuple[str, ...], str]:
    isa = (*target.hardware.isa, *target.match.isa)
    if isa or arch.lower() != platform.machine().lower():
        return isa, f"target {target.name!r}"
    return read_machine().isa, "this machine (the target names no CPU features)"


def _gain(isa: tuple[str, ...], where: str) -> tuple[str, ...]:
    if not isa or _DOT_PRODUCT in isa:
        return ()
    return (f"{where} has no dot product instructions ({_DOT_PRODUCT}): int8 saves size there, little time",)
