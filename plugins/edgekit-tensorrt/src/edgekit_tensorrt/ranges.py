"""Feeds against the optimisation profiles of an engine: which profile takes them, or how they leave all."""

from __future__ import annotations

import numpy as np

from edgekit_runtime.errors import InputError
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.values import TensorSpec
from edgekit_tensorrt.description import EngineDescription, InputRange, Profile


def profile_for(description: EngineDescription, feeds: Feeds) -> int:
    """The place of the first profile that takes the feeds, 0 for an engine without profiles.

    The feeds fit the signature already. Raises `InputError` naming the input, its shape and what the
    engine takes.
    """
    if not description.profiles:
        return 0
    for place, profile in enumerate(description.profiles):
        if not _leaving(profile, feeds):
            return place
    name = _leaving(description.profiles[0], feeds)
    taken = [_shown(item) for profile in description.profiles for item in profile.ranges if item.name == name]
    together = ", each with its own range of the other inputs" if len(taken) > 1 else ""
    raise InputError(
        f"input {name!r} has shape {list(feeds[name].shape)}; "
        f"the engine takes {' or '.join(taken)}{together}",
        hint="an engine runs shapes of its optimisation profiles only: compile the model again for these",
    )


def is_fixed(description: EngineDescription, place: int) -> bool:
    """Whether the profile at `place` takes one shape only, so that each of its runs is the same work."""
    if not description.profiles:
        return True
    return all(item.smallest == item.largest for item in description.profiles[place].ranges)


def usual_feeds(description: EngineDescription, whole: int) -> dict[str, Array]:
    """Made-up feeds of the shapes that the engine was optimised for. They mean nothing.

    Whole numbers are `whole`: 1 and 0 are valid ids and masks for nearly every model.
    """
    first = description.profiles[0].ranges if description.profiles else ()
    usual = {item.name: item.usual for item in first}
    return {spec.name: _example(spec, usual, whole) for spec in description.signature.inputs}


def _example(spec: TensorSpec, usual: dict[str, tuple[int, ...]], whole: int) -> Array:
    sizes = usual.get(spec.name) or tuple(size if isinstance(size, int) else 1 for size in spec.shape)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return np.random.default_rng(0).standard_normal(sizes).astype(dtype)
    return np.full(sizes, whole, dtype=dtype)


def _leaving(profile: Profile, feeds: Feeds) -> str:
    """The first input whose shape leaves its range; "" when the profile takes all."""
    for item in profile.ranges:
        sizes = zip(item.smallest, feeds[item.name].shape, item.largest, strict=True)
        if any(not low <= size <= high for low, size, high in sizes):
            return item.name
    return ""


def _shown(item: InputRange) -> str:
    if item.smallest == item.largest:
        return str(list(item.smallest))
    return f"{list(item.smallest)} to {list(item.largest)}"
