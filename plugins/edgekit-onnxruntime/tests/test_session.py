"""Promises of the session half beyond the kit's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit_onnxruntime.session import OrtSession, open_session, session_options
from edgekit_runtime.errors import OpenFailed, RunFailed
from edgekit_runtime.values import OpenRequest

from .conftest import Build
from .models import FLOAT, info, make, two_layers, weights


def opened(artifact: Path, precision: str = "fp32") -> OrtSession:
    return open_session(OpenRequest(directory=artifact, precision=precision))


def test_an_artifact_opens_only_in_the_precision_it_was_made_for(compiled: Build) -> None:
    made = {precision: compiled(two_layers(), precision)[0] for precision in ("fp32", "int8")}
    for precision, other in (("fp32", "int8"), ("int8", "fp32")):
        with pytest.raises(OpenFailed, match=f"compiled for {precision}, not {other}"):
            opened(made[precision], other)


def test_other_devices_are_refused_instead_of_running_on_the_cpu(compiled: Build) -> None:
    artifact, _ = compiled(two_layers())
    with pytest.raises(OpenFailed, match="cuda"):
        open_session(OpenRequest(directory=artifact, precision="fp32", device="cuda"))


def test_a_missing_model_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OpenFailed, match=r"model\.onnx is missing"):
        opened(tmp_path)


def test_options_reach_the_engine(tmp_path: Path) -> None:
    plain = session_options(OpenRequest(directory=tmp_path, precision="fp32", threads=3))
    assert plain.intra_op_num_threads == 3
    assert plain.inter_op_num_threads == 1
    assert plain.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    asked = OpenRequest(
        directory=tmp_path, precision="fp32", options={"spinning": True, "optimization": "basic"}
    )
    assert session_options(asked).get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert session_options(asked).graph_optimization_level.name == "ORT_ENABLE_BASIC"
    with pytest.raises(OpenFailed, match="extreme"):
        session_options(
            OpenRequest(directory=tmp_path, precision="fp32", options={"optimization": "extreme"})
        )


def test_placement_tells_int8_from_fp32_and_adds_up(compiled: Build) -> None:
    artifact, _ = compiled(two_layers(), "int8", keep_high=("layers/first",))
    session = opened(artifact, "int8")
    session.run({"x": np.ones((16, 64), np.float32)})
    placement = session.placement()
    nodes = {row.precision: row.nodes for row in placement.rows}
    assert nodes["int8"] == 1
    assert nodes["fp32"] >= 1
    assert {row.device for row in placement.rows} == {"cpu"}
    assert sum(row.time_share or 0.0 for row in placement.rows) == pytest.approx(1.0)


def test_placement_is_told_before_any_run_too(compiled: Build) -> None:
    artifact, _ = compiled(two_layers())
    placement = opened(artifact).placement()
    assert [row.precision for row in placement.rows] == ["fp32"]


def test_pixels_of_eight_bits_are_not_taken_for_quantization(compiled: Build) -> None:
    model = make(
        [
            helper.make_node("Transpose", ["image"], ["planes"], "planes", perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["planes"], ["y"], "cast", to=FLOAT),
        ],
        [info("image", "batch", 4, 4, 3, kind=TensorProto.UINT8)],
        [info("y", "batch", 3, 4, 4)],
    )
    artifact, _ = compiled(model)
    assert {row.precision for row in opened(artifact).placement().rows} == {"fp32"}


def test_time_inside_a_branch_is_counted_once(compiled: Build) -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["a"], "inner")], "then", [], [info("a", "n")]
    )
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["b"], "other")], "else", [], [info("b", "n")])
    model = make(
        [helper.make_node("If", ["flag"], ["y"], "choice", then_branch=branch, else_branch=other)],
        [info("flag", kind=TensorProto.BOOL), info("x", "n")],
        [info("y", "n")],
    )
    artifact, _ = compiled(model)
    session = opened(artifact)
    session.run({"flag": np.array(True), "x": np.ones(2000, np.float32)})
    assert [row.name for row in session.profile()] == ["inner"]


def test_axes_without_a_name_get_one(compiled: Build) -> None:
    model = make([helper.make_node("Relu", ["x"], ["y"], "r")], [info("x", None, 4)], [info("y", None, 4)])
    artifact, _ = compiled(model)
    assert opened(artifact).signature.inputs[0].shape == ("x.0", 4)


def test_an_id_beyond_the_table_is_an_error_that_names_the_file(compiled: Build) -> None:
    model = make(
        [helper.make_node("Gather", ["table", "ids"], ["y"], "embedding")],
        [info("ids", "n", kind=TensorProto.INT64)],
        [info("y", "n", 4)],
        [weights("table", 10, 4)],
    )
    artifact, _ = compiled(model)
    with pytest.raises(RunFailed, match=r"model\.onnx.*out of data bounds"):
        opened(artifact).run({"ids": np.array([10])})


def test_an_output_that_is_an_input_or_a_constant_is_still_the_callers(compiled: Build) -> None:
    model = make(
        [
            helper.make_node("Identity", ["x"], ["same"], "id"),
            helper.make_node("Identity", ["c"], ["fixed"], "k"),
        ],
        [info("x", "n")],
        [info("same", "n"), info("fixed", 3)],
        [weights("c", 3)],
    )
    artifact, _ = compiled(model)
    session = opened(artifact)
    feeds = {"x": np.ones(5, np.float32)}
    first = session.run(feeds)
    constant = first["fixed"].copy()
    for value in first.values():
        value[:] = -7
    assert (feeds["x"] == 1).all()
    assert (session.run(feeds)["fixed"] == constant).all()


def test_a_truncated_artifact_is_refused(compiled: Build) -> None:
    artifact, _ = compiled(two_layers())
    path = artifact / "model.onnx"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(OpenFailed, match=r"model\.onnx"):
        opened(artifact)


def test_the_model_on_disk_is_valid_onnx(compiled: Build) -> None:
    artifact, _ = compiled(two_layers(), "int8")
    onnx.checker.check_model(onnx.load(artifact / "model.onnx"))
