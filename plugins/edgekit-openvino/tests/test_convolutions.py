"""Promises of int8 of models of convolutions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nncf.quantization.algorithms.post_training import pipeline
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgekit.api import OpenRequest, Target
from edgekit.values import Hardware, Match
from edgekit_openvino.convolutions import BIAS_ROWS, advanced, saturates
from edgekit_openvino.engine import ov
from edgekit_openvino.session import open_session

from .conftest import Build
from .models import info, make, weights


def network() -> onnx.ModelProto:
    """A convolution, one over each channel alone, and one that gathers them; each with a bias."""
    nodes = []
    for place, (groups, read, given) in enumerate(((1, "image", "a"), (16, "b", "c"), (1, "d", "y"))):
        names = [read, f"w{place}", f"bias{place}"]
        nodes.append(
            helper.make_node("Conv", names, [given], f"conv{place}", pads=[1, 1, 1, 1], group=groups)
        )
        if given != "y":
            nodes.append(helper.make_node("Clip", [given, "zero", "six"], [chr(ord(given) + 1)]))
    shapes = ((16, 3, 3, 3), (16, 1, 3, 3), (8, 16, 3, 3))
    constants = [weights(f"w{place}", *shape) for place, shape in enumerate(shapes)]
    constants += [weights(f"bias{place}", shape[0]) for place, shape in enumerate(shapes)]
    constants += [numpy_helper.from_array(np.float32(end), name) for name, end in (("zero", 0), ("six", 6))]
    return make(nodes, [info("image", "batch", 3, 12, 12)], [info("y", "batch", 8, 12, 12)], constants)


def images(count: int, *, blue: float) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(4)
    found = [rng.uniform(0, 1, (1, 3, 12, 12)).astype(np.float32) for _ in range(count)]
    for image in found:
        image[:, 2] *= blue
    return [{"image": image} for image in found]


def test_a_channel_that_calibration_rows_left_small_is_not_cut_off(compiled: Build) -> None:
    """Only the first convolution sees the third colour; only its last channel gives it on."""
    model = network()
    for tensor in model.graph.initializer:
        if tensor.name == "w0":
            weight = numpy_helper.to_array(tensor).copy()
            weight[:15, 2], weight[15] = 0, 0
            weight[15, 2] = 0.5
            tensor.CopyFrom(numpy_helper.from_array(weight, "w0"))
    artifact, _ = compiled(model, "int8", calibration=images(16, blue=0.05))
    [row] = images(1, blue=1.0)
    (wanted,) = ReferenceEvaluator(model).run(None, row)
    got = open_session(OpenRequest(directory=artifact, precision="int8")).run(row)["y"]
    assert np.abs(got - wanted).mean() < 0.05 * np.abs(wanted).mean()


def test_biases_of_convolutions_are_there_to_be_corrected(compiled: Build) -> None:
    artifact, said = compiled(network(), "int8", calibration=images(16, blue=1.0))
    assert said.notes[0].startswith("3 of 3 multiplications and convolutions are int8")
    kinds = {node.get_type_name() for node in ov.Core().read_model(artifact / "model.xml").get_ops()}
    assert not kinds & {"ShapeOf", "VariadicSplit"}, "a chain of shapes stands where the bias is"


def test_biases_are_corrected_on_few_of_many_rows_so_that_memory_does_not_grow_with_them(
    compiled: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Watched(pipeline.BiasCorrection):  # type: ignore[misc]
        def __init__(self, subset_size: int, *more: object) -> None:
            asked.append(subset_size)
            super().__init__(subset_size, *more)

    monkeypatch.setattr(pipeline, "BiasCorrection", Watched)
    for count in (10, 20 * BIAS_ROWS):
        compiled(network(), "int8", calibration=images(count, blue=1.0))
    assert asked == [2, BIAS_ROWS]
    assert pipeline.BiasCorrection is Watched


@pytest.mark.parametrize(
    ("arch", "isa", "wrong"),
    [
        ("x86_64", ("avx2",), True),
        ("x86_64", ("avx2", "avx_vnni"), False),
        ("x86_64", ("avx512_vnni",), False),
        ("aarch64", ("asimd",), False),
    ],
)
def test_a_bit_is_left_unused_only_where_the_cpu_would_saturate(
    arch: str, isa: tuple[str, ...], wrong: bool
) -> None:
    target = Target(name="board", match=Match(arch=arch), hardware=Hardware(isa=isa))
    assert saturates(target) == wrong
    assert ("overflow_fix" in advanced(whole=not wrong)) != wrong
