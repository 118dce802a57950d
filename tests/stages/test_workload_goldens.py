"""An artifact that is wrong at the workload's shape alone is never kept, whatever its goldens say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import ArtifactWrong
from edgekit.files.manifests import read_manifest
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.compiling.workload_goldens import Answers, ShapedGoldens
from edgekit.stages.parents import table_of
from edgekit.values import ArtifactTable, Target, Workload
from tests.pipelines import WHOLE, tiny_pipeline
from tests.plugin_folders import install_plugin
from tests.stages.averaging import LONGEST, averaging_model
from tests.stages.test_compile import BENT

#: Right at every length but one, as an engine that was compiled for that length may be.
WRONG_AT_20 = """
def wrong(self, feeds):
    found = self.inner.run(feeds)
    if feeds["input_ids"].shape[1] == 20:
        return {name: -value for name, value in found.items()}
    return found
Bent.run = wrong
"""
FAILING_AT_20 = """
from edgekit.api import RunFailed
def failing(self, feeds):
    if feeds["input_ids"].shape[1] == 20:
        raise RunFailed("the buffer is too small")
    return self.inner.run(feeds)
Bent.run = failing
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return averaging_model(tmp_path_factory.mktemp("averaging") / "model")


def _options(sequence: int, *, keep_anyway: bool = False) -> CompileOptions:
    target = Target(name="here", workload=Workload(sequence=sequence))
    return CompileOptions(backend="bent", target=target, keep_anyway=keep_anyway)


def _built(model: Path, output: Path, options: CompileOptions) -> ArtifactTable:
    return table_of(compile_model(model, output, options).manifest.artifact)


def _shaped(model: Path, workload: Workload) -> ShapedGoldens:
    return Answers(model, table_of(read_manifest(model, "model").model), workload).shaped


def test_an_artifact_that_is_wrong_at_the_workloads_shape_alone_is_not_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin(monkeypatch, tmp_path, "bent", BENT + WRONG_AT_20)
    with pytest.raises(ArtifactWrong, match=r"at the workload's shape \(batch 1, sequence 20\)") as caught:
        compile_model(model, tmp_path / "a", _options(20))
    assert caught.value.exit_code == 1
    assert not (tmp_path / "a").exists()
    notes = _built(model, tmp_path / "a", _options(21)).notes
    assert "agrees with the model at the workload's shape too (batch 1, sequence 21)" in notes


def test_an_artifact_that_cannot_run_the_workload_is_not_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin(monkeypatch, tmp_path, "bent", BENT + FAILING_AT_20)
    with pytest.raises(ArtifactWrong, match="it cannot run there: the buffer is too small"):
        compile_model(model, tmp_path / "a", _options(20))


def test_what_is_kept_though_it_is_wrong_there_says_so(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin(monkeypatch, tmp_path, "bent", BENT + WRONG_AT_20)
    notes = _built(model, tmp_path / "a", _options(20, keep_anyway=True)).notes
    assert any(note.startswith("kept anyway: disagrees with the model at the workload's") for note in notes)


def test_goldens_get_the_workloads_sizes_as_far_as_the_model_goes(model: Path) -> None:
    found = _shaped(model, Workload(batch=2, sequence=1000))
    assert {golden.feeds["input_ids"].shape for golden in found.goldens} == {(2, LONGEST)}
    assert all(golden.outputs["logits"].shape == (2, 2) for golden in found.goldens)
    assert found.where == f"batch 2, sequence {LONGEST}"


def test_every_shape_of_a_mix_is_checked(model: Path) -> None:
    found = _shaped(model, Workload(shapes=({"sequence": 20}, {"sequence": 2})))
    assert {golden.feeds["input_ids"].shape for golden in found.goldens} == {(1, 20), (1, 2)}


def test_a_shape_that_goldens_have_is_not_asked_again(model: Path) -> None:
    assert _shaped(model, Workload(sequence=5)) == ShapedGoldens()


def test_a_workload_that_the_model_has_no_axis_for_leaves_a_reason(model: Path) -> None:
    found = _shaped(model, Workload(axes={"depth": 3}))
    assert "an axis that the model lacks" in found.unchecked and not found.goldens


def test_a_model_of_several_graphs_is_asked_as_one(tmp_path: Path) -> None:
    found = _shaped(tiny_pipeline(tmp_path / "model"), Workload(sequence=20))
    assert {golden.feeds["input_ids"].shape for golden in found.goldens} == {(1, 20)}
    assert all(set(golden.outputs) == {spec.name for spec in WHOLE.outputs} for golden in found.goldens)
    assert all(np.isfinite(golden.outputs["scores"]).all() for golden in found.goldens)
