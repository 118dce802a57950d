"""Weights that are cut off, mixed up or not fetched are found without reading them into memory."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from edgekit.errors import SourceError, UnsafeSource
from edgekit.exporting.weights import check_safetensors, find_weights

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, dtype=np.float16)}


def refused(folder: Path) -> SourceError | UnsafeSource:
    with pytest.raises((SourceError, UnsafeSource)) as caught:
        find_weights(folder, allow_pickle=False)
    return caught.value


def sharded(folder: Path, weight_map: dict[str, object]) -> Path:
    save_file({"a": TENSORS["a"]}, folder / "one.safetensors")
    save_file({"b": TENSORS["b"]}, folder / "two.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights") / "model.safetensors"


def test_whole_weights_pass(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert find_weights(tmp_path, allow_pickle=False).files == (tmp_path / "model.safetensors",)


@given(data=st.data())
def test_every_cut_is_found(file: Path, data: st.DataObject) -> None:
    whole = save(TENSORS)
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(SourceError, match=r"model\.safetensors"):
        check_safetensors(file)


def test_bytes_after_the_end_are_found(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(save(TENSORS) + b"more")
    assert "damaged" in refused(tmp_path).message


@pytest.mark.parametrize(
    "header",
    [b"[]", b"nonsense", b'{"a": 1}', b'{"a": {"data_offsets": [0]}}', b'{"a": {"data_offsets": [0, "x"]}}'],
)
def test_a_header_that_makes_no_sense(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert "damaged" in refused(tmp_path).message


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    assert "header" in refused(tmp_path).message


def test_a_git_lfs_pointer_is_told_to_be_fetched(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "git lfs pull" in refused(tmp_path).hint


def test_shards_are_all_found(tmp_path: Path) -> None:
    found = find_weights(
        sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"}), allow_pickle=False
    )
    assert [path.name for path in found.files] == ["one.safetensors", "two.safetensors"]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    (tmp_path / "two.safetensors").unlink()
    assert "two.safetensors" in refused(tmp_path).message


def test_a_shard_without_its_tensor_is_named(tmp_path: Path) -> None:
    sharded(tmp_path, {"a": "one.safetensors", "b": "one.safetensors"})
    assert "'b'" in refused(tmp_path).message


@pytest.mark.parametrize("name", ["../one.safetensors", "/etc/passwd", 7])
def test_an_index_never_leads_outside(tmp_path: Path, name: object) -> None:
    assert "not the name of a file" in refused(sharded(tmp_path, {"a": name})).message


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": {}}', "{"])
def test_an_index_that_makes_no_sense(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert "index.json" in refused(tmp_path).message


def test_an_empty_pickle_is_damaged_before_it_is_unsafe(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    assert "empty" in refused(tmp_path).message
