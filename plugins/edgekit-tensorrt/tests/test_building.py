"""Engines are really built, by TensorRT for RTX, on a machine that needs no GPU. None of them is run here."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.api import (
    BackendUnavailable,
    CompileFailed,
    CompileRequest,
    PrecisionNotGiven,
    Signature,
    TensorSpec,
    UnknownName,
)
from edgekit_tensorrt.compiler import Compiler
from edgekit_tensorrt.description import PLAN_FILE, read_description, read_header, read_plan
from edgekit_tensorrt.library import load_library

from .conftest import Build, target
from .models import cnn, gemm, info, make, minilm_like, rows, signature, vit_like

MODELS = {"minilm-like": minilm_like, "cnn": cnn, "vit-like": vit_like}
AMPERE_ON = ("sm_80", "sm_86", "sm_89", "sm_120")
KINDS = [(word, arch) for word in ("fp32", "fp16", "int8") for arch in AMPERE_ON]
KINDS += [("fp16", "sm_75"), ("int8", "sm_75")]
#: Every kind of one model, and of the others the newest and the oldest; `make test-slow` builds them all.
BUILDS = [
    pytest.param(
        name,
        *kind,
        marks=() if name == "minilm-like" or kind[1] in ("sm_75", "sm_120") else pytest.mark.slow,
    )
    for name in MODELS
    for kind in KINDS
]


@pytest.fixture(scope="module")
def full_sizes() -> dict[str, int]:
    """Bytes of each model's weights in fp32."""
    return {
        name: sum(len(tensor.raw_data) for tensor in make_it().graph.initializer)
        for name, make_it in MODELS.items()
    }


@pytest.mark.parametrize(("name", "precision", "arch"), BUILDS)
def test_an_engine_is_built_for_the_architecture_and_in_the_precision_asked(
    compiled: Build, full_sizes: dict[str, int], name: str, precision: str, arch: str
) -> None:
    model = MODELS[name]()
    artifact, said = compiled(model, precision, arch, calibration=rows(model))
    assert said.precision == precision
    assert said.files == ("engine.plan", "engine.json")
    assert sorted(path.name for path in artifact.iterdir()) == ["engine.json", "engine.plan"]
    described = read_description(artifact)
    assert (described.architectures, described.precision) == ((arch,), precision)
    plan = read_plan(artifact, described)
    header = read_header(plan)
    assert header is not None
    assert header.architectures == (arch,)
    # The kernels' own bytes come on top of the weights, which are 4, 2 or about 1 byte each.
    weights = {"fp32": 1.0, "fp16": 0.5, "int8": 0.25}[precision] * full_sizes[name]
    assert weights < len(plan) < weights + 2_700_000


