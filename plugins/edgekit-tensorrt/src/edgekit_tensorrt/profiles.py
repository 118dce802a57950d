"""Optimisation profiles: which sizes of its symbolic axes an engine takes, and for which it is made fast.

An engine refuses every other size, so the usual profile is wide: from the least to a usual most, as far as
the model takes it, and best at the workload's. Where nothing is known of the model, the library still says
when a size contradicts the graph, and `narrowed` gives the next smaller range to try.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgekit.api import CompileFailed, Signature, Target
from edgekit_tensorrt.description import InputRange, Profile

#: Sizes of axes that a workload does not know; 0 keys and values are cached before the first token.
_OTHER = 16
_LEAST = {"past": 0}
#: The most of a usual axis, where the workload has less: 30 s at 16 kHz; of a picture, twice the workload's.
_MOST = {"batch": 8, "sequence": 512, "tokens": 512, "past": 512, "samples": 480_000}
_PICTURE = ("height", "width")
_MOST_OTHER = 512
_ITEM = re.compile(r"\s*([^=;,]+?)\s*=\s*(\d+)\s*:\s*(\d+)\s*:\s*(\d+)\s*")
_HOW = "profiles is auto, workload, or AXIS=MIN:BEST:MAX for each axis: batch=1:1:8,sequence=1:128:512"


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisRange:
    """Sizes of one axis: what is taken at least and at most, and what is best."""

    least: int
    best: int
    most: int


#: The ranges of every symbolic axis, in one profile.
Ranges = Mapping[str, AxisRange]


def plan_profiles(
    words: str,
    signature: Signature,
    target: Target,
    known: Mapping[str, tuple[int, int | None]] | None = None,
) -> tuple[Ranges, ...]:
    """What the option `profiles` asks for; () for a model of one shape.

    auto: one wide profile, and before it one for each shape of a workload that is a mix. known: the least
    and the most that the model takes of its axes, the most None for no limit. Raises
    CompileFailed for words that make no sense.
    """
    axes = symbolic_axes(signature)
    if not axes:
        if words not in ("auto", "workload"):
            raise CompileFailed(
                "profiles are given, but the model has no symbolic axis", hint="leave them out"
            )
        return ()
    if words not in ("auto", "workload"):
        return tuple(_given(part, axes) for part in words.split(";"))
    shapes = _workload_shapes(axes, target)
    exact = [
        {axis: AxisRange(least=size, best=size, most=size) for axis, size in shape.items()}
        for shape in shapes
    ]
    if words == "workload":
        return tuple(exact)
    wide = {axis: _wide(axis, [shape[axis] for shape in shapes], (known or {}).get(axis)) for axis in axes}
    return (*(exact if len(exact) > 1 else ()), wide)


def of_inputs(ranges: Ranges, signature: Signature) -> Profile:
    """The shapes of every input that has a symbolic axis."""

    def shape(sizes: Sequence[int | str], kind: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else int(getattr(ranges[size], kind)) for size in sizes)

    return Profile(
        ranges=tuple(
            InputRange(
                name=spec.name,
                smallest=shape(spec.shape, "least"),
                usual=shape(spec.shape, "best"),
                largest=shape(spec.shape, "most"),
            )
            for spec in signature.inputs
            if any(isinstance(size, str) for size in spec.shape)
        )
    )


def narrowed(ranges: Ranges, *, lower: bool) -> Ranges | None:
    """The next smaller ranges to try, after the library found the smallest (lower) or the largest sizes to
    contradict the graph; None when nothing is left to narrow. The batch contradicts nothing."""
    found = {axis: part if axis == "batch" else _halved(part, lower) for axis, part in ranges.items()}
    return None if found == dict(ranges) else found


def shown(ranges: Ranges) -> str:
    """For people: "batch 1 to 8, best at 1; sequence 128"."""
    parts = []
    for axis, part in ranges.items():
        fixed = part.least == part.most
        parts.append(f"{axis} {part.best if fixed else f'{part.least} to {part.most}, best at {part.best}'}")
    return "; ".join(parts)


def unsized_axes(signature: Signature, target: Target) -> tuple[str, ...]:
    """Axes for which the workload has no size, so that one was made up."""
    return tuple(axis for axis in symbolic_axes(signature) if _workload_size(axis, target) is None)


def symbolic_axes(signature: Signature) -> tuple[str, ...]:
    """Names of the inputs' symbolic axes, each once."""
    found = [size for spec in signature.inputs for size in spec.shape if isinstance(size, str)]
    return tuple(dict.fromkeys(found))


def _halved(part: AxisRange, lower: bool) -> AxisRange:
    if lower:
        return replace(part, least=min(max(2 * part.least, 1), part.best))
    return replace(part, most=max(part.most // 2, part.best))


def _wide(axis: str, sizes: Sequence[int], known: tuple[int, int | None] | None) -> AxisRange:
    """sizes: of the workload; known: the least and the most that the model takes."""
    best = max(sizes)
    most = 2 * best if axis in _PICTURE else _MOST.get(axis, _MOST_OTHER)
    least, limit = known or (_LEAST.get(axis, 1), None)
    if limit is not None:
        most = min(most, limit)
    return AxisRange(least=min(least, *sizes), best=best, most=max(best, most))


def _workload_shapes(axes: Sequence[str], target: Target) -> list[dict[str, int]]:
    usual = {axis: _OTHER if (size := _workload_size(axis, target)) is None else size for axis in axes}
    mix = [
        {**usual, **{key: shape[key] for key in shape if key in usual}} for shape in target.workload.shapes
    ]
    return [dict(pairs) for pairs in dict.fromkeys(tuple(shape.items()) for shape in mix or [usual])]


def _workload_size(axis: str, target: Target) -> int | None:
    workload = target.workload
    known = {
        "batch": workload.batch,
        "sequence": workload.sequence,
        "height": workload.height,
        "width": workload.width,
        "samples": workload.samples,
        **workload.axes,
    }
    return known.get(axis)


def _given(text: str, axes: Sequence[str]) -> dict[str, AxisRange]:
    """One profile of the option, every axis once."""
    found: dict[str, AxisRange] = {}
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise CompileFailed(f"profiles: {item.strip()!r} is not AXIS=MIN:BEST:MAX", hint=_HOW)
        axis, least, best, most = match[1], *(int(match[place]) for place in (2, 3, 4))
        if axis not in axes or axis in found:
            problem = "is given twice" if axis in found else "is no axis of the model"
            raise CompileFailed(f"profiles: {axis!r} {problem}", hint=f"its axes are {', '.join(axes)}")
        if not least <= best <= most or not most:
            raise CompileFailed(
                f"profiles: {item.strip()!r} is not in order, least first, up to 1 at least", hint=_HOW
            )
        found[axis] = AxisRange(least=least, best=best, most=most)
    lacking = [axis for axis in axes if axis not in found]
    if lacking:
        raise CompileFailed(f"profiles: no sizes for {', '.join(lacking)} in {text.strip()!r}", hint=_HOW)
    return found
