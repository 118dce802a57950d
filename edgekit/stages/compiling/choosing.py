"""`auto`: of the precisions that are right, the fastest; of those that are as fast, the smallest.

Every candidate is built beside the higher precision, launched in turn with it, and passes the same gates as
one that is asked for by name. The higher precision is kept where none of them does.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.errors import ArtifactWrong, CompileFailed, PrecisionNotGiven
from edgekit.stages.common import OnProgress
from edgekit.stages.compiling.reducing import (
    HIGH,
    Reduced,
    Reduction,
    build_alone,
    build_higher,
    reduce_precision,
)
from edgekit.stages.compiling.speed import ratio_text
from edgekit.values import Change, Earned, Interval, Target

#: What `auto` tries; of two that are as fast and as small, the first is taken. Weights alone are tried where
#: int8 was not kept: they are as small, and no CPU multiplies floats faster.
TRIED = ("int8", "bf16", "fp16")
INSTEAD = ("int8-weights",)
#: CPU features of which one must be among the target's. An engine may compute in 16 bits on any CPU, by
#: converting to fp32 and back, or refuse to open the artifact there.
_FEATURES = {
    "bf16": ("avx512_bf16", "amx_bf16", "bf16", "svebf16"),
    "fp16": ("avx512_fp16", "amx_fp16", "asimdhp"),
}
#: Estimates of latency that are further apart decide where nothing is proven: what looks slower is not taken
#: for its size.
AS_FAST = 0.05
#: Sizes, as shares of the higher precision's, that are no further apart are the same.
SAME_SIZE = 0.05

#: Raises an error when the artifact in the directory should not be kept.
Gate = Callable[[Reduced, Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passed:
    """An artifact that passed every gate."""

    directory: Path
    reduced: Reduced

    @property
    def precision(self) -> str:
        return self.reduced.recipe.precision

    @property
    def size(self) -> float:
        """As a share of the higher precision's bytes."""
        return 1.0 if self.reduced.earned is None else self.reduced.earned.size

    @property
    def ratio(self) -> Interval | None:
        """Of its latency to the higher precision's; None where that was not measured."""
        return None if self.reduced.earned is None else self.reduced.earned.latency.ratio


def build_auto(
    reduction: Reduction, precisions: Sequence[str], work: Path, gate: Gate, on_progress: OnProgress
) -> Reduced:
    """The best of what the backend builds and the gate lets through, in `work`; else the higher precision.

    precisions: those that the backend has. Where the higher one cannot be built, as of a graph that was
    quantized before, the first of the others is taken; where there is none, what was wrong with it is raised.
    """
    passed: list[_Passed] = []
    with tempfile.TemporaryDirectory(prefix="edgekit-auto-") as name:
        high = _higher(reduction, Path(name) / HIGH, on_progress)
        notes = list(_forgone(reduction, precisions))
        for precision in _tried(reduction, precisions):
            if passed and (precision in INSTEAD or not isinstance(high, _Passed)):
                continue
            place = Path(name) / precision
            place.mkdir()
            try:
                made = _made(reduction, precision, place, high, on_progress)
                gate(made, place)
            except (CompileFailed, PrecisionNotGiven, ArtifactWrong) as problem:
                notes.append(f"{precision} was not kept: {problem.message}")
            else:
                passed.append(_Passed(directory=place, reduced=made))
        if passed:
            chosen, why = _best(passed)
        elif isinstance(high, _Passed):
            chosen, why = high, ()
        else:
            raise type(high)("; ".join((high.message, *notes)), hint=high.hint)
        for path in chosen.directory.iterdir():
            shutil.move(path, work / path.name)
    return replace(chosen.reduced, notes=(*chosen.reduced.notes, *notes, *why, f"auto: {chosen.precision}"))


def _higher(
    reduction: Reduction, directory: Path, on_progress: OnProgress
) -> _Passed | CompileFailed | PrecisionNotGiven:
    """The higher precision, or why it cannot be built."""
    directory.mkdir()
    try:
        compiled = build_higher(reduction, directory, on_progress)
    except (CompileFailed, PrecisionNotGiven) as problem:
        if reduction.tuning is not None:  # nodes are put back by comparing with it
            raise
        return problem
    recipe = replace(reduction.build.recipe, precision=HIGH)
    return _Passed(directory=directory, reduced=Reduced(compiled=compiled, recipe=recipe))


