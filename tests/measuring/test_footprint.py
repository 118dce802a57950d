"""Size and memory: what running needs, not what proving needs."""

from __future__ import annotations

from pathlib import Path

from edgekit.measuring.footprint import artifact_mib, memory_mib, tree_bytes
from edgekit_runtime.manifests import FileEntry
from tests.measuring.records import launch


def entry(path: str, size: int) -> FileEntry:
    return FileEntry(path=path, size=size, sha256="0" * 64)


def test_goldens_do_not_count_as_size() -> None:
    files = [entry("model.onnx", 3 * 2**20), entry("golden/golden.safetensors", 2**20)]
    assert artifact_mib(files) == 3.0


def test_memory_is_growth_over_the_engine_import() -> None:
    assert memory_mib(launch(memory=12.5)) == 12.5
    assert memory_mib(launch(memory=-3.0)) == 0.0
    assert memory_mib(launch(memory=None)) is None


def test_a_tree_weighs_what_its_files_weigh(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"12")
    assert tree_bytes(tmp_path) == 7
