"""Fresh feeds at the workload's shapes.

Values are drawn from those that real examples (the goldens) hold, so that token ids stay in the
vocabulary and pixels in their range; nothing is padded, since the promise is about the full shape.
Where the workload is "as in data", the feeds are real rows and `sizes_of` tells their shapes.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.values import Signature, TensorSpec

_MOST_EXAMPLE_VALUES = 100_000


def mixed_feeds(
    signature: Signature,
    shapes: Sequence[Mapping[str, int]],
    examples: Sequence[Feeds],
    *,
    count: int,
    seed: int,
) -> list[dict[str, Array]]:
    """`count` different feeds; entry k has `shapes[k % len(shapes)]`.

    shapes: each a size for every symbolic axis; examples: real feeds.
    """
    generator = np.random.default_rng(seed)
    pools = {spec.name: _pool(spec.name, examples) for spec in signature.inputs}
    return [
        {
            spec.name: _tensor(spec, shapes[turn % len(shapes)], pools[spec.name], generator)
            for spec in signature.inputs
        }
        for turn in range(count)
    ]


def feeds_count(signature: Signature, shapes: Sequence[Mapping[str, int]], *, most: int, limit: int) -> int:
    """How many feeds a launch gets: whole rounds of the mix, `most` in all where `limit` bytes allow.

    Two rounds at least, so that successive runs never see the same feeds.
    """
    round_bytes = sum(_bytes(signature, shape) for shape in shapes)
    rounds = min(most // len(shapes), limit // max(1, round_bytes))
    return len(shapes) * max(2, rounds)


def sizes_of(signature: Signature, feeds: Feeds) -> dict[str, int]:
    """The size that each symbolic axis has in `feeds`."""
    sizes: dict[str, int] = {}
    for spec in signature.inputs:
        found = feeds[spec.name].shape if spec.name in feeds else ()
        for axis, size in zip(spec.shape, found, strict=False):
            if isinstance(axis, str):
                sizes.setdefault(axis, size)
    return sizes


def median_sizes(rows: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Per axis, the size that half the rows do not exceed."""
    return {axis: statistics.median_low([row[axis] for row in rows]) for axis in rows[0]}


def lengths_note(rows: Sequence[Mapping[str, int]]) -> str:
    """How long the rows are, as a note: "lengths as in data: sequence 6 to 71, median 22"."""
    return f"lengths as in data: {lengths_text(rows)}"


def lengths_text(rows: Sequence[Mapping[str, int]]) -> str:
    """How long the rows are, in words: "sequence 6 to 71, median 22"; "" where no axis varies."""
    medians = median_sizes(rows)
    parts = []
    for axis, median in medians.items():
        sizes = [row[axis] for row in rows]
        if min(sizes) == max(sizes):
            parts.append(f"{axis} {median}")
        else:
            parts.append(f"{axis} {min(sizes)} to {max(sizes)}, median {median}")
    return "; ".join(parts)


def _bytes(signature: Signature, shape: Mapping[str, int]) -> int:
    total = 0
    for spec in signature.inputs:
        sizes = [shape[axis] if isinstance(axis, str) else axis for axis in spec.shape]
        total += int(np.prod(sizes, dtype=np.int64)) * np.dtype(spec.dtype).itemsize
    return total


def _pool(name: str, examples: Sequence[Feeds]) -> Array:
    found = [np.asarray(feeds[name]).ravel() for feeds in examples if name in feeds]
    pool = np.concatenate(found) if found else np.zeros(0)
    return pool[:_MOST_EXAMPLE_VALUES]


def _tensor(spec: TensorSpec, shape: Mapping[str, int], pool: Array, generator: np.random.Generator) -> Array:
    sizes = tuple(shape[axis] if isinstance(axis, str) else axis for axis in spec.shape)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        mean, spread = (float(pool.mean()), float(pool.std())) if pool.size else (0.0, 1.0)
        return np.asarray(generator.normal(mean, spread or 1.0, sizes), dtype=dtype)
    if "mask" in spec.name.casefold() and (not pool.size or pool.max() <= 1):
        return np.ones(sizes, dtype=dtype)
    values = np.unique(pool) if pool.size else np.arange(2)
    return np.asarray(generator.choice(values, sizes), dtype=dtype)
