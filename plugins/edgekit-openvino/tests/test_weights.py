"""Promises of int8-weights and int4-weights: small, near, told as they are executed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from edgekit.api import CompileFailed, OpenRequest, PrecisionNotGiven
from edgekit_openvino.engine import missing_capability, ov
from edgekit_openvino.session import open_session

from .conftest import Build
from .models import norm_layer, rows, sequences, two_layers

WEIGHTS = ("int8-weights", "int4-weights")


def error(model: onnx.ModelProto, artifact: Path, precision: str) -> float:
    """Mean distance from the reference on fresh rows, as a share of the mean value."""
    session = open_session(OpenRequest(directory=artifact, precision=precision))
    distances = []
    for feeds in sequences(24)[16:]:
        (wanted,) = ReferenceEvaluator(model).run(None, feeds)
        distances.append(np.abs(session.run(feeds)["y"] - wanted).mean() / np.abs(wanted).mean())
    return float(np.mean(distances))


@pytest.mark.parametrize("precision", WEIGHTS)
def test_weights_are_compressed_without_calibration_rows_and_noted(compiled: Build, precision: str) -> None:
    artifact, said = compiled(norm_layer(128), precision, weights="symmetric")
    whole = 2 * 128 * 128 * 4
    share = (artifact / "model.bin").stat().st_size / whole
    # int4 leaves the last layer in int8, as NNCF does.
    assert share < (0.28 if precision == "int8-weights" else 0.22)
    assert said.notes[0].startswith("weights of 2 layers, symmetric")
    assert any("computed in fp32" in note for note in said.notes)
    assert ("without calibration rows" in " ".join(said.notes)) == (precision == "int4-weights")


def test_placement_tells_products_with_compressed_weights_from_int8(compiled: Build) -> None:
    for precision in WEIGHTS:
        artifact, _ = compiled(norm_layer(), precision)
        session = open_session(OpenRequest(directory=artifact, precision=precision))
        session.run(sequences()[0])
        told = {row.name: row.precision for row in session.profile()}
        assert told["layers/first"] == precision
        assert told["y"] == "int8-weights"
        assert "int8" not in {row.precision for row in session.placement().rows}


def test_rows_choose_better_scales_for_int4(compiled: Build) -> None:
    model = norm_layer()
    plain, _ = compiled(model, "int4-weights")
    chosen, said = compiled(model, "int4-weights", calibration=sequences())
    assert "scales chosen on 16 rows" in " ".join(said.notes)
    assert error(model, chosen, "int4-weights") < error(model, plain, "int4-weights") < 0.3


def test_bf16_beside_compressed_weights_is_named_and_executed(compiled: Build) -> None:
    problem = missing_capability(ov.Core(), "bf16")
    if problem:
        with pytest.raises(PrecisionNotGiven, match="bf16"):
            compiled(norm_layer(), "int8-weights", rest="bf16")
        return
    artifact, said = compiled(norm_layer(), "int8-weights", rest="bf16")
    assert "what is not weights is computed in bf16" in said.notes
    session = open_session(OpenRequest(directory=artifact, precision="int8-weights"))
    session.run(sequences()[0])
    assert {row.precision for row in session.placement().rows} >= {"bf16", "int8-weights"}


@pytest.mark.parametrize("precision", WEIGHTS)
def test_a_node_kept_high_keeps_its_weights(compiled: Build, precision: str) -> None:
    artifact, _ = compiled(norm_layer(), precision, keep_high=("layers/second",))
    session = open_session(OpenRequest(directory=artifact, precision=precision))
    session.run(sequences()[0])
    told = {row.name: row.precision for row in session.profile()}
    assert told["y"] == "fp32"
    assert told["layers/first"] == precision


def test_nothing_left_to_compress_is_refused(compiled: Build) -> None:
    with pytest.raises(PrecisionNotGiven, match="none of the model's 2 layers"):
        compiled(two_layers(), "int8-weights", keep_high=("layers/first", "layers/second"))


def test_a_group_size_that_does_not_divide_a_channel_is_made_to_or_refused(compiled: Build) -> None:
    artifact, _ = compiled(norm_layer(96), "int4-weights", group_size=64)
    session = open_session(OpenRequest(directory=artifact, precision="int4-weights"))
    assert session.run(sequences(1, 96)[0])["y"].shape == (1, 3, 96)
    with pytest.raises(CompileFailed, match="group"):
        compiled(norm_layer(), "int4-weights", group_size=0)


def test_rows_are_looked_at_for_weights_too(compiled: Build) -> None:
    with pytest.raises(CompileFailed, match="calibration row 1"):
        compiled(norm_layer(), "int4-weights", calibration=rows(2))
