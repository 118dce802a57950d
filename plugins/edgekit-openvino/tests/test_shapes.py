"""Promises of the workload's shape: an artifact is opened for it, and serves every other as well."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from edgekit.api import OpenRequest
from edgekit.values import Workload
from edgekit_openvino.description import read_description
from edgekit_openvino.engine import ov
from edgekit_openvino.session import open_session
from edgekit_runtime.errors import InputError

from .conftest import Build
from .models import norm_layer, rows, sequences, two_layers

SHAPE = Workload(batch=1, sequence=5)


def test_the_workloads_shape_and_every_other_are_answered_rightly(compiled: Build) -> None:
    model = norm_layer()
    artifact, said = compiled(model, workload=SHAPE, shapes="workload")
    assert any("batch 1, sequence 5" in note for note in said.notes)
    session = open_session(OpenRequest(directory=artifact, precision="fp32"))
    assert session.signature.inputs[0].shape == ("batch", "sequence", 64)
    for feeds in (*sequences(6), {"x": np.ones((3, 5, 64), np.float32)}):
        (wanted,) = ReferenceEvaluator(model).run(None, feeds)
        assert np.abs(session.run(feeds)["y"] - wanted).max() < 1e-4
    with pytest.raises(InputError, match="shape"):
        session.run({"x": np.ones((1, 5, 63), np.float32)})


def test_placement_is_that_of_the_shape_last_run(compiled: Build) -> None:
    artifact, _ = compiled(norm_layer(), workload=SHAPE, shapes="workload")
    session = open_session(OpenRequest(directory=artifact, precision="fp32"))
    before = session.placement().nodes()
    for length in (5, 6):
        session.run({"x": np.ones((1, length, 64), np.float32)})
        assert session.placement().nodes() > 0
    assert before > 0


@pytest.mark.parametrize(
    "workload",
    [
        Workload(from_data=True),
        Workload(shapes=({"sequence": 3}, {"sequence": 5})),
    ],
    ids=["rows-of-data", "a-mix"],
)
def test_a_workload_of_many_shapes_fixes_none(compiled: Build, workload: Workload) -> None:
    artifact, said = compiled(norm_layer(), workload=workload, shapes="workload")
    path = artifact / "model.xml"
    assert not read_description(ov.Core().read_model(path), path).sizes
    assert not any("workload" in note for note in said.notes)


def test_shapes_are_free_unless_asked_for(compiled: Build) -> None:
    artifact, said = compiled(norm_layer(), workload=SHAPE)
    path = artifact / "model.xml"
    assert not read_description(ov.Core().read_model(path), path).sizes
    assert said.notes == ()


def test_a_shape_that_hides_what_is_executed_is_not_fixed(compiled: Build) -> None:
    """OpenVINO makes one fp32-looking node of a small perceptron of fixed shape, int8 weights and all."""
    _, said = compiled(two_layers(), "int8", calibration=rows(), shapes="workload")
    assert any("does not tell their precision" in note for note in said.notes)
