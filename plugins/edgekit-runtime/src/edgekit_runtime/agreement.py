"""Whether a session's outputs are those of the original model: the judge of every golden.

fp32 must be the same numbers, within the export's tolerance, and the same answer. A lower precision
must give the same answer wherever the original was sure of it, and point the same way (cosine).
Values that are not finite never agree, not even with themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit_runtime.goldens import Golden
from edgekit_runtime.processors.classification import logits_name, softmax
from edgekit_runtime.session import Array
from edgekit_runtime.values import Tolerance

#: What goldens are judged by: "classification" has labels to get right, "tensor" only numbers.
KINDS = ("classification", "tensor")

#: Least cosine between a lower precision's outputs and the original's. For int8, between an honest
#: calibrated classifier on texts it is unsure of (0.957 measured) and weights that saturate on a CPU
#: without VNNI (0.859 measured): the accuracy on labelled rows is a limit of its own.
MIN_COSINE = {"fp16": 0.9995, "bf16": 0.995, "int8": 0.9}

#: Probability by which the original's first class must lead for a lower precision to be held to it.
SURE_MARGIN = 0.2

#: Stands for "no number can say it" where JSON has no infinity.
INCOMPARABLE = sys.float_info.max


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two arrays compared. `INCOMPARABLE` and -1 when shapes differ or a value is not finite."""

    max_abs_error: float
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenJudgement:
    """Goldens judged. reason: why not passed, or what little a pass rests on; "" otherwise.

    min_cosine: the least over the outputs; of a classifier's output all cases are taken together,
    since the direction of a few logits near zero says nothing.
    """

    cases: int
    agreeing: int
    max_abs_error: float
    min_cosine: float
    passed: bool
    reason: str = ""


def compare(expected: Array, got: Array) -> Comparison:
    """Largest difference and cosine of two arrays. Symmetric."""
    a, b = np.asarray(expected), np.asarray(got)
    if not _comparable(a, b):
        return Comparison(max_abs_error=INCOMPARABLE, cosine=-1.0)
    return Comparison(max_abs_error=_max_abs_error(a, b), cosine=_cosine(a, b))


