"""Promises of the session half beyond the kit's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgekit_openvino.engine import compile_for, missing_capability, ov
from edgekit_openvino.session import OpenVinoSession, open_session
from edgekit_runtime.errors import OpenFailed
from edgekit_runtime.values import OpenRequest

from .conftest import Build
from .models import info, make, rows, two_layers, weights


def opened(artifact: Path, precision: str = "fp32") -> OpenVinoSession:
    return open_session(OpenRequest(directory=artifact, precision=precision))


def test_fp32_stays_fp32_on_a_cpu_where_openvino_would_pick_less(compiled: Build) -> None:
    model = two_layers()
    artifact, _ = compiled(model)
    session = opened(artifact)
    for feeds in rows():
        (wanted,) = ReferenceEvaluator(model).run(None, feeds)
        assert np.abs(session.run(feeds)["y"] - wanted).max() < 1e-5
    assert {row.precision for row in session.placement().rows} == {"fp32"}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_lower_float_precision_is_executed_where_the_cpu_has_it(compiled: Build, precision: str) -> None:
    problem = missing_capability(ov.Core(), precision)
    if problem:
        pytest.skip(problem)
    artifact, _ = compiled(two_layers(), precision)
    session = opened(artifact, precision)
    session.run(rows()[2])
    nodes = {row.precision: row.nodes for row in session.placement().rows}
    assert nodes[precision] >= 2


def test_the_precision_is_read_back_from_the_engine(compiled: Build) -> None:
    artifact, _ = compiled(two_layers())
    core = ov.Core()
    model = core.read_model(artifact / "model.xml")
    given = compile_for(core, model, "fp32", 1, profiled=False)
    assert given.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
    assert given.get_property("NUM_STREAMS") == 1
    assert given.get_property("INFERENCE_NUM_THREADS") == 1

    class Disobedient:
        def compile_model(self, model: object, device: str, settings: dict[str, object]) -> object:
            return core.compile_model(model, device, settings | {"INFERENCE_PRECISION_HINT": "f32"})

    with pytest.raises(OpenFailed, match="asked for bf16 and compiled for f32"):
        compile_for(Disobedient(), model, "bf16", 1, profiled=False)


def test_an_artifact_opens_only_in_the_precision_it_was_made_for(compiled: Build) -> None:
    made = {
        "fp32": compiled(two_layers())[0],
        "int8": compiled(two_layers(), "int8", calibration=rows())[0],
    }
    for precision, other in (("fp32", "int8"), ("int8", "fp32")):
        with pytest.raises(OpenFailed, match=f"compiled for {precision}, not {other}"):
            opened(made[precision], other)


def test_placement_and_profile_tell_what_runs_in_int8(compiled: Build) -> None:
    artifact, _ = compiled(two_layers(), "int8", calibration=rows(), keep_high=("layers/first",))
    session = opened(artifact, "int8")
    session.run({"x": np.ones((64, 64), np.float32)})
    products = [row.precision for row in session.profile() if row.op_type == "FullyConnected"]
    assert sorted(products) == ["fp32", "int8"]
    placement = session.placement()
    assert sum(row.time_share or 0.0 for row in placement.rows) == pytest.approx(1.0)


def test_flags_are_not_taken_for_int8(compiled: Build) -> None:
    model = make(
        [
            helper.make_node("And", ["flag", "other"], ["both"], "and"),
            helper.make_node("Where", ["both", "x", "y"], ["z"], "where"),
        ],
        [
            info("flag", "n", 8, kind=TensorProto.BOOL),
            info("other", "n", 8, kind=TensorProto.BOOL),
            info("x", "n", 8),
            info("y", "n", 8),
        ],
        [info("z", "n", 8)],
    )
    artifact, _ = compiled(model)
    assert {row.precision for row in opened(artifact).placement().rows} == {"fp32"}


def test_flags_beside_int8_layers_are_not_taken_for_int8(compiled: Build) -> None:
    flags = TensorProto.BOOL
    model = make(
        [
            helper.make_node("MatMul", ["x", "a"], ["h"], "first"),
            helper.make_node("And", ["flag", "other"], ["both"], "and"),
            helper.make_node("Where", ["both", "h", "x"], ["chosen"], "where"),
            helper.make_node("MatMul", ["chosen", "b"], ["y"], "second"),
        ],
        [info("x", "n", 64), info("flag", "n", 1, kind=flags), info("other", "n", 64, kind=flags)],
        [info("y", "n", 64)],
        [weights("a", 64, 64), weights("b", 64, 64)],
    )
    calibration = [{"x": row["x"], "flag": row["x"][:, :1] > 0, "other": row["x"] < 1} for row in rows()]
    artifact, _ = compiled(model, "int8", calibration=calibration)
    session = opened(artifact, "int8")
    session.run(calibration[2])
    precisions = {row.name: row.precision for row in session.profile()}
    assert precisions["and"] == "fp32"
    assert sum(row.nodes for row in session.placement().rows if row.precision == "int8") >= 2


def test_other_devices_are_refused_instead_of_running_on_the_cpu(compiled: Build) -> None:
    artifact, _ = compiled(two_layers())
    with pytest.raises(OpenFailed, match="gpu"):
        open_session(OpenRequest(directory=artifact, precision="fp32", device="gpu"))


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_a_missing_file_is_named(compiled: Build, name: str) -> None:
    artifact, _ = compiled(two_layers())
    (artifact / name).unlink()
    with pytest.raises(OpenFailed, match=name):
        opened(artifact)


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_a_truncated_file_is_refused(compiled: Build, name: str) -> None:
    artifact, _ = compiled(two_layers())
    path = artifact / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(OpenFailed, match=r"model\.xml"):
        opened(artifact)


def test_a_model_that_edgekit_did_not_compile_is_refused(tmp_path: Path) -> None:
    import onnx

    onnx.save_model(two_layers(), tmp_path / "source.onnx")
    ov.save_model(ov.Core().read_model(tmp_path / "source.onnx"), tmp_path / "model.xml")
    with pytest.raises(OpenFailed, match="not made by edgekit-openvino"):
        opened(tmp_path)


def test_an_output_that_is_an_input_is_still_the_callers(compiled: Build) -> None:
    model = make([helper.make_node("Identity", ["x"], ["same"], "id")], [info("x", "n")], [info("same", "n")])
    artifact, _ = compiled(model)
    session = opened(artifact)
    feeds = {"x": np.ones(5, np.float32)}
    session.run(feeds)["same"][:] = -7
    assert (feeds["x"] == 1).all()
    assert (session.run(feeds)["same"] == 1).all()


def test_neither_half_reports_to_anyone_or_writes_below_home(tmp_path: Path) -> None:
    code = (
        "import sys, edgekit_openvino.session, edgekit_openvino.quantize\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "from nncf.telemetry import wrapper\n"
        "assert type(wrapper.telemetry).__name__ != 'NNCFTelemetry', type(wrapper.telemetry)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "CI"} | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
