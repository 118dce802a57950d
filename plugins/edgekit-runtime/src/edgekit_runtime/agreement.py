"""Whether a session's outputs are those of the original model: the judge of every golden.

fp32 must be the same numbers, within the export's tolerance, and make the same choices. A lower precision
must make the same choices wherever the original was sure of them, and point the same way (cosine).
What the choices are, each kind of answers says: `AnswerKind.decisions`. What is generated token by token
is judged up to the first token that differs, see `token_agreement`.
Values that are not finite never agree, not even with themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgekit_runtime.answers import KINDS, Decision
from edgekit_runtime.answers.outputs import softmax
from edgekit_runtime.generation import SCORES, TOKENS, is_generated
from edgekit_runtime.goldens import Golden
from edgekit_runtime.session import Array
from edgekit_runtime.token_agreement import NO_TOKEN, up_to_difference
from edgekit_runtime.values import Tolerance

#: Least cosine between a lower precision's outputs and the original's. For int8, between an honest
#: calibrated classifier on texts it is unsure of (0.957 measured) and weights that saturate on a CPU
#: without VNNI (0.859 measured): the accuracy on labelled rows is a limit of its own. fp8 is given the same.
MIN_COSINE = {
    "fp16": 0.9995, "bf16": 0.995, "fp8": 0.9, "int8": 0.9, "int8-weights": 0.99, "int4-weights": 0.9,
}  # fmt: skip

#: Probability by which the original's first class must lead for a lower precision to be held to it.
SURE_MARGIN = 0.2

#: Share of the sure choices of all goldens that a lower precision may make otherwise, where an answer is made
#: of many small ones (pixels, frames, tokens): at the edge between two objects a pixel may fall to either.
#: Fewer than 50 sure choices allow none.
MAX_OTHERWISE = 0.02

#: Kinds whose outputs have a direction that says something by itself, golden by golden.
DIRECTED = ("vector", "tensor")

#: Kinds whose outputs have an entry for each token, and the output that has it whatever the kind.
TOKENWISE, HIDDEN_STATES = ("tags", "span", "fill-mask"), "last_hidden_state"

#: Kinds whose answers may be generated: then their outputs are `TOKENS` and `SCORES`.
GENERATED = ("text", "transcript")

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

    min_cosine: the least over the outputs; except for `DIRECTED` kinds all cases of an output are taken
    together, since the direction of a few logits near zero says nothing.
    """

    cases: int
    agreeing: int
    max_abs_error: float
    min_cosine: float
    passed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One golden judged. problem: "" when it agrees; choices: of the original, sure: those that bind;
    otherwise: of these, such as the built model makes otherwise and perhaps may."""

    problem: str
    choices: int = 0
    sure: int = 0
    otherwise: int = 0


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
    """Judge `outputs`, one mapping per golden in the same order, at the precision that was built.

    kind: a word of `answers.KINDS`. Raises `RunFailed` for goldens that are not outputs of this kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
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
    pairs = [_judged_part(*pair, kind) for pair in zip(goldens, outputs, strict=True)]
    goldens, outputs = [golden for golden, _ in pairs], [got for _, got in pairs]
    judge = _Judge(kind=kind, precision=precision, tolerance=tolerance)
    cases = _excused([judge.case(golden, got) for golden, got in zip(goldens, outputs, strict=True)])
    goldens = [_without_tokens(golden, kind) for golden in goldens]
    comparisons = [
        item for golden, got in zip(goldens, outputs, strict=True) for item in _compared(golden, got)
    ]
    cosine = min(judge.cosines(goldens, outputs), default=1.0)
    failed = [case.problem for case in cases if case.problem]
    agreeing = len(cases) - len(failed)
    if not failed and cosine < judge.least_cosine:
        failed = [f"cosine {cosine:.6f} with the original is under {judge.least_cosine} for {precision}"]
    return GoldenJudgement(
        cases=len(goldens),
        agreeing=agreeing,
        max_abs_error=max((item.max_abs_error for item in comparisons), default=0.0),
        min_cosine=cosine,
        passed=not failed,
        reason=failed[0] if failed else judge.doubt(cases),
    )


