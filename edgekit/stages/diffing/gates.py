"""What must not have become worse: each gate PASS, FAIL, INCONCLUSIVE or NOT_MEASURED."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgekit.errors import UnknownName, UsageError
from edgekit.files.tables import nearest
from edgekit.measuring.accuracy import judge_accuracy
from edgekit.measuring.footprint import MIB
from edgekit.measuring.pairs import LATENCY
from edgekit.stages.diffing.accuracy import ACCURACY
from edgekit.values import AccuracyRecord, Change, Check, DiffFigure, DiffMethod, DiffSide, Interval, Outcome

SLOWER, LESS_ACCURATE, BIGGER, FALLBACK = "slower", "less-accurate", "bigger", "fallback"
GATES = (SLOWER, LESS_ACCURATE, BIGGER, FALLBACK)
SIZE = "size"
#: Shares of time are read with noise: fallback has grown when it is larger by over one point.
FALLBACK_MARGIN = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """How much worse is not yet worse. latency, size: shares; accuracy: points."""

    latency: float = 0.05
    accuracy: float = 0.5
    size: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """All that gates are judged on."""

    old: DiffSide
    new: DiffSide
    figures: tuple[DiffFigure, ...]
    confidence: float
    accuracy: AccuracyRecord | None = None
    overlap: int = 0


def check_gates(names: tuple[str, ...]) -> tuple[str, ...]:
    """The gates asked for, each once. Raises UnknownName."""
    for name in names:
        if name not in GATES:
            raise UnknownName(f"--fail-on: there is no gate {name!r}", hint=nearest(name, GATES))
    return tuple(dict.fromkeys(names))


def check_margins(margins: Margins) -> None:
    """Raises UsageError for a margin that is none."""
    for flag, value, most in (
        ("--margin", margins.latency, 1.0),
        ("--accuracy-margin", margins.accuracy, 100.0),
        ("--size-margin", margins.size, 10.0),
    ):
        if not 0.0 <= value <= most:
            raise UsageError(
                f"{flag} {value:g} is not between 0 and {most:g}", hint="see `edgekit diff --help`"
            )


def judge_gates(names: tuple[str, ...], found: Compared, margins: Margins) -> tuple[Check, ...]:
    """One check for each gate, in the order asked for."""
    judges: dict[str, Callable[[Compared, Margins], Check]] = {
        SLOWER: _slower,
        LESS_ACCURATE: _less_accurate,
        BIGGER: _bigger,
        FALLBACK: _fallback,
    }
    return tuple(judges[name](found, margins) for name in names)


def _figure(found: Compared, key: str) -> DiffFigure:
    return next(figure for figure in found.figures if figure.key == key)


def _not_measured(gate: str, limit: float, unit: str, reason: str) -> Check:
    return Check(key=gate, limit=limit, unit=unit, outcome=Outcome.NOT_MEASURED, reason=reason)


def _slower(found: Compared, margins: Margins) -> Check:
    figure, limit = _figure(found, LATENCY.key), 1.0 + margins.latency
    if figure.ratio is None:
        return _not_measured(SLOWER, limit, "x", figure.reason)
    low, high = figure.ratio.low, figure.ratio.high
    outcome, reason = _against(low, high, limit)
    if outcome is Outcome.INCONCLUSIVE:
        reason = figure.reason or "too few pairs for this margin: give more --max-seconds"
    return Check(
        key=SLOWER,
        limit=limit,
        unit="x",
        outcome=outcome,
        observed=figure.ratio,
        reason=reason,
        method=figure.method,
    )


def _against(low: float | None, high: float | None, limit: float) -> tuple[Outcome, str]:
    if high is not None and high <= limit:
        return Outcome.PASS, ""
    if low is not None and low > limit:
        return Outcome.FAIL, ""
    return Outcome.INCONCLUSIVE, "the bounds lie on both sides of the limit"


def _less_accurate(found: Compared, margins: Margins) -> Check:
    figure, limit = _figure(found, ACCURACY), margins.accuracy
    if found.accuracy is not None:
        judged = judge_accuracy(found.accuracy, limit, found.confidence, found.overlap)
        # the same test as `validate`'s, whose words speak of the exported model
        reason = judged.reason.replace("the exported model", "OLD")
        outcome = judged.outcome
    elif figure.difference is None:
        return _not_measured(LESS_ACCURATE, limit, "points", figure.reason)
    else:
        outcome, reason = _against(figure.difference.low, figure.difference.high, limit)
        reason = f"{reason}; {figure.reason}" if reason else figure.reason
    return Check(
        key=LESS_ACCURATE,
        limit=limit,
        unit="points",
        outcome=outcome,
        observed=figure.difference,
        reason=reason,
        method=figure.method,
    )


def _bigger(found: Compared, margins: Margins) -> Check:
    limit = 1.0 + margins.size
    ratio = _figure(found, SIZE).ratio
    if ratio is None:
        return _not_measured(BIGGER, limit, "x", "OLD has no bytes")
    more = found.new.bytes - found.old.bytes
    outcome = Outcome.PASS if found.new.bytes <= limit * found.old.bytes else Outcome.FAIL
    return Check(
        key=BIGGER,
        limit=limit,
        unit="x",
        outcome=outcome,
        observed=ratio,
        reason=f"{more:+,} bytes",
        method=_figure(found, SIZE).method,
    )


def _fallback(found: Compared, margins: Margins) -> Check:
    old, new = found.old.fallback, found.new.fallback
    for role, share in (("OLD", old), ("NEW", new)):
        if share is None:
            return _not_measured(FALLBACK, FALLBACK_MARGIN, "share", f"{role}'s backend does not tell it")
    if found.old.fallback_basis != found.new.fallback_basis or old is None or new is None:
        told = f"OLD's is a share of {found.old.fallback_basis}, NEW's of {found.new.fallback_basis}"
        return _not_measured(FALLBACK, FALLBACK_MARGIN, "share", told)
    limit = old + FALLBACK_MARGIN
    return Check(
        key=FALLBACK,
        limit=limit,
        unit="share",
        outcome=Outcome.PASS if new <= limit else Outcome.FAIL,
        observed=Interval(estimate=new, low=new, high=new),
        reason=f"{old:.1%} of {found.old.fallback_basis} before, {new:.1%} now",
        method="exact",
    )


def size_figure(old: DiffSide, new: DiffSide) -> DiffFigure:
    """Bytes of both, goldens left out; counted, so any difference is one."""
    ratio = new.bytes / old.bytes if old.bytes else None
    change = Change.SAME
    if new.bytes != old.bytes:
        change = Change.BIGGER if new.bytes > old.bytes else Change.SMALLER
    return DiffFigure(
        key=SIZE,
        unit="MiB",
        change=change,
        old=old.bytes / MIB,
        new=new.bytes / MIB,
        ratio=None if ratio is None else Interval(estimate=ratio, low=ratio, high=ratio),
        method=DiffMethod.EXACT,
        reason=f"{new.bytes - old.bytes:+,} bytes",
    )
