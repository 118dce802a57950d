"""The exported graph against the original, case by case. Any miss is an ExportWrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ExportFailed, ExportWrong, SourceError
from edgekit.exporting.cached import MASK
from edgekit.exporting.subject import Case, Facts, Subject, shape_of
from edgekit.values import ExportCheck
from edgekit_runtime.agreement import judge_goldens
from edgekit_runtime.answers import KINDS
from edgekit_runtime.generation import TOKENS, is_generated
from edgekit_runtime.goldens import Golden
from edgekit_runtime.token_agreement import NO_TOKEN, up_to_difference
from edgekit_runtime.values import Tolerance

if TYPE_CHECKING:
    from edgekit_runtime.session import Array

Outputs = Mapping[str, "Array"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expected:
    """A case with the outputs of the original. again: of inner values, what the original gives with plain
    attention, as it is traced: two right sums in another order."""

    case: Case
    outputs: Outputs
    again: Outputs | None = None


def original_outputs(subject: Subject, names: Sequence[str]) -> list[Expected]:
    """Run the original on every case; its outputs under the graph's names.

    Raises SourceError when it does not run at a shape or is random, ExportFailed when it gives NaN.
    """
    import torch

    expected: list[Expected] = []
    with torch.inference_mode():
        for case in subject.cases:
            outputs = dict(zip(names, _run(subject, case), strict=True))
            _refuse_bad_numbers(case, outputs)
            expected.append(Expected(case=case, outputs=outputs, again=_again(subject, case, names)))
        _refuse_randomness(subject, expected[0])
    return expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One check a case, and of each failed one a line that says why."""

    checks: tuple[ExportCheck, ...]
    reasons: tuple[str, ...]


def judge(
    facts: Facts,
    expected: Sequence[Expected],
    got: Sequence[Outputs],
    tolerance: Tolerance,
    part: str = "",
) -> tuple[ExportCheck, ...]:
    """One ExportCheck per case. Raises ExportWrong when any does not agree. part: its name, if it is one."""
    judged = compare(facts, expected, got, tolerance)
    if judged.reasons:
        message = _message(judged.reasons, len(judged.checks), part)
        raise ExportWrong(message, hint=_hint(judged.checks, tolerance))
    return judged.checks


def compare(
    facts: Facts, expected: Sequence[Expected], got: Sequence[Outputs], tolerance: Tolerance
) -> Judged:
    """The outputs `got` beside those of the original, case by case."""
    checks, reasons = [], []
    for item, outputs in zip(expected, got, strict=True):
        wanted, found, allowed = item.outputs, outputs, tolerance
        if facts.inner:
            allowed = _with_rounding(item, tolerance)
            wanted, found = _scaled(item.case.feeds, item.outputs, outputs)
        golden = Golden(name=item.case.name, feeds=item.case.feeds, outputs=wanted)
        judgement = judge_goldens([golden], [found], kind=facts.answers, precision="fp32", tolerance=allowed)
        shape = shape_of(item.case.feeds, facts.axes)
        check = ExportCheck(
            name=item.case.name,
            shape=shape,
            max_abs_error=judgement.max_abs_error,
            agreement=same_decisions(facts.answers, item.case.feeds, item.outputs, outputs),
            passed=judgement.passed,
        )
        checks.append(check)
        if not check.passed:
            reasons.append(f"  {_shown(shape)}: {judgement.reason}")
    return Judged(checks=tuple(checks), reasons=tuple(reasons))


def goldens(expected: Sequence[Expected]) -> list[Golden]:
    """The cases to be recorded with the model."""
    return [
        Golden(name=item.case.name, feeds=item.case.feeds, outputs=item.outputs, rows=item.case.rows)
        for item in expected
        if item.case.golden
    ]


def same_decisions(answers: str, feeds: Outputs, expected: Outputs, got: Outputs) -> float:
    """Share of the original's choices that are the same in `got`; 1.0 where only numbers count.

    0.0 where an output is missing or of another shape.
    """
    if is_generated(expected) and is_generated(got) and len(expected[TOKENS]) == len(got[TOKENS]):
        return _same_tokens(expected, got)
    if any(name not in got or got[name].shape != wanted.shape for name, wanted in expected.items()):
        return 0.0
    kind = KINDS[answers]
    same = [
        (left.scores.argmax(axis=-1) == right.scores.argmax(axis=-1))[left.counts]
        for left, right in zip(kind.decisions(expected, feeds), kind.decisions(got, feeds), strict=True)
        if left.scores.size
    ]
    chosen = np.concatenate([each.ravel() for each in same]) if same else np.ones(1)
    return float(np.mean(chosen)) if chosen.size else 1.0


