"""Promises of the compile half beyond the kit's: what is quantized, what is refused, and in which words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgekit.api import CompileFailed, OpenRequest, PrecisionNotGiven, UnknownName
from edgekit_onnxruntime import settings
from edgekit_onnxruntime.compiler import Compiler
from edgekit_onnxruntime.session import open_session

from .conftest import Build
from .models import FLOAT, info, make, target, two_layers, weights


def operators(artifact: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(artifact / "model.onnx").graph.node)


def answers(artifact: Path, precision: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = open_session(OpenRequest(directory=artifact, precision=precision))
    return session.run(feeds)


def test_int8_takes_a_transposed_gemm_with_declared_shapes(compiled: Build) -> None:
    model = two_layers()
    artifact, said = compiled(model, "int8")
    assert operators(artifact)["MatMulInteger"] == 2
    assert "2 of 2 multiplications" in said.notes[0]
    feeds = {"x": np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32)}
    (wanted,) = ReferenceEvaluator(model).run(None, feeds)
    got = answers(artifact, "int8", feeds)["y"]
    assert np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max()


def test_int8_leaves_a_weight_intact_that_a_gemm_shares_with_an_embedding(compiled: Build) -> None:
    model = make(
        [
            helper.make_node("Gather", ["table", "ids"], ["hidden"], "embedding"),
            helper.make_node("Gemm", ["hidden", "table"], ["y"], "head", transB=1),
        ],
        [info("ids", "tokens", kind=TensorProto.INT64)],
        [info("y", "tokens", 40)],
        [weights("table", 40, 24)],
    )
    feeds = {"ids": np.arange(40)}
    (wanted,) = ReferenceEvaluator(model).run(None, feeds)
    for embeddings in (True, False):
        artifact, _ = compiled(model, "int8", embeddings=embeddings)
        got = answers(artifact, "int8", feeds)["y"]
        assert np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max()


def test_int8_covers_a_head_that_is_the_transposed_embedding(compiled: Build) -> None:
    model = make(
        [
            helper.make_node("Gather", ["table", "ids"], ["hidden"], "embedding"),
            helper.make_node("Transpose", ["table"], ["turned"], "turn", perm=[1, 0]),
            helper.make_node("MatMul", ["hidden", "turned"], ["y"], "head"),
        ],
        [info("ids", "tokens", kind=TensorProto.INT64)],
        [info("y", "tokens", 40)],
        [weights("table", 40, 24)],
    )
    feeds = {"ids": np.arange(40)}
    (wanted,) = ReferenceEvaluator(model).run(None, feeds)
    for embeddings in (True, False):
        artifact, said = compiled(model, "int8", embeddings=embeddings)
        assert "1 of 1 multiplications" in said.notes[0]
        assert operators(artifact)["Transpose"] == 0
        got = answers(artifact, "int8", feeds)["y"]
        assert np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max()


def test_int8_stores_embeddings_in_int8_unless_told_not_to(compiled: Build) -> None:
    model = make(
        [
            helper.make_node("Gather", ["table", "ids"], ["hidden"], "embedding"),
            helper.make_node("MatMul", ["hidden", "weight"], ["y"], "layer"),
        ],
        [info("ids", "tokens", kind=TensorProto.INT64)],
        [info("y", "tokens", 64)],
        [weights("table", 500, 64), weights("weight", 64, 64)],
    )
    small, large = (compiled(model, "int8", embeddings=value)[0] / "model.onnx" for value in (True, False))
    assert small.stat().st_size < 0.4 * large.stat().st_size


@pytest.mark.parametrize("kept", ["layers/first", "layers/second"])
def test_a_node_kept_high_is_not_quantized(compiled: Build, kept: str) -> None:
    artifact, _ = compiled(two_layers(), "int8", keep_high=(kept,))
    assert operators(artifact)["MatMulInteger"] == 1
    assert operators(artifact)["MatMul"] == 1


def test_an_unknown_name_in_keep_high_is_refused_with_the_nearest(compiled: Build) -> None:
    with pytest.raises(UnknownName, match="layers/frist") as caught:
        compiled(two_layers(), "int8", keep_high=("layers/frist",))
    assert "layers/first" in caught.value.hint


def test_int8_is_refused_where_nothing_is_left_to_quantize(compiled: Build) -> None:
    with pytest.raises(PrecisionNotGiven, match="no MatMul or Gemm"):
        compiled(two_layers(), "int8", keep_high=("layers/first", "layers/second"))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_precisions_that_the_cpu_provider_only_emulates_are_refused(compiled: Build, precision: str) -> None:
    with pytest.raises(PrecisionNotGiven, match=precision):
        compiled(two_layers(), precision)


def test_sixteen_bit_weights_are_not_called_fp32(compiled: Build) -> None:
    half = TensorProto.FLOAT16
    model = make(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "layer")],
        [info("x", "batch", 8, kind=half)],
        [info("y", "batch", 8, kind=half)],
        [weights("w", 8, 8, dtype=np.float16)],
    )
    with pytest.raises(PrecisionNotGiven, match="16-bit weights"):
        compiled(model)


def test_a_quantized_model_is_not_called_fp32(compiled: Build) -> None:
    artifact, _ = compiled(two_layers(), "int8")
    with pytest.raises(PrecisionNotGiven, match="quantized already"):
        compiled(artifact / "model.onnx")


@pytest.mark.parametrize(
    ("arch", "isa", "kind"),
    [
        ("x86_64", ("avx2", "avx512_vnni"), TensorProto.INT8),
        ("x86_64", ("avx2", "avx_vnni"), TensorProto.INT8),
        ("x86_64", ("avx2", "fma"), TensorProto.UINT8),
        ("aarch64", ("asimd",), TensorProto.INT8),
    ],
)
def test_signed_weights_only_where_the_targets_cpu_multiplies_them_exactly(
    compiled: Build, arch: str, isa: tuple[str, ...], kind: int
) -> None:
    artifact, said = compiled(two_layers(), "int8", target=target(arch, *isa))
    stored = {item.name: item.data_type for item in onnx.load(artifact / "model.onnx").graph.initializer}
    assert stored["first_quantized"] == kind
    assert ("uint8" in said.notes[1]) == (kind == TensorProto.UINT8)


def test_asking_for_a_weight_type_overrides_the_choice(compiled: Build) -> None:
    artifact, said = compiled(
        two_layers(), "int8", target=target("x86_64", "avx512_vnni"), weight_type="uint8"
    )
    stored = {item.name: item.data_type for item in onnx.load(artifact / "model.onnx").graph.initializer}
    assert stored["first_quantized"] == TensorProto.UINT8
    assert said.notes[1] == "weights are uint8 as asked"


def test_int8_comes_out_the_same_twice(compiled: Build) -> None:
    first, second = (compiled(two_layers(), "int8")[0] / "model.onnx" for _ in range(2))
    assert first.read_bytes() == second.read_bytes()


def test_a_model_too_large_for_one_file_keeps_its_weights_beside_it(
    compiled: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MAX_SINGLE_FILE", 0)
    artifact, said = compiled(two_layers(), "int8")
    assert said.files == ("model.onnx", "model.onnx.data")
    answers(artifact, "int8", {"x": np.ones((1, 64), np.float32)})


def test_fp32_is_the_model_byte_for_byte_with_its_data_files(compiled: Build, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    path = source / "exported.onnx"
    onnx.save_model(
        two_layers(), path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=256
    )
    artifact, said = compiled(path)
    assert said.files == ("model.onnx", "first", "second")
    assert (artifact / "model.onnx").read_bytes() == path.read_bytes()
    assert (artifact / "first").read_bytes() == (source / "first").read_bytes()


def test_weights_that_are_missing_cut_short_or_outside_are_named(compiled: Build, tmp_path: Path) -> None:
    path = tmp_path / "exported.onnx"
    onnx.save_model(
        two_layers(), path, save_as_external_data=True, location="weights.bin", size_threshold=256
    )
    data = tmp_path / "weights.bin"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(CompileFailed, match=r"weights\.bin is truncated"):
        compiled(path)
    data.unlink()
    with pytest.raises(CompileFailed, match=r"weights\.bin, which is missing"):
        compiled(path)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../etc/passwd"
    onnx.save_model(model, path)
    with pytest.raises(CompileFailed, match="outside its own directory"):
        compiled(path)


def test_check_blames_the_operator_that_is_unknown_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = make(
        [
            helper.make_node("Relu", ["x"], ["a"], "first"),
            helper.make_node("Frobnicate", ["a"], ["b"], "second", domain="com.acme"),
            helper.make_node("Relu", ["b"], ["y"], "third"),
        ],
        [info("x", "batch", 4)],
        [info("y", "batch", 4)],
        domains={"com.acme": 1},
    )
    onnx.save_model(model, path)
    support = Compiler().check(path, target())
    assert not support.supported
    said = {row.op_type: (row.count, row.supported) for row in support.operators}
    assert said == {"Relu": (2, True), "com.acme.Frobnicate": (1, False)}
    (refused,) = [row for row in support.operators if not row.supported]
    assert "Frobnicate" in refused.reason


def test_check_blames_an_operator_that_has_no_kernel_for_its_type(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    double = TensorProto.DOUBLE
    model = make(
        [
            helper.make_node("Cast", ["x"], ["wide"], "cast", to=double),
            helper.make_node("Conv", ["wide", "kernel"], ["z"], "conv"),
            helper.make_node("Cast", ["z"], ["y"], "back", to=FLOAT),
        ],
        [info("x", "batch", 3, 8, 8)],
        [info("y", "batch", 2, 6, 6)],
        [weights("kernel", 2, 3, 3, 3, dtype=np.float64)],
    )
    onnx.save_model(model, path)
    support = Compiler().check(path, target())
    assert {row.op_type: row.supported for row in support.operators} == {"Cast": True, "Conv": False}


def test_compiling_says_how_far_it_is(compiled: Build, tmp_path: Path) -> None:
    from edgekit.api import CompileRequest, Signature

    path = tmp_path / "model.onnx"
    onnx.save_model(two_layers(), path)
    workdir = tmp_path / "out"
    workdir.mkdir()
    told: list[tuple[int, int]] = []
    request = CompileRequest(
        model=path,
        signature=Signature(inputs=(), outputs=()),
        workdir=workdir,
        precision="int8",
        target=target(),
    )
    Compiler().compile(request, lambda done, total, what: told.append((done, total)))
    assert told[-1] == (3, 3)
    assert told == sorted(told)
