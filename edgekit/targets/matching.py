"""Whether a machine is the target. A machine that is not gets no PASS."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from edgekit.targets.places import THIS_MACHINE
from edgekit.values import Match, Target
from edgekit_runtime.values import Machine

NOT_RECOGNISABLE = "the target does not say how its machine is recognised ([match])"
_SAME_ARCH = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchResult:
    """ok: the machine is the target. reasons: what it was recognised by, or else what differs.

    extra_isa: CPU features of the machine that the target does not count on. Where there are
    some, a machine that just meets the target may be slower, and may round int8 differently.
    """

    ok: bool
    reasons: tuple[str, ...]
    extra_isa: tuple[str, ...] = ()


def match_machine(target: Target, machine: Machine) -> MatchResult:
    """Whether `machine` is the target, and why. A target that says nothing matches nothing."""
    wanted = target.match
    if replace(wanted, emulated=False) == Match():
        if target.name == THIS_MACHINE:
            return MatchResult(ok=True, reasons=("the target is the machine at hand",))
        return MatchResult(ok=False, reasons=(NOT_RECOGNISABLE,))
    misses = tuple(_misses(wanted, machine))
    if misses:
        return MatchResult(ok=False, reasons=misses)
    known = {*wanted.isa, *target.hardware.isa}
    extra = tuple(word for word in machine.isa if word not in known) if wanted.isa else ()
    return MatchResult(ok=True, reasons=tuple(_grounds(wanted)), extra_isa=extra)


def same_arch(one: str, other: str) -> bool:
    """Whether two words of platform.machine() mean one architecture."""
    return _arch(one) == _arch(other)


def runs_on(arches: Iterable[str], arch: str) -> bool:
    """Whether `arch` is among a backend's architectures; a backend that names none runs on all."""
    known = tuple(arches)
    return not known or any(same_arch(arch, one) for one in known)


def tidy(text: str) -> str:
    """A name as a system file tells it, without the NUL or line end that some carry."""
    return text.strip("\0 \t\r\n")


def _misses(wanted: Match, machine: Machine) -> Iterator[str]:
    if wanted.arch and not same_arch(wanted.arch, machine.arch):
        yield f"the architecture is {machine.arch or 'unknown'}, the target's is {wanted.arch}"
    if wanted.system and wanted.system.casefold() != machine.system.casefold():
        yield f"the system is {machine.system or 'unknown'}, the target's is {wanted.system}"
    for what, pattern, texts in (
        ("CPU", wanted.cpu, (machine.cpu,)),
        ("device-tree model", wanted.device_tree, (machine.device_tree,)),
        ("GPU", wanted.gpu, machine.gpu),
    ):
        if pattern and not any(_fits(text, pattern) for text in texts):
            found = ", ".join(repr(text) for text in texts if text) or "not told by this system"
            yield f"the {what} is {found}, the target's is {pattern!r}"
    have = {word.casefold() for word in machine.isa}
    lacking = [word for word in wanted.isa if word.casefold() not in have]
    if lacking:
        yield f"the CPU lacks {', '.join(lacking)}"
    if machine.emulated and not wanted.emulated:
        yield "the CPU is emulated: its times say nothing about the target"


def _grounds(wanted: Match) -> Iterator[str]:
    for what, text in (
        ("architecture", wanted.arch),
        ("system", wanted.system),
        ("CPU", wanted.cpu),
        ("device-tree model", wanted.device_tree),
        ("GPU", wanted.gpu),
        ("CPU features", ", ".join(wanted.isa)),
    ):
        if text:
            yield f"{what}: {text}"


def _fits(text: str, pattern: str) -> bool:
    return bool(text) and fnmatch.fnmatchcase(tidy(text).casefold(), tidy(pattern).casefold())


def _arch(word: str) -> str:
    plain = word.strip().casefold()
    return _SAME_ARCH.get(plain, plain)