def test_bf16_is_built_from_ampere_on(compiled: Build) -> None:
    model = vit_like()
    for arch in ("sm_80", "sm_120"):
        artifact, _ = compiled(model, "bf16", arch, calibration=rows(model))
        assert read_description(artifact).precision == "bf16"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_two_builds_are_byte_identical(compiled: Build, precision: str) -> None:
    model = vit_like()
    first, second = (compiled(model, precision, calibration=rows(model))[0] for _ in range(2))
    for name in ("engine.plan", "engine.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_one_artifact_serves_several_architectures(compiled: Build) -> None:
    artifact, said = compiled(cnn(), architectures="sm_86, sm_89,sm_120")
    described = read_description(artifact)
    assert described.architectures == ("sm_86", "sm_89", "sm_120")
    header = read_header((artifact / PLAN_FILE).read_bytes())
    assert header is not None
    assert header.architectures == described.architectures
    assert any("sm_86, sm_89, sm_120" in note for note in said.notes)


def test_a_target_without_a_gpu_gets_every_gpu_since_ampere(compiled: Build) -> None:
    artifact, _ = compiled(cnn(), gpu_arch="")
    assert read_description(artifact).architectures == ("sm_80", "sm_86", "sm_89", "sm_120", "sm_121")


def test_the_artifact_says_what_built_it_and_keeps_the_models_names(compiled: Build) -> None:
    model = minilm_like(layers=1)
    artifact, said = compiled(model)
    described = read_description(artifact)
    assert described.library == "tensorrt-rtx"
    assert described.version == load_library("tensorrt-rtx").version == said.engine_versions["tensorrt-rtx"]
    assert described.signature == signature(model)
    assert described.system


def test_turing_multiplies_no_fp32_and_the_refusal_says_so(compiled: Build) -> None:
    with pytest.raises(PrecisionNotGiven, match=r"layers/product.*FP32 GEMM is not supported") as caught:
        compiled(gemm(), "fp32", "sm_75")
    assert "fp16, int8" in caught.value.hint
    assert "cudaError 35" not in caught.value.message


def test_a_precision_that_the_gpu_lacks_is_refused_with_those_it_has(compiled: Build) -> None:
    with pytest.raises(PrecisionNotGiven, match="no bf16 on sm_75; it has fp32, fp16, int8"):
        compiled(gemm(), "bf16", "sm_75")
    with pytest.raises(PrecisionNotGiven, match=r"no bf16 on sm_75; .* on every one of sm_75, sm_89"):
        compiled(gemm(), "bf16", architectures="sm_75,sm_89")


def test_an_architecture_that_nobody_builds_for_is_refused_with_those_there_are(compiled: Build) -> None:
    with pytest.raises(UnknownName, match=r"sm_8x.*sm_75, sm_80, sm_86, sm_89, sm_120, sm_121") as caught:
        compiled(gemm(), library="tensorrt-rtx", architectures="sm_8x")
    assert "sm_8" in caught.value.hint
    with pytest.raises(UnknownName, match="tensorrt-rtx does not build for 'sm_90'"):
        compiled(gemm(), "fp32", "sm_90", library="tensorrt-rtx")


def test_standard_tensorrt_that_is_not_installed_is_named_with_its_installation(compiled: Build) -> None:
    for arch, options in (("sm_87", {}), ("sm_89", {"library": "tensorrt"})):
        with pytest.raises(BackendUnavailable, match=f"tensorrt is needed to build for {arch}") as caught:
            compiled(gemm(), "fp32", arch, **options)
        assert "JetPack" in caught.value.hint
    with pytest.raises(UnknownName, match="builds for the GPU that it builds on"):
        compiled(gemm(), library="tensorrt", architectures="sm_86,sm_89")


def test_the_librarys_own_lines_are_the_error_without_its_noise(compiled: Build) -> None:
    bad = make(
        [onnx.helper.make_node("Reshape", ["x", "shape"], ["y"], "odd")],
        [info("x", 2, 3)],
        [info("y", 7, 1)],
        [onnx.numpy_helper.from_array(np.array([7, 1], np.int64), "shape")],
    )
    with pytest.raises(CompileFailed, match="odd") as caught:
        compiled(bad)
    assert "catchCudaError" not in caught.value.message
    assert "/_src/" not in caught.value.message


def test_a_signature_that_is_not_the_models_is_refused(compiled: Build) -> None:
    right = signature(gemm())
    renamed = Signature(
        inputs=(TensorSpec(name="z", dtype="float32", shape=("n", 16)),), outputs=right.outputs
    )
    narrow = Signature(inputs=(TensorSpec(name="x", dtype="int64", shape=("n", 16)),), outputs=right.outputs)
    other = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=("n", 9)),), outputs=right.outputs)
    for said, words in ((renamed, "no tensor 'z'"), (narrow, "'x' is float32"), (other, r"\[-1, 16\], not")):
        with pytest.raises(CompileFailed, match=words):
            compiled(gemm(), said=said)