def _same_tokens(expected: Outputs, got: Outputs) -> float:
    """Share of tokens that are the same, up to and with the first of a row that is not."""
    wanted, found = up_to_difference(expected, got)
    chosen = (wanted[TOKENS] != NO_TOKEN) | (found[TOKENS] != NO_TOKEN)
    same = (wanted[TOKENS] == found[TOKENS])[chosen]
    return float(np.mean(same)) if same.size else 1.0


def _with_rounding(item: Expected, tolerance: Tolerance) -> Tolerance:
    """The tolerance, or what rounding alone does to these values, where that is more.

    A trained Whisper's keys of 30 s of noise differ by 7e-4 between two attentions of torch; the graph's are
    nearer to those in double precision than either.
    """
    if item.again is None:
        return tolerance
    one, other = _scaled(item.case.feeds, item.outputs, item.again)
    gap = max(float(np.abs(one[name] - other[name]).max(initial=0.0)) for name in one)
    return Tolerance(atol=max(tolerance.atol, 2.0 * gap), rtol=tolerance.rtol)


def _scaled(feeds: Outputs, expected: Outputs, got: Outputs) -> tuple[Outputs, Outputs]:
    """Inner values of both as shares of the size that the original's have, where it is more than 1.

    Sums of large numbers are rounded as large ones, also where they come out near zero.
    """
    wanted, found = _blanked(feeds, expected), _blanked(feeds, got)
    sizes = {name: max(1.0, float(np.sqrt(np.mean(np.square(array))))) for name, array in wanted.items()}
    return (
        {name: array / np.float32(sizes.get(name, 1.0)) for name, array in wanted.items()},
        {name: array / np.float32(sizes.get(name, 1.0)) for name, array in found.items()},
    )


def _blanked(feeds: Outputs, outputs: Outputs) -> dict[str, Array]:
    """The outputs with zeros at padding, in those that are read where the encoder's mask says so.

    What stands there no decoder reads, and rounding differs there a hundred times more than at tokens.
    """
    mask = feeds.get(MASK)
    blanked = dict(outputs)
    for name, array in outputs.items():
        if mask is None or not name.startswith("cross.") or array.shape[2:3] != mask.shape[1:2]:
            continue
        blanked[name] = np.where(mask[:, None, :, None] == 0, np.float32(0), array)
    return blanked


def _again(subject: Subject, case: Case, names: Sequence[str]) -> Outputs | None:
    """The outputs once more, of inner values alone: as the graph was traced."""
    if not subject.facts.inner:
        return None
    with subject.tracing():
        return dict(zip(names, _run(subject, case), strict=True))


def _run(subject: Subject, case: Case) -> list[Array]:
    import torch

    feeds = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in case.feeds.items()}
    try:
        return [value.detach().numpy().copy() for value in subject.call(feeds).values()]
    except (RuntimeError, ValueError, IndexError) as problem:
        shape = _shown(shape_of(case.feeds, subject.facts.axes))
        raise SourceError(
            f"the original itself does not run at {shape}: {problem}",
            hint="say how far its axes go: axis_ranges={NAME: (lowest, highest)}, or --max-length for texts",
        ) from problem


def _refuse_randomness(subject: Subject, first: Expected) -> None:
    """A model that draws random numbers cannot be compared, and no file would repeat it."""
    again = _run(subject, first.case)
    if not all(np.allclose(a, b) for a, b in zip(first.outputs.values(), again, strict=True)):
        raise SourceError(
            "the original gives another answer to the same inputs each time",
            hint="take dropout and random numbers out of its forward, or make them inputs",
        )


def _refuse_bad_numbers(case: Case, outputs: Outputs) -> None:
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ExportFailed(
                f"the original model itself gives NaN or infinity: output {name!r}, case {case.name!r}",
                hint="nothing can be proven about such a model; look at its weights and inputs",
            )


def _message(reasons: Sequence[str], total: int, part: str) -> str:
    shown = "\n".join(reasons[:8])
    more = f"\n  and {len(reasons) - 8} more" if len(reasons) > 8 else ""
    what = f"the exported graph of the {part}" if part else "the exported graph"
    return f"{what} is not the same model: {len(reasons)} of {total} checks differ\n{shown}{more}"


def _hint(checks: Sequence[ExportCheck], tolerance: Tolerance) -> str:
    """Only where every answer is the same and all is near rounding is the tolerance worth a word."""
    failed = [check for check in checks if not check.passed]
    worst = max(check.max_abs_error for check in failed)
    if all(check.agreement == 1.0 for check in failed) and worst <= 50 * max(tolerance.atol, 1e-6):
        return (
            f"every answer is the same; if the model's numbers are large, allow --tolerance {worst * 2:.0e}"
        )
    return "this is a fault of the exporter; no model was written. Please report it with the evidence"


def _shown(shape: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in shape.items()) or "fixed shape"
