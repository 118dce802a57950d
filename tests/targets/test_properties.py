"""Whatever a file holds, the answer is a Target or a TargetFileError; merging is associative."""

from __future__ import annotations

import contextlib
import datetime
import math
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import TargetFileError, UsageError
from edgekit.targets import budget_items, load_target
from edgekit.targets.loading import merge, target_from_table
from edgekit.values import Target
from edgekit_runtime.values import PRECISIONS

TABLES = {
    "match": ["arch", "system", "cpu", "device_tree", "gpu", "isa", "emulated"],
    "hardware": [
        "cpu",
        "cores",
        "memory_mib",
        "isa",
        "gpu",
        "gpu_arch",
        "gpu_memory_mib",
        "power_modes",
        "sources",
    ],
    "run": ["threads", "device", "options"],
    "compile": ["builds_on", "options"],
    "workload": ["batch", "sequence", "samples", "axes"],
    "budget": ["latency_p90_ms", "max_fallback", "accuracy_drop", "throughput_min"],
    "device": ["uri"],
}
scalars = (
    st.none().map(lambda _: "fp32")
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.times()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
#: Tables near enough to a target file that many get past the first check.
near_tables = st.fixed_dictionaries(
    {"name": st.just("x") | values},
    optional={
        "schema": st.just(1) | values,
        "summary": st.text(max_size=8) | values,
        "backend": st.just("one") | values,
        "precision": st.sampled_from(PRECISIONS) | values,
        "extends": st.just("") | values,
        **{
            table: st.dictionaries(st.sampled_from(keys), values, max_size=3) | values
            for table, keys in TABLES.items()
        },
    },
)


def sound(target: Target) -> bool:
    """What every later stage relies on."""
    limits = dict(budget_items(target.budget))
    sizes = [target.workload.batch, target.workload.sequence, *target.workload.axes.values()]
    return (
        target.precision in PRECISIONS
        and target.run.threads >= 1
        and all(math.isfinite(limit) and limit >= 0 for limit in limits.values())
        and all(size >= 1 for size in sizes)
        and limits.get("max_fallback", 0) <= 1
    )


@settings(max_examples=300)
@given(near_tables)
def test_any_table_is_a_sound_target_or_a_target_file_error(table: dict[str, object]) -> None:
    try:
        target = target_from_table(table, "x.toml")
    except TargetFileError as problem:
        assert "x.toml" in problem.message
    else:
        assert sound(target)


@settings(max_examples=200)
@given(st.dictionaries(st.text(max_size=8), values, max_size=4))
def test_any_foreign_table_is_refused_or_sound(table: dict[str, object]) -> None:
    with contextlib.suppress(TargetFileError):
        assert sound(target_from_table({"name": "x", **table}, "x.toml"))


@settings(max_examples=200)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_sound_target_or_a_target_file_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.toml"
        path.write_bytes(b'name = "x"\n' + data)
        try:
            assert sound(load_target(path))
        except TargetFileError as problem:
            assert str(path) in problem.message


@settings(max_examples=200)
@given(st.text(max_size=30))
def test_any_word_for_a_target_is_answered_or_a_usage_error(word: str) -> None:
    try:
        load_target(word)
    except UsageError as problem:
        assert problem.hint


#: Tables of one shape, as files that were each checked on their own have.
layers = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(max_size=3),
        "summary": st.text(max_size=3),
        "backend": st.text(max_size=3),
        "match": st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 3), max_size=2)),
        "budget": st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)),
        "run": st.fixed_dictionaries(
            {}, optional={"options": st.dictionaries(st.sampled_from("abc"), st.integers(0, 3))}
        ),
    },
)


@given(layers, layers, layers)
def test_merging_is_associative(
    first: dict[str, object], second: dict[str, object], third: dict[str, object]
) -> None:
    assert merge(merge(first, second), third) == merge(first, merge(second, third))


@given(layers)
def test_merging_over_nothing_changes_nothing_and_over_itself_neither(layer: dict[str, object]) -> None:
    assert merge({}, layer) == layer
    assert merge(layer, layer) == layer
