"""Values cross the pipe unchanged, and what does not fit is refused with the key's name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_runtime.codec import (
    Table,
    from_json,
    machine_from_json,
    placement_from_json,
    profile_from_json,
    signature_from_json,
    to_json,
)
from edgekit_runtime.errors import ProtocolError
from edgekit_runtime.machine import read_machine
from edgekit_runtime.values import OpenRequest, OperatorTime, Placement, PlacementRow, Signature, TensorSpec


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, kw_only=True)
class Inner:
    share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    colour: Colour = Colour.RED
    path: Path = Path("a")
    pair: tuple[int, str] = (1, "x")
    inner: tuple[Inner, ...] = ()
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    maybe: Inner | None = None


SPEC = st.builds(
    TensorSpec,
    name=st.text(),
    dtype=st.sampled_from(["float32", "int64"]),
    shape=st.lists(st.integers(0, 9) | st.text(), max_size=4).map(tuple),
)


def crossed(value: object) -> object:
    return json.loads(json.dumps(to_json(value)))


@given(st.builds(Signature, inputs=st.tuples(SPEC), outputs=st.lists(SPEC, max_size=3).map(tuple)))
def test_a_signature_crosses_unchanged(signature: Signature) -> None:
    assert signature_from_json(crossed(signature)) == signature  # type: ignore[arg-type]


def test_every_kind_of_field_crosses_unchanged() -> None:
    value = Outer(
        name="n",
        path=Path("/a/b"),
        pair=(3, "z"),
        inner=(Inner(share=0.5), Inner()),
        options={"a": 1, "b": True, "c": 1.5, "d": "x", "e": 0},
        maybe=Inner(share=1),
    )
    back = from_json(Outer, crossed(value))  # type: ignore[arg-type]
    assert back == value
    assert [type(item) for item in back.options.values()] == [int, bool, float, str, int]
    assert back.colour is Colour.RED


def test_the_values_of_this_house_cross_unchanged() -> None:
    placement = Placement(
        rows=(PlacementRow(precision="int8", device="cpu", nodes=3, time_share=0.5),), source="s"
    )
    assert placement_from_json(crossed(placement)) == placement  # type: ignore[arg-type]
    assert machine_from_json(crossed(read_machine())) == read_machine()  # type: ignore[arg-type]
    profile = (OperatorTime(name="a", op_type="MatMul", precision="fp32", device="cpu", share=1.0),)
    assert profile_from_json(crossed(profile)) == profile  # type: ignore[arg-type]
    request = OpenRequest(directory=Path("/x"), precision="fp32", options={"a": False})
    assert from_json(OpenRequest, crossed(request)) == request  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"name": "n", "nmae": 1, "x": 2}, "Outer has unknown keys: nmae, x"),
        ({}, "Outer lacks name"),
        ({"name": 3}, "Outer.name must be a str, not 3"),
        ({"name": "n", "colour": "blue"}, "Outer.colour must be a Colour, not 'blue'"),
        ({"name": "n", "pair": [1]}, "Outer.pair must be a list of 2"),
        ({"name": "n", "pair": [True, "x"]}, r"Outer.pair\[0\] must be a int, not True"),
        ({"name": "n", "inner": [{}, {"share": "x"}]}, r"Outer.inner\[1\].share must be"),
        ({"name": "n", "inner": "text"}, "Outer.inner must be a list"),
        ({"name": "n", "options": {"a": None}}, "Outer.options.a must be"),
        ({"name": "n", "options": [1]}, "Outer.options must be a table"),
        ([1], "Outer must be a Outer"),
        (None, "Outer must be a Outer, not None"),
    ],
)
def test_what_does_not_fit_is_named(data: object, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        from_json(Outer, data)  # type: ignore[arg-type]


def test_arrays_and_bytes_are_no_json() -> None:
    for value in (b"x", object(), {1}):
        with pytest.raises(ProtocolError, match="cannot be written as JSON"):
            to_json(value)


def test_a_tables_readers_say_what_is_missing_or_wrong() -> None:
    table = Table({"text": "a", "count": 3, "ratio": 0.5, "on": True, "inner": {"x": 1}}, where="params")
    assert (table.text("text"), table.integer("count"), table.number("count")) == ("a", 3, 3.0)
    assert table.flag("on") and table.table("inner").integer("x") == 1
    assert table.text("none", "d") == "d" and len(table.table("none")) == 0
    for reader, key in (
        (table.text, "count"),
        (table.integer, "ratio"),
        (table.integer, "on"),
        (table.flag, "count"),
    ):
        with pytest.raises(ProtocolError, match=f"params.{key} must be"):
            reader(key)
    with pytest.raises(ProtocolError, match=r"params\.inner\.y must be a whole number, not None"):
        table.table("inner").integer("y")
