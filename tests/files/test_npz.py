"""Arrays of .npz files are read a row at a time, and nothing in one can harm."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.files.npz import read_headers, read_npz_rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.npz"


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(read_npz_rows(path))
    assert str(path) in caught.value.message and caught.value.hint
    return caught.value.message


def member(header: str, data: bytes = b"") -> bytes:
    """A .npy file with a header of one's own."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def pack(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_are_those_of_numpy(path: Path, save: object) -> None:
    arrays = {"ids": np.arange(12).reshape(3, 4), "x": np.random.default_rng(0).normal(size=(3, 2, 5))}
    save(path, **arrays)  # type: ignore[operator]
    assert {name: header.shape for name, header in read_headers(path).items()} == {
        "ids": (3, 4),
        "x": (3, 2, 5),
    }
    rows = list(read_npz_rows(path))
    assert len(rows) == 3
    for number, row in enumerate(rows):
        for name, value in arrays.items():
            assert np.array_equal(row[name], value[number]) and row[name].dtype == value.dtype


class Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def test_objects_are_never_unpickled(path: Path) -> None:
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    assert "pickled objects" in refused(pack(path, x=member(header, pickle.dumps(Harm()))))
    path.write_bytes(pickle.dumps(Harm()))
    assert "no .npz file" in refused(path)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"x": np.zeros(())}, "so no rows"),
        ({"x": np.zeros((0, 4))}, "so no rows"),
        ({"x": np.zeros((2, 0))}, "so no rows"),
        ({"x": np.asfortranarray(np.ones((3, 4)))}, "stored by columns"),
        ({"x": np.array(["text"])}, "not plain numbers"),
        ({"x": np.zeros(2, [("a", "i4")])}, "not plain numbers"),
        ({"x": np.ones(2, complex)}, "not plain numbers"),
        ({}, "no arrays"),
    ],
)
def test_arrays_that_are_no_rows_of_numbers_are_refused(
    path: Path, arrays: dict[str, np.ndarray], problem: str
) -> None:
    np.savez(path, **arrays)
    assert problem in refused(path)


@pytest.mark.parametrize(
    "shape", ["(1, 10000000000)", "(3, -1)", "(True,)", "((((", "(" + "1," * 60 + ")", "(99,)"]
)
def test_a_header_that_lies_is_refused_before_anything_is_read(path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    refused(pack(path, x=member(header, bytes(16))))


def test_damage_anywhere_is_told(path: Path) -> None:
    np.savez(path, x=np.random.default_rng(0).normal(size=(64, 16)))
    whole = path.read_bytes()
    for damaged in (b"", whole[:50], whole[:-40], whole[:5000] + b"\0" * 16 + whole[5016:]):
        path.write_bytes(damaged)
        refused(path)
    path.unlink()
    assert "No such file" in refused(path)


@pytest.mark.parametrize("name", ["x.txt", "../../x", "x"])
def test_an_archive_of_other_files_is_refused(path: Path, name: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"text")
    assert name in refused(path)


def test_an_encrypted_archive_is_refused(path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    pack(path, x=buffer.getvalue())
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    path.write_bytes(data)
    assert "encrypted" in refused(path)


def test_an_archive_that_expands_a_thousandfold_takes_no_memory(path: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (512, 131072), }"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as stream:
        stream.write(member(header))
        for _ in range(512):
            stream.write(bytes(1 << 19))
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    assert sum(1 for _ in read_npz_rows(path)) == 512
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20, "256 MiB of zeros are in the file, 0.5 MiB in a row"