def _made(
    reduction: Reduction,
    precision: str,
    place: Path,
    high: _Passed | CompileFailed | PrecisionNotGiven,
    on_progress: OnProgress,
) -> Reduced:
    recipe = replace(reduction.build.recipe, precision=precision)
    lower = replace(reduction, build=replace(reduction.build, recipe=recipe))
    if not isinstance(high, _Passed):
        return build_alone(lower, place, high.message, on_progress)
    found = reduce_precision(lower, place, high.directory, on_progress)
    _refuse_slower(found.earned)
    return found


def _refuse_slower(earned: Earned | None) -> None:
    """Nobody asked for smaller weights at the price of speed; nor at a likely one, where time was too short
    to tell."""
    if earned is None or earned.latency.ratio is None:
        return
    if earned.latency.change is Change.SLOWER:
        raise PrecisionNotGiven(f"it is slower than {HIGH} here")
    if earned.latency.change is Change.UNPROVEN and earned.latency.ratio.estimate > 1 + AS_FAST:
        raise PrecisionNotGiven(
            f"it looks slower than {HIGH} here, and that it is not was not proven: it takes "
            f"{ratio_text(earned.latency.ratio, HIGH)}; more --max-seconds tells"
        )


# --- which are tried -------------------------------------------------------------------------------------


def _tried(reduction: Reduction, precisions: Sequence[str]) -> list[str]:
    return [word for word in (*TRIED, *INSTEAD) if word in precisions and not _why_not(reduction, word)]


def _forgone(reduction: Reduction, precisions: Sequence[str]) -> Iterator[str]:
    for word in (*TRIED, *INSTEAD):
        reason = _why_not(reduction, word) if word in precisions else ""
        if reason:
            yield f"{word} was not tried: {reason}"


def _why_not(reduction: Reduction, precision: str) -> str:
    target = reduction.build.target
    if target.compile.auto and precision not in target.compile.auto:
        return f"target {target.name!r} lets auto take {', '.join(target.compile.auto)} alone"
    if reduction.run.device.casefold() != "cpu" or precision not in _FEATURES:
        return ""
    if set(_FEATURES[precision]) & _features(target):
        return ""
    return (
        f"target {target.name!r} names no CPU feature for it ({', '.join(_FEATURES[precision])}); "
        f"--precision {precision} builds it"
    )


def _features(target: Target) -> set[str]:
    return {*target.match.isa, *target.hardware.isa}


# --- which is taken --------------------------------------------------------------------------------------


def _best(passed: Sequence[_Passed]) -> tuple[_Passed, tuple[str, ...]]:
    """The smallest of those that are not slower than the quickest, and why the others are not taken."""
    quickest = min(passed, key=lambda one: one.ratio.estimate if one.ratio is not None else 1.0)
    as_fast = [one for one in passed if not _slower(one, quickest)]
    least = min(one.size for one in as_fast)
    chosen = next(one for one in as_fast if one.size <= least + SAME_SIZE)
    others = [one for one in passed if one is not chosen]
    return chosen, tuple(_lost(one, quickest if _slower(one, quickest) else chosen) for one in others)


def _slower(one: _Passed, other: _Passed) -> bool:
    """All were measured beside the same artifact: where two intervals do not overlap one is faster, and where
    they do the estimates decide."""
    if one.ratio is None or other.ratio is None:
        return False
    return _proven_slower(one.ratio, other.ratio) or one.ratio.estimate > (1 + AS_FAST) * other.ratio.estimate


def _proven_slower(one: Interval, other: Interval) -> bool:
    return one.low is not None and other.high is not None and one.low > other.high


def _lost(one: _Passed, better: _Passed) -> str:
    if _slower(one, better) and one.ratio is not None and better.ratio is not None:
        times = (
            f"{one.ratio.estimate:.2f}x as long as {HIGH}, {better.precision} {better.ratio.estimate:.2f}x"
        )
        verb = "is" if _proven_slower(one.ratio, better.ratio) else "looks"
        return f"{one.precision} was right too, and {verb} slower: it takes {times}"
    speed = "no faster" if one.ratio is not None else "its speed was not compared"
    return (
        f"{one.precision} was right too, and is not taken: {one.size:.2f}x the bytes of {HIGH} where "
        f"{better.precision} has {better.size:.2f}x, and {speed}"
    )
