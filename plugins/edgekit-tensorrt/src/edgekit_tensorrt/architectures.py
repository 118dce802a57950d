"""Which library builds for which GPU architectures, and which precisions those have."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from edgekit.api import BackendUnavailable, CompileRequest, PrecisionNotGiven, Target, UnknownName
from edgekit_tensorrt.library import INSTALL, RTX, STANDARD, is_installed

#: What TensorRT for RTX builds for: members of its own enumeration `ComputeCapability` (1.7).
RTX_ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
#: What it builds for when nothing is named, as its documentation has it: every GPU since Ampere.
RTX_USUAL = ("sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
#: What standard TensorRT 10 and 11 run on: the support matrix in NVIDIA's documentation.
STANDARD_ARCHITECTURES = (
    "sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_103", "sm_110", "sm_120", "sm_121",
)  # fmt: skip
#: bf16 came with Ampere; the same matrix says so, and TensorRT for RTX refuses it for sm_75 in so many words,
#: as it does weights of 4 bits.
_BEFORE_AMPERE = ("sm_75",)
#: fp8 came with Ada: refused for these in so many words too ("hardware-specific datatypes: fp8_e4m3").
_BEFORE_ADA = (*_BEFORE_AMPERE, "sm_80", "sm_86", "sm_87")
_OF_TURING = ("fp32", "fp16", "int8", "int8-weights")
_OF_AMPERE = (*_OF_TURING, "bf16", "int4-weights")
_OF_ADA = (*_OF_AMPERE, "fp8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What an engine is built with and for. library: RTX or STANDARD; architectures: as "sm_89", one or more;
    none for standard TensorRT where the target names none: the GPU that it builds on."""

    library: str
    architectures: tuple[str, ...]


def choose(target: Target, library: str = "auto", architectures: str = "") -> Choice:
    """What the options say, or the target's GPU.

    Raises UnknownName for an architecture that the library does not build for, BackendUnavailable when it is
    not installed.
    """
    named = architectures or target.hardware.gpu_arch
    wanted = tuple(dict.fromkeys(word.strip() for word in named.split(",") if word.strip()))
    who = "TensorRT" if library == "auto" else library
    if library == "auto":
        library = RTX if _is_for_rtx(wanted) else STANDARD
    known = RTX_ARCHITECTURES if library == RTX else STANDARD_ARCHITECTURES
    for word in wanted:
        if word not in known:
            close = difflib.get_close_matches(word, known, n=1)
            raise UnknownName(
                f"{who} does not build for {word!r}; it builds for {', '.join(known)}",
                hint=f"did you mean {close[0]!r}?" if close else "compute capability 8.9 is written sm_89",
            )
    if library == STANDARD and len(wanted) > 1:
        raise UnknownName(
            f"{STANDARD} builds for the GPU that it builds on, not for {', '.join(wanted)}",
            hint=f"name one architecture, or take --option library={RTX}",
        )
    return Choice(library=library, architectures=wanted or (RTX_USUAL if library == RTX else ()))


def chosen(request: CompileRequest) -> Choice:
    """`choose` for a request."""
    return choose(
        request.target,
        str(request.options.get("library", "auto")),
        str(request.options.get("architectures", "")),
    )


def precisions_of(choice: Choice) -> tuple[str, ...]:
    """The precisions that every architecture of the choice has."""
    if any(word in _BEFORE_AMPERE for word in choice.architectures):
        return _OF_TURING
    return _OF_AMPERE if any(word in _BEFORE_ADA for word in choice.architectures) else _OF_ADA


def refuse_precision(choice: Choice, precision: str) -> None:
    """Raise PrecisionNotGiven for one that an architecture lacks, naming those that it has."""
    offered = precisions_of(choice)
    if precision not in offered:
        lacking = ", ".join(
            word
            for word in choice.architectures
            if precision not in precisions_of(replace(choice, architectures=(word,)))
        )
        several = len(choice.architectures) > 1
        every = f" on every one of {', '.join(choice.architectures)}" if several else ""
        raise PrecisionNotGiven(
            f"{choice.library} has no {precision} on {lacking}; it has {', '.join(offered)}{every}",
            hint=f"choose one of {', '.join(offered)}" + (f", or leave out {lacking}" if several else ""),
        )


def refuse_missing(choice: Choice) -> None:
    """Raise BackendUnavailable when the library is not installed here."""
    if not is_installed(choice.library):
        where = f" for {', '.join(choice.architectures)}" if choice.architectures else ""
        raise BackendUnavailable(
            f"{choice.library} is needed to build{where}, and is not installed here",
            hint=INSTALL[choice.library],
        )


def _is_for_rtx(wanted: tuple[str, ...]) -> bool:
    """TensorRT for RTX, where it builds for all that is wanted; not when standard TensorRT alone is here."""
    if not set(wanted) <= set(RTX_ARCHITECTURES):
        return False
    return is_installed(RTX) or not is_installed(STANDARD)
