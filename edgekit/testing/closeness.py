"""How near to the reference is near enough, for each precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgekit_runtime.session import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Closeness:
    """Largest allowed error, as a share of the output's largest value, and lowest allowed cosine.

    The first catches a wrong scale or one wrong element, the second a wrong direction.
    """

    relative: float
    cosine: float


#: Honest engines stay under half of each on the kit's models, whose inputs keep to fixed bounds.
CLOSENESS: Mapping[str, Closeness] = {
    "fp32": Closeness(relative=1e-4, cosine=0.999999),
    "fp16": Closeness(relative=5e-3, cosine=0.9999),
    "bf16": Closeness(relative=3e-2, cosine=0.999),
    "fp8": Closeness(relative=0.4, cosine=0.985),
    "int8": Closeness(relative=0.2, cosine=0.99),
    "int8-weights": Closeness(relative=0.05, cosine=0.999),
    "int4-weights": Closeness(relative=0.5, cosine=0.95),
}

#: What capability `reference` means: no fast-math, no lower precision inside.
REFERENCE = Closeness(relative=1e-5, cosine=0.9999999)


def difference(expected: Mapping[str, Array], got: Mapping[str, Array], allowed: Closeness) -> str:
    """Why `got` is not near enough to `expected`, in words; "" when it is."""
    if set(expected) != set(got):
        return f"outputs are {sorted(got)}, not {sorted(expected)}"
    for name, wanted in expected.items():
        problem = _difference(wanted, got[name], allowed)
        if problem:
            return f"output {name!r}: {problem}"
    return ""


def relative_error(expected: Mapping[str, Array], got: Mapping[str, Array]) -> float:
    """Largest error over all floating outputs, as a share of each output's largest value."""
    errors = [
        _relative(wanted, got[name])
        for name, wanted in expected.items()
        if np.issubdtype(wanted.dtype, np.floating)
    ]
    return max(errors, default=0.0)


def _difference(wanted: Array, got: Array, allowed: Closeness) -> str:
    if wanted.dtype != got.dtype:
        return f"dtype is {got.dtype}, not {wanted.dtype}"
    if wanted.shape != got.shape:
        return f"shape is {list(got.shape)}, not {list(wanted.shape)}"
    if not np.issubdtype(wanted.dtype, np.floating):
        return _whole_number_difference(wanted, got, allowed)
    if not np.isfinite(got).all():
        return "holds NaN or infinity"
    error = _relative(wanted, got)
    if error > allowed.relative:
        return f"largest error is {error:.2g} of the largest value; allowed is {allowed.relative:g}"
    cosine = _cosine(wanted, got)
    if cosine < allowed.cosine:
        return f"cosine with the right answer is {cosine:.6f}; allowed is {allowed.cosine:g}"
    return ""


def _whole_number_difference(wanted: Array, got: Array, allowed: Closeness) -> str:
    """Ids and flags are exact at fp32; below it a near tie may honestly fall the other way."""
    wrong = int(np.count_nonzero(wanted != got))
    if wrong and allowed.relative <= CLOSENESS["fp32"].relative:
        return f"{wrong} of {wanted.size} whole numbers are wrong"
    return ""


def _relative(wanted: Array, got: Array) -> float:
    if wanted.size == 0:
        return 0.0
    scale = float(np.abs(wanted.astype(np.float64)).max())
    error = float(np.abs(wanted.astype(np.float64) - got.astype(np.float64)).max())
    return error / scale if scale > 0 else error


def _cosine(wanted: Array, got: Array) -> float:
    first = wanted.astype(np.float64).ravel()
    second = got.astype(np.float64).ravel()
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms > 0 else 1.0