@pytest.mark.parametrize("damage", ["empty", "noise", "half", "no-output", "no-inputs"])
def test_a_file_that_is_no_model_is_refused_before_the_library_sees_it(tmp_path: Path, damage: str) -> None:
    model = gemm()
    if damage == "no-output":  # the parser crashes on these two
        del model.graph.node[0].output[:]
    if damage == "no-inputs":
        del model.graph.node[0].input[1:]
    data = model.SerializeToString()
    data = {"empty": b"", "noise": bytes(range(256)) * 8, "half": data[: len(data) // 2]}.get(damage, data)
    path, workdir = tmp_path / "model.onnx", tmp_path / "work"
    path.write_bytes(data)
    workdir.mkdir()
    request = CompileRequest(
        model=path, signature=signature(gemm()), workdir=workdir, precision="fp32", target=target()
    )
    with pytest.raises(CompileFailed, match=r"model\.onnx"):
        Compiler().compile(request, lambda done, total, what: None)
    assert not list(workdir.iterdir())


def test_progress_is_told_in_the_librarys_own_phases(compiled: Build) -> None:
    told: list[tuple[int, int, str]] = []
    compiled(vit_like(), progress=lambda *step: told.append(step))
    assert told[0] == (0, 3, "reading the model")
    assert told[-1] == (3, 3, "done")
    phases = [what for _, _, what in told if what.startswith("tensorrt-rtx: ")]
    assert phases
    assert all(0 <= done <= total for done, total, what in told if what in phases)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, BrokenPipeError])
def test_what_is_raised_while_it_builds_stops_the_build(compiled: Build, stop: type[BaseException]) -> None:
    before = threading.active_count()

    def refuse(done: int, total: int, what: str) -> None:
        if what.startswith("tensorrt-rtx: "):
            raise stop

    with pytest.raises(stop):
        compiled(vit_like(), progress=refuse)
    assert threading.active_count() == before


def test_the_limit_of_workspace_is_in_the_notes(compiled: Build) -> None:
    _, said = compiled(cnn(), workspace_mib=256)
    assert "workspace at most 256 MiB" in said.notes


@pytest.mark.parametrize(
    "options",
    [
        {"workspace_mib": -1},
        {"workspace_mib": 10**15},
        {"profiles": f"batch=1:1:{10**12}"},
        {"profiles": f"batch=1:1:{10**30}"},
        {"profiles": "batch=0:0:0"},
    ],
)
def test_sizes_that_nothing_can_have_are_refused_in_words(compiled: Build, options: dict[str, int]) -> None:
    with pytest.raises(CompileFailed):
        compiled(cnn(), **options)


def test_a_timing_cache_is_standard_tensorrts_alone(compiled: Build) -> None:
    with pytest.raises(CompileFailed, match="tensorrt-rtx has no timing cache"):
        compiled(cnn(), timing_cache="timing.cache")


def test_building_prints_nothing(compiled: Build, capfd: pytest.CaptureFixture[str]) -> None:
    compiled(cnn())
    assert capfd.readouterr() == ("", "")


def test_probe_names_the_library_and_its_version() -> None:
    probe = Compiler().probe()
    assert probe.available
    assert probe.versions["tensorrt-rtx"].startswith("1.")


def test_a_missing_library_is_an_answer_that_says_how_to_install_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    probe = Compiler().probe()
    assert not probe.available
    assert "edgekit-tensorrt[rtx]" in probe.reason
    assert "JetPack" in probe.reason


def test_the_same_noise_line_is_left_out_whatever_follows_it() -> None:
    from edgekit_tensorrt.log import cleaned

    noise = (
        "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
        "/_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient for "
        "CUDA runtime version))"
    )
    line = "IBuilder::build: Error Code 4: API Usage Error (no profile. In validate at /_src/n.cpp:4)"
    assert cleaned([line, noise, line]) == ["IBuilder::build: Error Code 4: API Usage Error (no profile)"]
    # A GPU's own trouble is no noise.
    assert cleaned(["[checkMacros.cpp::catchCudaError::250] Cuda Runtime (cudaError 2: out of memory)"])
