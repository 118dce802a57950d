"""ONNX files run as they are, one graph or several, as one session or part by part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.files.graphs import PIPELINE_FILE, model_graphs
from edgekit.files.manifests import read_manifest
from edgekit.host.reference import open_reference_graphs, open_reference_model, open_reference_parts
from edgekit.values import ModelTable
from edgekit_runtime.goldens import read_goldens
from edgekit_runtime.pipelines import EncoderDecoder, read_pipeline
from tests.pipelines import DECODER, ENCODER, WHOLE, tiny_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def table(model: Path) -> ModelTable:
    found = read_manifest(model, "model").model
    assert found is not None
    return found


def test_a_model_of_several_graphs_is_one_session(model: Path, table: ModelTable) -> None:
    golden = read_goldens(model / "golden")[0]
    with open_reference_model(model, table) as session:
        assert session.signature == WHOLE
        outputs = session.run(golden.feeds)
    assert all(np.array_equal(outputs[name], value) for name, value in golden.outputs.items())


def test_a_model_of_one_graph_opens_through_the_same_door(exported: Path) -> None:
    found = read_manifest(exported, "model").model
    assert found is not None
    golden = read_goldens(exported / "golden")[0]
    with open_reference_model(exported, found) as session:
        outputs = session.run(golden.feeds)
    assert all(np.allclose(outputs[name], value, atol=1e-3) for name, value in golden.outputs.items())


def test_parts_are_sessions_that_a_host_can_put_together(model: Path, table: ModelTable) -> None:
    pipeline = read_pipeline(model)
    assert pipeline is not None
    golden = read_goldens(model / "golden")[2]
    with open_reference_parts(model_graphs(model, table)) as parts:
        assert {part: session.signature for part, session in parts.items()} == {
            "encoder": ENCODER,
            "decoder": DECODER,
        }
        outputs = EncoderDecoder(parts, pipeline).run(golden.feeds)
    assert np.array_equal(outputs["tokens"], golden.outputs["tokens"])
    assert np.allclose(outputs["scores"], golden.outputs["scores"], atol=1e-5)


def test_a_single_part_runs_without_the_others(model: Path, table: ModelTable) -> None:
    [encoder] = [graph for graph in model_graphs(model, table) if graph.part == "encoder"]
    golden = read_goldens(model / "golden")[0]
    with open_reference_parts((encoder,)) as parts:
        outputs = parts["encoder"].run(golden.feeds)
    assert outputs["cross.0.key"].shape == (1, 2, golden.feeds["input_ids"].shape[1], 32)


def test_graphs_need_no_manifest_yet(model: Path, table: ModelTable) -> None:
    golden = read_goldens(model / "golden")[1]
    with open_reference_graphs(model_graphs(model, table), model / PIPELINE_FILE) as session:
        outputs = session.run(golden.feeds)
    assert np.array_equal(outputs["tokens"], golden.outputs["tokens"])
