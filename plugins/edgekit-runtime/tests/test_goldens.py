"""Goldens come back as they were recorded, and a damaged file never gives a traceback."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit_runtime.errors import EdgekitError, InputError, ManifestError
from edgekit_runtime.goldens import CASES_FILE, TENSORS_FILE, Golden, read_goldens, write_goldens
from edgekit_runtime.processors.base import Words
from edgekit_runtime.session import Array
from edgekit_runtime.values import DTYPES

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(np.dtype(dtype), SHAPES))
TENSORS = st.dictionaries(NAMES, ARRAYS, max_size=3)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=10)
ROWS = TEXTS | st.tuples(TEXTS, TEXTS) | st.lists(TEXTS, min_size=1, max_size=3).map(tuple).map(Words)
CASES = st.builds(
    Golden,
    name=TEXTS,
    feeds=TENSORS,
    outputs=TENSORS,
    rows=st.lists(ROWS, max_size=2).map(tuple),
)


def golden(**outputs: Array) -> Golden:
    return Golden(
        name="one", feeds={"x": np.arange(3, dtype=np.int64)}, outputs=outputs, rows=("a", ("b", "c"))
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(CASES, max_size=3))
def test_goldens_come_back_as_they_were(cases: list[Golden]) -> None:
    with tempfile.TemporaryDirectory() as home:
        assert write_goldens(Path(home), cases) == len(cases)
        found = read_goldens(Path(home))
    assert [(case.name, case.rows) for case in found] == [(case.name, case.rows) for case in cases]
    for was, now in zip(cases, found, strict=True):
        for before, after in ((was.feeds, now.feeds), (was.outputs, now.outputs)):
            assert list(before) == list(after)
            for name, array in before.items():
                assert after[name].dtype == array.dtype
                assert after[name].shape == array.shape
                assert after[name].tobytes() == array.tobytes()


def test_views_and_foreign_byte_orders_are_kept_by_value(tmp_path: Path) -> None:
    square = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_goldens(tmp_path, [golden(t=square.T, big=square.astype(">f4"), every=square[:, ::2])])
    found = read_goldens(tmp_path)[0].outputs
    assert np.array_equal(found["t"], square.T)
    assert np.array_equal(found["big"], square)
    assert np.array_equal(found["every"], square[:, ::2])


def test_the_same_goldens_give_the_same_bytes(tmp_path: Path) -> None:
    case = golden(b=np.ones(3, np.float32), a=np.zeros((2, 2), np.float32))
    for home in ("one", "two"):
        write_goldens(tmp_path / home, [case])
    for file in (TENSORS_FILE, CASES_FILE):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_dtype_that_no_model_gives_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="complex"):
        write_goldens(tmp_path, [golden(logits=np.ones(2, np.complex64))])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (CASES_FILE, None, "is missing"),
        (TENSORS_FILE, None, "is missing"),
        (TENSORS_FILE, b"", "is damaged"),
        (TENSORS_FILE, b"\xff" * 64, "is damaged"),
        (CASES_FILE, b"{", "not valid JSON"),
        (CASES_FILE, b"\xff", "not valid JSON"),
        (CASES_FILE, b"[]", "schema"),
        (CASES_FILE, b'{"schema": 2, "cases": []}', "update edgekit-runtime"),
        (CASES_FILE, b'{"schema": 1, "cases": []}', "belongs to no case"),
        (CASES_FILE, b'{"schema": 1, "cases": [7]}', "must be an object"),
        (CASES_FILE, b'{"schema": 1, "case": []}', "did you mean 'cases'"),
        (
            CASES_FILE,
            b'{"schema": 1, "cases": [{"name": "", "rows": [], "inputs": ["x", "y"], "outputs": []}]}',
            "'y' is missing",
        ),
        (
            CASES_FILE,
            b'{"schema": 1, "cases": [{"name": "", "rows": [{"words": [7]}], "inputs": [], "outputs": []}]}',
            "words must be a string",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    write_goldens(tmp_path, [golden(logits=np.ones((1, 2), np.float32))])
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        read_goldens(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@settings(deadline=None, max_examples=300)
@given(
    file=st.sampled_from((TENSORS_FILE, CASES_FILE)),
    place=st.floats(0, 1),
    value=st.integers(0, 255),
    cut=st.booleans(),
)
def test_no_damage_gives_a_traceback(file: str, place: float, value: int, cut: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        write_goldens(home, [golden(logits=np.ones((2, 2), np.float32), ids=np.arange(4))])
        data = bytearray((home / file).read_bytes())
        index = int(place * (len(data) - 1))
        data[index:] = b"" if cut else bytes([value]) + data[index + 1 :]
        (home / file).write_bytes(data)
        try:
            read_goldens(home)
        except EdgekitError as error:
            assert error.exit_code == 2
