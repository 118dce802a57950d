"""Promises of int8 of models of convolutions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgekit.api import OpenRequest, Target
from edgekit.values import Hardware, Match
from edgekit_openvino.convolutions import advanced, saturates
from edgekit_openvino.engine import ov
from edgekit_openvino.session import open_session

from .conftest import Build
from .models import info, make, weights

#: Weights of convolutions one after the other; the one of a single channel is depthwise.
DEEP = ((16, 3, 3, 3), (16, 16, 1, 1), (16, 1, 3, 3), (8, 16, 3, 3))
STEM = ((16, 3, 3, 3), (16, 1, 3, 3), (8, 16, 3, 3), (8, 8, 3, 3))


def network(shapes: Sequence[tuple[int, ...]] = DEEP, *, biased: bool = True) -> onnx.ModelProto:
    """Convolutions of these weights, each with a bias, and ReLU6 between them."""
    nodes = []
    names = [*(f"x{place}" for place in range(len(shapes))), "y"]
    for place, shape in enumerate(shapes):
        reads = [
            f"{names[place]}.even" if place else "image",
            f"w{place}",
            *([f"bias{place}"] if biased else []),
        ]
        pads, groups = [shape[2] // 2] * 4, shape[0] if shape[1] == 1 else 1
        nodes.append(
            helper.make_node("Conv", reads, [names[place + 1]], f"conv{place}", pads=pads, group=groups)
        )
        if names[place + 1] != "y":
            ends = [names[place + 1], "zero", "six"]
            nodes.append(helper.make_node("Clip", ends, [f"{names[place + 1]}.even"]))
    constants = [weights(f"w{place}", *shape) for place, shape in enumerate(shapes)]
    constants += [weights(f"bias{place}", shape[0]) for place, shape in enumerate(shapes) if biased]
    constants += [numpy_helper.from_array(np.float32(end), name) for name, end in (("zero", 0), ("six", 6))]
    given = info("y", "batch", 8, "height", "width")
    return make(nodes, [info("image", "batch", 3, "height", "width")], [given], constants)


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


def errors(artifact: Path, model: onnx.ModelProto, rows: list[dict[str, np.ndarray]]) -> np.ndarray:
    session = open_session(OpenRequest(directory=artifact, precision="int8"))
    right = ReferenceEvaluator(model)
    return np.concatenate([session.run(row)["y"] - right.run(None, row)[0] for row in rows])


@pytest.mark.parametrize("biased", [True, False])
def test_convolutions_answer_nearer_than_with_weights_rounded_to_nearest(
    compiled: Build, monkeypatch: pytest.MonkeyPatch, biased: bool
) -> None:
    model, rows = network(biased=biased), images(30, blue=1.0)
    rows = [{"image": np.kron(row["image"], np.ones((2, 2), np.float32))} for row in rows]
    ours, said = compiled(model, "int8", calibration=rows[:20])
    assert said.notes[0].startswith("4 of 4 multiplications and convolutions are int8")
    monkeypatch.setattr("edgekit_openvino.quantize.round_again", lambda made, watched: None)
    nearest, _ = compiled(model, "int8", calibration=rows[:20])
    near, far = (errors(path, model, rows[20:]) for path in (ours, nearest))
    assert (near**2).mean() < 0.8 * (far**2).mean()
    assert np.abs(near.mean(axis=(0, 2, 3))).mean() < 0.7 * np.abs(far.mean(axis=(0, 2, 3))).mean()


def waves() -> onnx.ModelProto:
    """Two convolutions of one spatial axis."""
    nodes = [
        helper.make_node("Conv", ["wave", "first", "shift"], ["a"], "first", pads=[4, 4]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second", "shift2"], ["y"], "second", pads=[4, 4]),
    ]
    constants = [
        weights("first", 16, 3, 9),
        weights("shift", 16),
        weights("second", 8, 16, 9),
        weights("shift2", 8),
    ]
    return make(nodes, [info("wave", "batch", 3, 64)], [info("y", "batch", 8, 64)], constants)


def test_biases_of_convolutions_that_are_not_rounded_again_are_corrected_all_the_same(
    compiled: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    drawn = (rng.uniform(0, 1, (1, 3, 16)).astype(np.float32) for _ in range(30))
    rows = [{"wave": np.repeat(one, 4, axis=2)} for one in drawn]
    model = waves()
    ours, said = compiled(model, "int8", calibration=rows[:20])
    assert said.notes[0].startswith("2 of 2")
    off = functools.partial(advanced, corrected=True)
    monkeypatch.setattr("edgekit_openvino.quantize.advanced", lambda whole, corrected: off(whole=whole))
    without, _ = compiled(model, "int8", calibration=rows[:20])
    near, far = (errors(path, model, rows[20:]) for path in (ours, without))
    assert np.abs(near.mean(axis=(0, 2))).mean() < 0.7 * np.abs(far.mean(axis=(0, 2))).mean()


def test_biases_are_stored_as_numbers(compiled: Build) -> None:
    artifact, _ = compiled(network(), "int8", calibration=images(16, blue=1.0))
    kinds = {node.get_type_name() for node in ov.Core().read_model(artifact / "model.xml").get_ops()}
    assert not kinds & {"ShapeOf", "VariadicSplit"}, "a chain of shapes stands where the bias is"


def block(wide: int) -> onnx.ModelProto:
    """A convolution to 8 channels; one to `wide` of them and one back, added to what they read; one more."""
    sizes = {"first": (8, 3), "there": (wide, 8), "back": (8, wide), "last": (4, 8)}
    ends = {"first": ("image", "a"), "there": ("a", "b"), "back": ("b", "c"), "last": ("d", "y")}
    nodes = [helper.make_node("Conv", [ends[name][0], name], [ends[name][1]], name) for name in sizes]
    nodes.insert(3, helper.make_node("Add", ["a", "c"], ["d"], "sum"))
    constants = [weights(name, *size, 1, 1) for name, size in sizes.items()]
    return make(nodes, [info("image", "batch", 3, 12, 12)], [info("y", "batch", 4, 12, 12)], constants)


@pytest.mark.parametrize(("wide", "rounded"), [(24, 0), (8, 2)])
def test_sums_that_are_thin_beside_what_is_added_are_not_rounded(
    compiled: Build, wide: int, rounded: int
) -> None:
    artifact, said = compiled(block(wide), "int8", calibration=images(16, blue=1.0))
    assert said.notes[0].startswith("4 of 4 multiplications and convolutions are int8")
    nodes = ov.Core().read_model(artifact / "model.xml").get_ops()
    (total,) = (node for node in nodes if node.get_friendly_name() == "sum")
    kinds = [source.get_node().get_type_name() for source in total.input_values()]
    assert kinds.count("FakeQuantize") == rounded


def test_a_stem_is_left_in_floats_where_a_depthwise_convolution_reads_it(compiled: Build) -> None:
    artifact, _ = compiled(network(STEM), "int8", calibration=images(16, blue=1.0))
    nodes = ov.Core().read_model(artifact / "model.xml").get_ops()
    floats = [
        node.get_friendly_name().split("/")[0]
        for node in nodes
        if node.get_type_name() in ("Convolution", "GroupConvolution")
        and node.input_value(0).get_node().get_type_name() != "FakeQuantize"
    ]
    assert sorted(floats) == ["conv0", "conv1"]


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
    assert ("overflow_fix" in advanced(whole=not wrong, corrected=True)) != wrong
