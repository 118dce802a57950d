"""Feeds against a signature: refused when they do not fit, and made up when an engine must be shown one run.

Every backend's `Session.run` begins with `check_feeds`, so a wrong input is told in the same words
whatever engine is behind.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

import numpy as np

from edgekit_runtime.errors import InputError
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.values import Signature, TensorSpec

#: Sizes for symbolic axes in `example_feeds`; an axis of another name gets _OTHER_AXIS.
_USUAL_AXES: Mapping[str, int] = {"batch": 1, "height": 224, "width": 224, "samples": 16000}
_OTHER_AXIS = 16


def check_feeds(signature: Signature, feeds: Feeds) -> None:
    """Raise `InputError` naming the input whose name, dtype, rank or size does not fit.

    An axis with a name has one size in all inputs.
    """
    known = {spec.name: spec for spec in signature.inputs}
    for name in feeds:
        if name not in known:
            raise InputError(f"the model has no input {name!r}", hint=_nearest(name, known))
    axes: dict[str, tuple[int, str]] = {}
    for name, spec in known.items():
        if name not in feeds:
            raise InputError(f"input {name!r} is missing", hint=f"the model takes {', '.join(known)}")
        _check_tensor(spec, feeds[name])
        _check_axes(spec, feeds[name], axes)


def fixed_sizes(signature: Signature) -> tuple[int, int | None]:
    """Batch and length (tokens, or samples of a waveform) of a model for one shape; 1, None when free."""
    batch, length = 1, None
    for spec in signature.inputs:
        if spec.shape and isinstance(spec.shape[0], int):
            batch = spec.shape[0]
        if len(spec.shape) == 2 and isinstance(spec.shape[1], int):
            length = spec.shape[1]
    return batch, length


def example_feeds(signature: Signature) -> Iterator[dict[str, Array]]:
    """Made-up feeds, likeliest first, for looking at how a graph is executed. They mean nothing.

    Whole numbers are ones, then zeros: both are valid ids and masks for nearly every model.
    """
    for whole in (1, 0):
        yield {spec.name: _example(spec, whole) for spec in signature.inputs}


def _check_tensor(spec: TensorSpec, value: Array) -> None:
    if not isinstance(value, np.ndarray):
        raise InputError(f"input {spec.name!r} is a {type(value).__name__}, not a numpy array")
    if value.dtype.name != spec.dtype:
        raise InputError(
            f"input {spec.name!r} has dtype {value.dtype.name}; the model takes {spec.dtype}",
            hint=f"feeds[{spec.name!r}].astype({spec.dtype!r})",
        )
    if value.ndim != len(spec.shape):
        raise _misshapen(spec, value)


def _check_axes(spec: TensorSpec, value: Array, axes: dict[str, tuple[int, str]]) -> None:
    for wanted, size in zip(spec.shape, value.shape, strict=True):
        if isinstance(wanted, int):
            if size != wanted:
                raise _misshapen(spec, value)
            continue
        earlier, where = axes.setdefault(wanted, (size, spec.name))
        if size != earlier:
            raise InputError(
                f"input {spec.name!r}: axis {wanted!r} is {size}, but it is {earlier} in input {where!r}",
                hint="an axis of one name has one size in all inputs",
            )


def _misshapen(spec: TensorSpec, value: Array) -> InputError:
    wanted = _shown(spec.shape)
    return InputError(f"input {spec.name!r} has shape {_shown(value.shape)}; the model takes {wanted}")


def _example(spec: TensorSpec, whole: int) -> Array:
    shape = [size if isinstance(size, int) else _USUAL_AXES.get(size, _OTHER_AXIS) for size in spec.shape]
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return np.random.default_rng(0).standard_normal(shape).astype(dtype)
    return np.full(shape, whole, dtype=dtype)


def _shown(shape: tuple[int | str, ...]) -> str:
    return "[" + ", ".join(str(size) for size in shape) + "]"


def _nearest(name: str, known: Mapping[str, TensorSpec]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"the model takes {', '.join(known)}"
