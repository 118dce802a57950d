"""Exported programs and hub ids: taken, or refused before anything of theirs runs."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

import edgekit
from edgekit.errors import SourceError, UnsafeSource, UsageError
from edgekit.exporting.hub import looks_like_id, provenance
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.origin import TorchOrigin, inspect_source
from edgekit.exporting.quiet import kept_environment, quiet_libraries
from edgekit.exporting.subject import Subject, shape_of
from tests.conftest import Edgekit


def refused(source: object, **options: object) -> SourceError | UnsafeSource | UsageError:
    with pytest.raises((SourceError, UnsafeSource, UsageError)) as caught:
        inspect_source(source, ExportOptions(**options))  # type: ignore[arg-type]
    assert caught.value.hint
    assert caught.value.exit_code == 2
    return caught.value


# --- exported programs ------------------------------------------------------------------------------------


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return {"scores": self.linear(x) * mask[..., None], "mean": x.mean(1)}


def program() -> ExportedProgram:
    batch, length = Dim("batch", min=2, max=64), Dim("length", max=50)
    torch.manual_seed(0)
    with kept_environment(), quiet_libraries():
        return torch.export.export(
            Masked().eval(),
            (torch.randn(3, 5, 4),),
            {"mask": torch.ones(3, 5)},
            dynamic_shapes={"x": {0: batch, 1: length}, "mask": {0: batch, 1: length}},
        )


def subject_of(source: object, tmp_path: Path, **options: object) -> Subject:
    given = ExportOptions(**options)  # type: ignore[arg-type]
    origin = inspect_source(source, given)
    assert isinstance(origin, TorchOrigin)
    return origin.load(given, tmp_path / "processor")


def test_a_program_brings_its_inputs_axes_and_ranges(tmp_path: Path) -> None:
    subject = subject_of(program(), tmp_path)
    assert subject.facts.axes == {"x": {0: "batch", 1: "x_1"}, "mask": {0: "batch", 1: "x_1"}}
    assert subject.ranges == {"batch": (2, 64), "x_1": (1, 50)}
    sizes = [shape_of(case.feeds, subject.facts.axes) for case in subject.cases]
    assert {size["batch"] for size in sizes} >= {2, 7, 64}
    assert max(size["x_1"] for size in sizes) == 50
    assert all(2 <= size["batch"] <= 64 for size in sizes)


def test_a_program_is_exported_and_agrees_with_the_module(tmp_path: Path) -> None:
    made = edgekit.export(program(), tmp_path / "model")
    table = made.manifest.model
    assert table is not None
    assert [spec.shape for spec in table.signature.inputs] == [("batch", "x_1", 4), ("batch", "x_1")]
    assert [spec.name for spec in table.signature.outputs] == ["scores", "mean"]
    assert table.source["kind"] == "exported program"


def test_a_program_without_examples_needs_some(tmp_path: Path) -> None:
    bare = program()
    bare.example_inputs = None
    with pytest.raises(UsageError, match="no example inputs"):
        subject_of(bare, tmp_path)
    examples = {"x": torch.randn(4, 6, 4), "mask": torch.ones(4, 6)}
    assert subject_of(bare, tmp_path, example_inputs=examples).facts.axes["x"] == {0: "batch", 1: "x_1"}
    with pytest.raises(UsageError, match="dynamic_axes"):
        subject_of(program(), tmp_path, dynamic_axes={"x": {0: "rows"}})


def test_the_digest_of_a_program_follows_weights_and_graph() -> None:
    one = program()
    before = inspect_source(one, ExportOptions()).digest()
    assert inspect_source(one, ExportOptions()).digest() == before
    with torch.no_grad():
        one.state_dict["linear.bias"].add_(1)
    assert inspect_source(one, ExportOptions()).digest() != before


def test_a_pt2_file_is_read_only_with_consent(edgekit: Edgekit, tmp_path: Path) -> None:
    path = tmp_path / "masked.pt2"
    with kept_environment(), quiet_libraries():
        torch.export.save(program(), path)
    error = refused(path)
    assert isinstance(error, UnsafeSource)
    assert "--trust-remote-code" in error.hint
    done = edgekit("export", path, "-o", tmp_path / "model", "--trust-remote-code", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"]["source"]["name"] == "masked.pt2"


def test_a_pt2_file_that_is_cut_off_or_holds_no_program(tmp_path: Path) -> None:
    path = tmp_path / "masked.pt2"
    with kept_environment(), quiet_libraries():
        torch.export.save(program(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refused(path, trust_remote_code=True).message
    with kept_environment():
        torch.save({"weight": torch.zeros(2)}, path)
    assert "holds no exported program" in refused(path, trust_remote_code=True).message


def test_an_object_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a int is no model source"):
        edgekit.export(3, tmp_path / "model")  # type: ignore[arg-type]
    assert "adapters" in refused(nn.Linear(2, 2), base=tmp_path).message


# --- the hub --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_id"),
    [
        ("org/name", True),
        ("a-b/c.d_1", True),
        ("./org/name", False),
        ("a/b/c", False),
        ("name", False),
        ("/a/b", False),
    ],
)
def test_what_may_be_a_hub_id(name: str, is_id: bool) -> None:
    assert looks_like_id(name) is is_id


def test_a_hub_that_cannot_be_reached_is_an_error_within_seconds(
    edgekit: Edgekit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    started = time.monotonic()
    done = edgekit("export", "someone/a-model", "-o", tmp_path / "model")
    assert time.monotonic() - started < 60  # retries of a library would take minutes
    assert done.returncode == 2
    assert "HF_ENDPOINT: http://127.0.0.1:9" in done.stderr
    assert "hf download someone/a-model" in done.stderr
    assert "HF_HUB_OFFLINE" in done.stderr
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in edgekit("export", "someone/a-model", "-o", tmp_path / "model").stderr


def snapshot(tiny: Path, cache: Path) -> Path:
    """The model as the hub's cache holds it: links to blobs."""
    repository, commit = cache / "models--someone--tiny", "0123abcd" * 5
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for number, path in enumerate(sorted(tiny.iterdir())):
        shutil.copy(path, repository / "blobs" / str(number))
        (folder / path.name).symlink_to(Path("..") / ".." / "blobs" / str(number))
    return folder


def test_a_model_in_the_hubs_cache_is_exported_offline_with_its_revision(
    edgekit: Edgekit, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = snapshot(tiny, tmp_path / "cache")
    assert provenance(folder) == {"name": "someone/tiny", "revision": folder.name}
    linked, plain = (inspect_source(path, ExportOptions()).digest() for path in (folder, tiny))
    assert linked == plain
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    for more in ((), ("--revision", folder.name)):
        done = edgekit("export", "someone/tiny", "-o", tmp_path / "model", "--json", "--force", *more)
        assert done.returncode == 0, done.stderr
        source = json.loads(done.stdout)["model"]["source"]
        assert (source["name"], source["revision"]) == ("someone/tiny", folder.name)
    assert edgekit("export", "someone/tiny", "--revision", "v2", "-o", tmp_path / "other").returncode == 2


def test_a_revision_is_for_hub_models(folder: Path) -> None:
    assert "--revision" in refused(folder, revision="main").message


def test_a_path_that_is_not_there_and_a_file_of_no_known_kind(tmp_path: Path) -> None:
    assert "no such file or folder" in refused(tmp_path / "none").message
    (tmp_path / "notes.txt").write_text("hello")
    assert "no kind that is exported" in refused(tmp_path / "notes.txt").message
    assert os.fspath(tmp_path / "notes.txt") in refused(tmp_path / "notes.txt").message
