"""Feeds for launches: the workload's shapes in turn, fresh values, and the sizes of real rows."""

from __future__ import annotations

import numpy as np

from edgekit.measuring.inputs import feeds_count, lengths_note, median_sizes, mixed_feeds, sizes_of
from edgekit_runtime.values import Signature, TensorSpec

IDS = TensorSpec(name="ids", dtype="int64", shape=("batch", "sequence"))
PIXELS = TensorSpec(name="pixels", dtype="float32", shape=("batch", 3, 8))
SIGNATURE = Signature(inputs=(IDS, PIXELS), outputs=())
SHAPES = ({"batch": 1, "sequence": 4}, {"batch": 2, "sequence": 9}, {"batch": 1, "sequence": 1})


def test_the_shapes_of_a_mix_come_in_turn_and_no_feeds_are_alike() -> None:
    feeds = mixed_feeds(SIGNATURE, SHAPES, [{"ids": np.arange(50)}], count=6, seed=3)
    assert [one["ids"].shape for one in feeds] == [(1, 4), (2, 9), (1, 1)] * 2
    assert [one["pixels"].shape for one in feeds] == [(1, 3, 8), (2, 3, 8), (1, 3, 8)] * 2
    assert not np.array_equal(feeds[1]["ids"], feeds[4]["ids"])
    again = mixed_feeds(SIGNATURE, SHAPES, [{"ids": np.arange(50)}], count=6, seed=3)
    assert all(np.array_equal(one["ids"], other["ids"]) for one, other in zip(feeds, again, strict=True))


def test_a_launch_gets_whole_rounds_and_fewer_where_they_are_large() -> None:
    assert feeds_count(SIGNATURE, SHAPES[:1], most=16, limit=10**9) == 16
    assert feeds_count(SIGNATURE, SHAPES, most=16, limit=10**9) == 15
    assert feeds_count(SIGNATURE, SHAPES, most=16, limit=10) == 6
    one = 4 * 8 + 24 * 4
    assert feeds_count(SIGNATURE, SHAPES[:1], most=16, limit=5 * one) == 5


def test_sizes_are_those_of_the_symbolic_axes() -> None:
    feeds = {"ids": np.zeros((2, 7), np.int64), "pixels": np.zeros((2, 3, 8), np.float32)}
    assert sizes_of(SIGNATURE, feeds) == {"batch": 2, "sequence": 7}


def test_lengths_are_told_by_their_range_and_median() -> None:
    rows = [{"batch": 1, "sequence": size} for size in (71, 6, 22, 30)]
    assert median_sizes(rows) == {"batch": 1, "sequence": 22}
    assert lengths_note(rows) == "lengths as in data: batch 1; sequence 6 to 71, median 22"