def judge_goldens(
    goldens: Sequence[Golden],
    outputs: Sequence[Mapping[str, Array]],
    *,
    kind: str,
    precision: str,
    tolerance: Tolerance,
) -> GoldenJudgement:
    """Judge `outputs`, one mapping per golden in the same order, at the precision that was built."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, not {kind!r}")
    if len(goldens) != len(outputs):
        raise ValueError(f"{len(goldens)} goldens, but {len(outputs)} outputs")
    if not goldens:
        return GoldenJudgement(
            cases=0,
            agreeing=0,
            max_abs_error=0.0,
            min_cosine=0.0,
            passed=False,
            reason="there are no goldens",
        )
    judge = _Judge(kind=kind, precision=precision, tolerance=tolerance)
    problems = [judge.case(golden, got) for golden, got in zip(goldens, outputs, strict=True)]
    comparisons = [
        item for golden, got in zip(goldens, outputs, strict=True) for item in _compared(golden, got)
    ]
    cosine = min(judge.cosines(goldens, outputs), default=1.0)
    failed = [problem for problem in problems if problem]
    wanted = judge.least_cosine
    if not failed and cosine < wanted:
        failed = [f"cosine {cosine:.6f} with the original is under {wanted} for {precision}"]
    sure = judge.sure_rows(goldens) if precision != "fp32" and kind == "classification" else 1
    doubt = "" if sure else f"the original leads by {SURE_MARGIN} on no row, so only the cosine was judged"
    return GoldenJudgement(
        cases=len(goldens),
        agreeing=problems.count(""),
        max_abs_error=max((item.max_abs_error for item in comparisons), default=0.0),
        min_cosine=cosine,
        passed=not failed,
        reason=failed[0] if failed else doubt,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    kind: str
    precision: str
    tolerance: Tolerance

    @property
    def least_cosine(self) -> float:
        # A precision without a line of its own is held to the strictest.
        return -1.0 if self.precision == "fp32" else MIN_COSINE.get(self.precision, max(MIN_COSINE.values()))

    def case(self, golden: Golden, got: Mapping[str, Array]) -> str:
        """Why this case disagrees, "" when it agrees."""
        for name, expected in golden.outputs.items():
            problem = self._output(expected, got.get(name))
            if problem:
                return f"golden {golden.name!r}, output {name!r}: {problem}"
        if self.kind == "classification":
            return self._answers(golden, got)
        return ""

    def cosines(self, goldens: Sequence[Golden], outputs: Sequence[Mapping[str, Array]]) -> Iterator[float]:
        """The cosines that must reach `least_cosine`."""
        if self.kind == "tensor":
            for golden, got in zip(goldens, outputs, strict=True):
                yield from (item.cosine for item in _compared(golden, got))
            return
        for name in sorted({name for golden in goldens for name in golden.outputs}):
            pairs = [
                (np.asarray(golden.outputs[name]), np.asarray(got.get(name, ())))
                for golden, got in zip(goldens, outputs, strict=True)
                if name in golden.outputs
            ]
            if not all(_comparable(a, b) for a, b in pairs):
                yield -1.0
            else:
                a, b = (np.concatenate([np.ravel(pair[side]) for pair in pairs]) for side in (0, 1))
                yield _cosine(a, b)

    def sure_rows(self, goldens: Sequence[Golden]) -> int:
        """Rows of the goldens on which the original's first class leads by `SURE_MARGIN`."""
        return sum(int(_sure(_logits(golden.outputs)).sum()) for golden in goldens)

    def _output(self, expected: Array, got: Array | None) -> str:
        if got is None:
            return "is missing"
        a, b = np.asarray(expected), np.asarray(got)
        if a.shape != b.shape:
            return f"has the shape {b.shape} instead of {a.shape}"
        if not _finite(a):
            return "the recorded values are not all finite numbers"
        if not _finite(b):
            return "holds values that are not finite numbers"
        if self.precision == "fp32":
            return self._numbers(a, b)
        if self.kind == "tensor" and _cosine(a, b) < self.least_cosine:
            return f"cosine {_cosine(a, b):.6f} is under {self.least_cosine} for {self.precision}"
        return ""

    def _numbers(self, expected: Array, got: Array) -> str:
        if expected.dtype.kind in "biu" and got.dtype.kind in "biu":
            close = expected == got
        else:
            a, b = expected.astype(np.float64), got.astype(np.float64)
            with np.errstate(over="ignore"):
                close = (np.abs(a - b) <= self.tolerance.atol + self.tolerance.rtol * np.abs(a)) | (a == b)
        if close.all():
            return ""
        error = _max_abs_error(expected, got)
        return (
            f"{int((~close).sum())} of {close.size} values differ by more than atol {self.tolerance.atol:g} "
            f"+ rtol {self.tolerance.rtol:g}; the largest error is {error:.3g}"
        )

    def _answers(self, golden: Golden, got: Mapping[str, Array]) -> str:
        reference = _logits(golden.outputs)
        answer = _logits({name: got[name] for name in golden.outputs})
        if not reference.size or reference.shape[-1] < 2:
            return ""
        chosen = np.take_along_axis(reference, answer.argmax(axis=-1)[..., None], axis=-1)[..., 0]
        wrong = chosen != reference.max(axis=-1)  # an exact tie of the original may be broken either way
        if self.precision != "fp32":
            wrong &= _sure(reference)
        if not wrong.any():
            return ""
        row = np.argwhere(wrong)[0].tolist()
        return f"golden {golden.name!r}: another class wins in {int(wrong.sum())} rows, first in row {row}"


def _logits(outputs: Mapping[str, Array]) -> Array:
    return np.atleast_2d(np.asarray(outputs[logits_name(outputs)]))


def _sure(logits: Array) -> Array:
    """For each row, whether its first class leads the second by `SURE_MARGIN` in probability."""
    if not logits.size or logits.shape[-1] < 2 or not _finite(logits):
        return np.zeros(logits.shape[:-1], dtype=np.bool_)
    top = np.sort(softmax(logits), axis=-1)[..., -2:]
    sure: Array = (top[..., 1] - top[..., 0]) > SURE_MARGIN
    return sure


def _compared(golden: Golden, got: Mapping[str, Array]) -> Iterator[Comparison]:
    for name, expected in golden.outputs.items():
        if name in got:
            yield compare(expected, got[name])
        else:
            yield Comparison(max_abs_error=INCOMPARABLE, cosine=-1.0)


def _comparable(a: Array, b: Array) -> bool:
    return a.shape == b.shape and _finite(a) and _finite(b)


def _finite(array: Array) -> bool:
    return array.dtype.kind in "fiub" and bool(np.isfinite(array).all())


def _max_abs_error(a: Array, b: Array) -> float:
    if not a.size:
        return 0.0
    with np.errstate(over="ignore"):
        error = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
    if error == 0.0 and not np.array_equal(a, b):
        return 1.0  # neighbouring integers beyond 2**53
    return min(error, INCOMPARABLE)


def _cosine(a: Array, b: Array) -> float:
    """Cosine in [-1, 1]; 1 when both are all zeros or empty, 0 when only one is."""
    if np.array_equal(a, b):
        return 1.0
    x, y = (_scaled(np.ravel(array).astype(np.float64)) for array in (a, b))
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    if lengths == 0.0:
        return 0.0
    return float(np.clip(np.dot(x, y) / lengths, -1.0, 1.0))


def _scaled(vector: Array) -> Array:
    """`vector` with its largest entry at 1, so that squares neither overflow nor vanish."""
    largest = np.abs(vector).max(initial=0.0)
    return vector / largest if largest > 0 else vector