def _excused(cases: Sequence[_Case]) -> list[_Case]:
    """The cases, without the problems of many small choices where few enough of all are made otherwise."""
    if sum(case.otherwise for case in cases) > MAX_OTHERWISE * sum(case.sure for case in cases):
        return list(cases)
    return [replace(case, problem="") if case.otherwise else case for case in cases]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    kind: str
    precision: str
    tolerance: Tolerance

    @property
    def least_cosine(self) -> float:
        # A precision without a line of its own is held to the strictest.
        return -1.0 if self.precision == "fp32" else MIN_COSINE.get(self.precision, max(MIN_COSINE.values()))

    def case(self, golden: Golden, got: Mapping[str, Array]) -> _Case:
        """One golden and the outputs that should be its own."""
        tokens = self._tokens(golden, got) if _both_generated(golden, got, self.kind) else None
        if tokens is not None and tokens.problem:
            return tokens
        for name, expected in golden.outputs.items():
            if tokens is not None and name == TOKENS:
                continue
            problem = self._output(expected, got.get(name))
            if problem:
                return _Case(problem=f"golden {golden.name!r}, output {name!r}: {problem}")
        return tokens if tokens is not None else self._choices(golden, got)

    def doubt(self, cases: Sequence[_Case]) -> str:
        """What little a pass rests on, "" when the original is sure enough."""
        if self.precision == "fp32" or not any(case.choices for case in cases):
            return ""
        if any(case.sure for case in cases):
            return ""
        return f"the original leads by {SURE_MARGIN} in none of its choices, so only the cosine was judged"

    def cosines(self, goldens: Sequence[Golden], outputs: Sequence[Mapping[str, Array]]) -> Iterator[float]:
        """The cosines that must reach `least_cosine`."""
        if self.kind in DIRECTED:
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
        if self.kind in DIRECTED and _cosine(a, b) < self.least_cosine:
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

    def _choices(self, golden: Golden, got: Mapping[str, Array]) -> _Case:
        """The choices of both, once shapes and values are known to be sound."""
        kind = KINDS[self.kind]
        original = kind.decisions(golden.outputs, golden.feeds)
        built = kind.decisions({name: got[name] for name in golden.outputs}, golden.feeds)
        choices = sure = otherwise = 0
        first = ""
        for wanted, found in zip(original, built, strict=True):
            if not wanted.scores.size or wanted.scores.shape[-1] < 2:
                continue
            bound, wrong = self._held(wanted, found)
            choices += int(wanted.counts.sum())
            sure += int(bound.sum())
            otherwise += int(wrong.sum())
            first = first or (str(np.argwhere(wrong)[0].tolist()) if wrong.any() else "")
        problem = ""
        if otherwise:
            problem = (
                f"golden {golden.name!r}: another class wins in {otherwise} of {sure} choices that the "
                f"original is sure of, first at {first}"
            )
        excusable = not kind.every and self.precision != "fp32"
        return _Case(problem=problem, choices=choices, sure=sure, otherwise=otherwise if excusable else 0)

    def _tokens(self, golden: Golden, got: Mapping[str, Array]) -> _Case:
        """The tokens of both, as `up_to_difference` left them."""
        wanted, found, scores = golden.outputs[TOKENS], got[TOKENS], golden.outputs[SCORES]
        if wanted.shape != found.shape:
            return _Case(problem=f"golden {golden.name!r}: {len(found)} rows instead of {len(wanted)}")
        best, second = (scores[..., side].astype(np.float64) for side in (0, 1))
        # One that ends where the other goes on did not choose its tokens by the same rules.
        ends = (wanted == NO_TOKEN) != (found == NO_TOKEN)
        chosen = (wanted != NO_TOKEN) | (found != NO_TOKEN)
        if self.precision == "fp32":
            bound = chosen & (
                best - second > 2.0 * (self.tolerance.atol + self.tolerance.rtol * np.abs(best))
            )
        else:
            bound = chosen & (np.exp(best) - np.exp(second) > SURE_MARGIN)
        wrong = (wanted != found) & (bound | ends)
        problem = ""
        if wrong.any():
            row, place = np.argwhere(wrong)[0]
            sure = ", which the original is sure of" if bound[row, place] else ""
            problem = (
                f"golden {golden.name!r}: token {place} of row {row} is {_token(found[row, place])} instead "
                f"of {_token(wanted[row, place])}{sure}"
            )
        return _Case(problem=problem, choices=int(chosen.sum()), sure=int(bound.sum()))

    def _held(self, wanted: Decision, found: Decision) -> tuple[Array, Array]:
        """Which choices the built model is held to, and which of these it makes otherwise.

        An exact tie of the original may be broken either way.
        """
        scores = np.asarray(wanted.scores, dtype=np.float64)
        best = scores.max(axis=-1)
        chosen = np.take_along_axis(scores, found.scores.argmax(axis=-1)[..., None], axis=-1)[..., 0]
        if self.precision == "fp32":
            # Two scores that are each off by the tolerance may change places.
            slack = 2.0 * (self.tolerance.atol + self.tolerance.rtol * np.abs(best))
            return wanted.counts, wanted.counts & (best - chosen > slack)
        bound = wanted.counts & _sure(scores)
        return bound, bound & (chosen != best)


