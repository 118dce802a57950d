"""Fresh feeds at the workload's shape.

Values are drawn from those that real examples (the goldens) hold, so that token ids stay in the
vocabulary and pixels in their range; nothing is padded, since the promise is about the full shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.values import Signature, TensorSpec

_MOST_EXAMPLE_VALUES = 100_000


def fresh_feeds(
    signature: Signature, shape: Mapping[str, int], examples: Sequence[Feeds], *, count: int, seed: int
) -> list[dict[str, Array]]:
    """`count` different rows of feeds. shape: a size for every symbolic axis; examples: real feeds."""
    generator = np.random.default_rng(seed)
    pools = {spec.name: _pool(spec.name, examples) for spec in signature.inputs}
    return [
        {spec.name: _tensor(spec, shape, pools[spec.name], generator) for spec in signature.inputs}
        for _ in range(count)
    ]


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
