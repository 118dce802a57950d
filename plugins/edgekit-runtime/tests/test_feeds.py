"""Tensors survive bytes and files unchanged, and what no model takes is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit_runtime.errors import InputError
from edgekit_runtime.feeds import pack, pack_many, read_feeds, unpack, unpack_many, write_feeds
from edgekit_runtime.values import DTYPES

arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    )
)
names = st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__")


@given(st.dictionaries(names, arrays, max_size=4))
def test_every_tensor_comes_back_as_it_was(tensors: dict[str, np.ndarray]) -> None:
    back = unpack(pack(tensors))
    assert set(back) == set(tensors)
    for name, value in tensors.items():
        assert back[name].dtype == value.dtype
        assert back[name].shape == value.shape
        assert back[name].tobytes() == value.tobytes()


@given(st.lists(st.dictionaries(names, arrays, min_size=1, max_size=3), max_size=12))
def test_rows_keep_order_and_content(rows: list[dict[str, np.ndarray]]) -> None:
    back = unpack_many(pack_many(rows))
    assert [set(row) for row in back] == [set(row) for row in rows]
    for got, given_ in zip(back, rows, strict=True):
        for name, value in given_.items():
            assert got[name].tobytes() == value.tobytes()


def test_views_in_any_order_and_byte_order_are_packed_by_value() -> None:
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    odd = {"t": base.T, "s": base[:, ::2, ::-1], "f": np.asfortranarray(base), "b": base.astype(">f4")}
    back = unpack(pack(odd))
    for name, value in odd.items():
        np.testing.assert_array_equal(back[name], value)
        assert back[name].dtype == np.float32


def test_unpacked_tensors_own_their_memory() -> None:
    data = pack({"x": np.zeros(3, dtype=np.int64)})
    first, second = unpack(data)["x"], unpack(data)["x"]
    first += 1
    assert not second.any()


@pytest.mark.parametrize(
    "value",
    [np.array(["text"]), np.array([object()]), np.zeros(2, dtype=np.complex64), np.zeros(2, dtype=np.uint32)],
    ids=["text", "object", "complex", "uint32"],
)
def test_dtypes_that_no_model_takes_are_refused_by_name(value: np.ndarray) -> None:
    with pytest.raises(InputError, match="tensor 'x' has dtype"):
        pack({"x": value})


def test_lists_reserved_names_and_empty_rows_are_refused() -> None:
    with pytest.raises(InputError, match="is a list"):
        pack({"x": [1, 2]})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="__metadata__"):
        pack({"__metadata__": np.zeros(1, dtype=np.float32)})
    with pytest.raises(InputError, match="row 1 holds no tensor"):
        pack_many([{"x": np.zeros(1, dtype=np.float32)}, {}])


@given(st.binary(max_size=200))
def test_foreign_bytes_are_an_input_error(data: bytes) -> None:
    with contextlib.suppress(InputError):
        unpack(data)


def test_rows_with_a_gap_or_a_foreign_name_are_refused() -> None:
    value = np.zeros(1, dtype=np.float32)
    with pytest.raises(InputError, match="rows are missing"):
        unpack_many(pack({"000000/x": value, "000002/x": value}))
    with pytest.raises(InputError, match="not named ROW/INPUT"):
        unpack_many(pack({"x": value}))


def test_a_directory_of_feeds_is_read_row_by_row_in_order(tmp_path: Path) -> None:
    rows = [{"ids": np.full((1, n + 1), n, dtype=np.int64)} for n in range(12)]
    assert write_feeds(tmp_path / "feeds", iter(rows)) == 12
    assert sorted(path.name for path in (tmp_path / "feeds").iterdir())[:2] == [
        "000000.safetensors",
        "000001.safetensors",
    ]
    back = read_feeds(tmp_path / "feeds")
    assert iter(back) is back, "one row at a time"
    assert [row["ids"].shape for row in back] == [(1, n + 1) for n in range(12)]


def test_a_directory_without_feeds_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no feeds"):
        read_feeds(tmp_path)
    (tmp_path / "000000.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"000000\.safetensors"):
        list(read_feeds(tmp_path))