def _sure(scores: Array) -> Array:
    """For each choice, whether the first class leads the second by `SURE_MARGIN` in probability."""
    top = np.partition(softmax(scores), -2, axis=-1)[..., -2:]
    sure: Array = (top[..., 1] - top[..., 0]) > SURE_MARGIN
    return sure


def _both_generated(golden: Golden, got: Mapping[str, Array], kind: str) -> bool:
    return kind in GENERATED and is_generated(golden.outputs) and is_generated(got)


def _token(token: int) -> str:
    return "none" if token == NO_TOKEN else str(token)


def _judged_part(golden: Golden, got: Mapping[str, Array], kind: str) -> tuple[Golden, Mapping[str, Array]]:
    """Both without what cannot be held against the model that was built."""
    if not _both_generated(golden, got, kind):
        return _without_padding(golden, got, kind)
    if len(golden.outputs[TOKENS]) != len(got[TOKENS]):
        return golden, got
    wanted, found = up_to_difference(golden.outputs, got)
    return replace(golden, outputs={**golden.outputs, **wanted}), {**got, **found}


def _without_tokens(golden: Golden, kind: str) -> Golden:
    """Without ids, which are names: neither their distance nor their direction says anything."""
    if kind not in GENERATED:
        return golden
    numbers = {name: array for name, array in golden.outputs.items() if name != TOKENS}
    return replace(golden, outputs=numbers)


def _without_padding(
    golden: Golden, got: Mapping[str, Array], kind: str
) -> tuple[Golden, Mapping[str, Array]]:
    """Both with zeros at padding, in outputs that have an entry for each token.

    No answer reads what stands there, and rounding differs there a hundred times more than at tokens
    (1.2e-4 against 4e-6 measured on hidden states of a 6-layer encoder). NaN and infinity stay.
    """
    mask = golden.feeds.get("attention_mask")
    wanted, found = dict(golden.outputs), dict(got)
    for name, expected in golden.outputs.items():
        tokenwise = kind in TOKENWISE or name == HIDDEN_STATES
        if mask is None or not tokenwise or name not in found or np.ndim(expected) < 2:
            continue
        if np.shape(expected)[:2] == np.shape(mask) and np.shape(found[name]) == np.shape(expected):
            wanted[name], found[name] = _blanked(expected, mask), _blanked(found[name], mask)
    return replace(golden, outputs=wanted), found


def _blanked(array: Array, mask: Array) -> Array:
    """A copy with zeros where the mask ([rows, tokens]) is 0 and the value is finite."""
    values = np.array(array)
    padding = (np.asarray(mask) == 0).reshape(*np.shape(mask), *(1,) * (values.ndim - 2))
    values[np.broadcast_to(padding, values.shape) & np.isfinite(values)] = 0
    return values


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
