"""What every kind asks of a model's outputs before it reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from edgekit_runtime.answers.base import Entry
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.processors.base import Context, ImageContext, TextContext
from edgekit_runtime.session import Array

C = TypeVar("C", bound=Context)


def logits_name(outputs: Mapping[str, Array]) -> str:
    """The output that holds the logits: "logits", or the only output there is."""
    if "logits" in outputs:
        return "logits"
    if len(outputs) == 1:
        return next(iter(outputs))
    raise RunFailed(
        f"none of the outputs {', '.join(sorted(outputs)) or '(there are none)'} is called 'logits'",
        hint="a model of this kind has one output, or one that is called 'logits'",
    )


def output(outputs: Mapping[str, Array], name: str, axes: Sequence[str]) -> Array:
    """The output called `name`. axes: what each axis is. Raises `RunFailed` for another number of axes."""
    if name not in outputs:
        raise RunFailed(f"there is no output {name!r}, only {', '.join(sorted(outputs)) or 'none at all'}")
    array = np.asarray(outputs[name])
    if array.ndim != len(axes):
        raise RunFailed(f"output {name!r} has the shape {array.shape}, expected ({', '.join(axes)})")
    return array


def one_row(outputs: Mapping[str, Array], name: str, axes: Sequence[str]) -> Array:
    """The only row of an output, without its batch axis. axes: what the others are.

    Raises `RunFailed` unless it is one row of as many axes, not empty, of finite numbers.
    """
    array = output(outputs, name, ("1", *axes))
    if len(array) != 1 or not array.size:
        raise RunFailed(f"output {name!r} has the shape {array.shape}, expected (1, {', '.join(axes)})")
    check_finite(name, array)
    row: Array = array[0]
    return row


def check_finite(name: str, array: Array) -> None:
    """Raise `RunFailed` for an output that holds something else than finite numbers."""
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise RunFailed(f"output {name!r} holds values that are not finite numbers")


def class_words(labels: Sequence[str], classes: int, name: str) -> tuple[str, ...]:
    """The labels, or "0", "1", ... where there are none. Raises `RunFailed` when there are not as many."""
    words = tuple(labels) or tuple(str(index) for index in range(classes))
    if len(words) != classes:
        raise RunFailed(f"output {name!r} has {classes} classes, but there are {len(words)} labels")
    return words


def context_of(entry: Entry, kind: type[C]) -> C:
    """The entry's context. Raises `RunFailed` when the row was not prepared as this kind needs."""
    if not isinstance(entry.context, kind):
        found = type(entry.context).__name__
        raise RunFailed(f"such an answer is read with the row's {kind.__name__}, found its {found}")
    return entry.context


def own_tokens(values: Array, context: TextContext, name: str) -> Array:
    """The part of `values` ([tokens, ...]) that belongs to the row's tokens, padding left out."""
    stop = context.first + len(context.offsets)
    if not 0 <= context.first <= stop <= len(values):
        raise RunFailed(f"output {name!r} has {len(values)} tokens, the row needs {stop}")
    return values[context.first : stop]


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """`start` and `end` without the white space at either side of text[start:end].

    Some tokenizers count the space before a word as part of its token.
    """
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, start + len(part.strip())


def seen_part(context: ImageContext) -> tuple[float, float, float, float]:
    """`context.seen`: top, left, bottom, right. Raises `RunFailed` when there is nothing between them."""
    top, left, bottom, right = context.seen
    if not (bottom > top and right > left):
        raise RunFailed(f"the part of the image that the model sees is empty: {context.seen}")
    return top, left, bottom, right


def attended(feeds: Mapping[str, Array], shape: tuple[int, ...]) -> Array:
    """bool of `shape` ([rows, tokens]): which tokens are no padding; all, where no mask fits."""
    mask = feeds.get("attention_mask")
    if mask is None or np.shape(mask) != shape:
        return np.ones(shape, dtype=np.bool_)
    wanted: Array = np.asarray(mask) != 0
    return wanted


def softmax(logits: Array) -> Array:
    """Probabilities along the last axis, in double precision."""
    values = np.asarray(logits, dtype=np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: Array) -> Array:
    """Probabilities of each value alone, in double precision. By tanh, which does not overflow."""
    probabilities: Array = 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, dtype=np.float64)))
    return probabilities


def one_line(text: str) -> str:
    """`text` without line breaks and tabs, which would break a line of columns."""
    return " ".join(text.split())
