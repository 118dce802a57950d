"""The session half as far as it goes without a GPU: real plans of TensorRT for RTX, no pretended library.

Loading a plan, running it and profiling it need a GPU, and are not run by any test here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorrt_rtx_bindings as trt
from cuda.bindings import driver as cuda
from onnx import TensorProto, helper, numpy_helper

from edgekit_runtime.errors import HardwareMissing, InputError, OpenFailed, RunFailed
from edgekit_runtime.values import OpenRequest, Signature, TensorSpec
from edgekit_tensorrt.description import (
    DESCRIPTION_FILE,
    PLAN_FILE,
    EngineDescription,
    Here,
    InputRange,
    Profile,
    mismatch,
    read_description,
    read_header,
    read_plan,
    rebuild_hint,
    this_system,
)
from edgekit_tensorrt.driver import checked
from edgekit_tensorrt.engine import Engine
from edgekit_tensorrt.library import load_library
from edgekit_tensorrt.ranges import is_fixed, profile_for, usual_feeds
from edgekit_tensorrt.session import open_session

RTX_BITS = ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")


def item(name: str, *sizes: tuple[int, ...]) -> InputRange:
    smallest, usual, largest = sizes
    return InputRange(name=name, smallest=smallest, usual=usual, largest=largest)


SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="float16", shape=("batch", 8)),),
    outputs=(TensorSpec(name="y", dtype="float16", shape=("batch", 4)),),
)
PROFILES = (Profile(ranges=(item("x", (1, 8), (2, 8), (4, 8)),)),)


@cache
def plan(*capabilities: str) -> bytes:
    """A real plan of one MatMul in fp16, built by the real library for these compute capabilities."""
    weights = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float16)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["batch", 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse(model.SerializeToString())
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1, 8), (2, 8), (4, 8))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = len(capabilities)
    for place, word in enumerate(capabilities):
        assert config.set_compute_capability(getattr(trt.ComputeCapability, word), place)
    return bytes(builder.build_serialized_network(network, config))


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A whole artifact for sm_86 and sm_89, as the compiler leaves it."""
    write(tmp_path)
    return tmp_path


def write(directory: Path, content: bytes = b"", **changes: str | tuple[str, ...]) -> EngineDescription:
    (directory / PLAN_FILE).write_bytes(content or plan("SM86", "SM89"))
    description = EngineDescription(
        library="tensorrt-rtx",
        version=trt.__version__,
        architectures=("sm_86", "sm_89"),
        system=this_system(),
        precision="fp16",
        signature=SIGNATURE,
        profiles=PROFILES,
    )
    return replace(description, **changes).write(directory)  # type: ignore[arg-type]


def request(directory: Path, *, precision: str = "fp16", device: str = "gpu") -> OpenRequest:
    return OpenRequest(directory=directory, precision=precision, device=device)


class TestDescription:
    def test_what_was_written_is_read_again(self, artifact: Path) -> None:
        found = read_description(artifact)
        assert found.signature == SIGNATURE
        assert found.profiles == PROFILES
        assert (found.library, found.version) == ("tensorrt-rtx", trt.__version__)
        assert read_plan(artifact, found) == plan("SM86", "SM89")

    def test_writing_twice_gives_the_same_bytes(self, artifact: Path) -> None:
        first = (artifact / DESCRIPTION_FILE).read_bytes()
        write(artifact)
        assert (artifact / DESCRIPTION_FILE).read_bytes() == first

    @pytest.mark.parametrize(
        ("damage", "word"),
        [
            (lambda text: "", "not valid JSON"),
            (lambda text: text[: len(text) // 2], "not valid JSON"),
            (lambda text: "[]", "schema"),
            (lambda text: text.replace('"schema": 1', '"schema": 2'), "schema"),
            (lambda text: '{"schema": 1}', "engine"),
            (lambda text: '{"schema": 1, "engine": []}', "engine"),
            (lambda text: text.replace('"precision"', '"accuracy"'), "accuracy"),
            (lambda text: text.replace('"fp16"', "16"), "precision"),
            (lambda text: text.replace('"tensorrt-rtx"', '"tensorflow"'), "tensorflow"),
            (lambda text: text.replace('"smallest"', '"least"'), "least"),
            (lambda text: text.replace('"name": "x"', '"name": "z"', 1), "'x'"),
            (lambda text: json.dumps(json.loads(text) | {"engine": None}), "engine"),
        ],
    )
    def test_a_damaged_description_is_refused_by_name(
        self, artifact: Path, damage: Callable[[str], str], word: str
    ) -> None:
        path = artifact / DESCRIPTION_FILE
        path.write_text(damage(path.read_text()))
        with pytest.raises(OpenFailed, match=word) as caught:
            open_session(request(artifact))
        assert not isinstance(caught.value, HardwareMissing)
        assert str(path) in caught.value.message
        assert caught.value.hint

    def test_a_missing_description_is_refused(self, artifact: Path) -> None:
        (artifact / DESCRIPTION_FILE).unlink()
        with pytest.raises(OpenFailed, match=r"engine\.json is missing"):
            open_session(request(artifact))


class TestPlan:
    @pytest.mark.parametrize(
        ("damage", "word"),
        [
            (lambda data: b"", "has 0 bytes"),
            (lambda data: data[: len(data) // 2], "bytes"),
            (lambda data: data + b"\0", "bytes"),
            (lambda data: bytes(len(data)), "is not the plan"),
            (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "is not the plan"),
        ],
    )
    def test_a_damaged_plan_is_refused(
        self, artifact: Path, damage: Callable[[bytes], bytes], word: str
    ) -> None:
        path = artifact / PLAN_FILE
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(OpenFailed, match=word) as caught:
            open_session(request(artifact))
        assert not isinstance(caught.value, HardwareMissing)

    def test_a_missing_plan_is_refused(self, artifact: Path) -> None:
        (artifact / PLAN_FILE).unlink()
        with pytest.raises(OpenFailed, match=r"engine\.plan is missing"):
            open_session(request(artifact))

    @pytest.mark.parametrize("capability", RTX_BITS)
    def test_the_head_of_a_real_plan_names_what_it_was_built_for(self, capability: str) -> None:
        header = read_header(plan(capability))
        assert header is not None
        assert header.architectures == (capability.lower().replace("sm", "sm_"),)
        assert header.version == trt.__version__
        assert header.size == len(plan(capability))

    def test_the_head_names_all_of_several_architectures(self) -> None:
        header = read_header(plan("SM86", "SM89", "SM120"))
        assert header is not None
        assert header.architectures == ("sm_86", "sm_89", "sm_120")

    @pytest.mark.parametrize("data", [b"", b"vtrt", bytes(4096), b"\x7fELF" + bytes(100)])
    def test_other_bytes_have_no_head(self, data: bytes) -> None:
        assert read_header(data) is None

    def test_a_plan_that_contradicts_its_description_is_refused(self, tmp_path: Path) -> None:
        write(tmp_path, plan("SM75"))
        with pytest.raises(OpenFailed, match="built for sm_75, not sm_86, sm_89"):
            open_session(request(tmp_path))
        write(tmp_path, version="1.2.0.54")
        with pytest.raises(OpenFailed, match=r"version 1\.7.*says 1\.2\.0\.54"):
            open_session(request(tmp_path))
        write(tmp_path, bytes(4096))
        with pytest.raises(OpenFailed, match="no TensorRT-RTX engine"):
            open_session(request(tmp_path))


class TestRefusals:
    def test_another_device_is_refused(self, artifact: Path) -> None:
        with pytest.raises(OpenFailed, match="'gpu', not 'cpu'"):
            open_session(request(artifact, device="cpu"))

    def test_another_precision_is_refused(self, artifact: Path) -> None:
        with pytest.raises(OpenFailed, match="compiled for fp16, not fp32"):
            open_session(request(artifact, precision="fp32"))

    def test_another_version_is_refused_with_both_named(self, tmp_path: Path) -> None:
        """The plan says so too: its head is given the other version's bytes."""
        content = bytearray(plan("SM86", "SM89"))
        content[0x18:0x1C] = bytes((1, 2, 0, 54))
        write(tmp_path, bytes(content), version="1.2.0.54")
        with pytest.raises(OpenFailed) as caught:
            open_session(request(tmp_path))
        assert not isinstance(caught.value, HardwareMissing)
        assert "1.2.0.54" in caught.value.message
        assert trt.__version__ in caught.value.message
        assert "compile the model again" in caught.value.hint

    def test_another_system_is_refused_with_both_named(self, tmp_path: Path) -> None:
        write(tmp_path, system="windows-x86_64")
        with pytest.raises(OpenFailed, match=f"windows-x86_64; this machine is {this_system()}"):
            open_session(request(tmp_path))

    def test_another_architecture_is_refused_with_both_named(self, artifact: Path) -> None:
        description = read_description(artifact)
        for fitting in ("sm_86", "sm_89"):
            assert mismatch(description, Here(version=trt.__version__, architecture=fitting)) == ""
        here = Here(version=trt.__version__, architecture="sm_120", system=this_system())
        assert mismatch(description, here) == "the engine was built for sm_86, sm_89; the GPU here is sm_120"
        assert 'architectures = "sm_120"' in rebuild_hint(description, here)


class TestHardware:
    """A process of its own each, for which CUDA shows no GPU: what happens on a machine without one."""

    @pytest.mark.parametrize("library", ["tensorrt-rtx", "tensorrt"])
    def test_a_right_artifact_is_told_from_a_missing_gpu_without_a_crash(
        self, tmp_path: Path, library: str
    ) -> None:
        if library == "tensorrt-rtx":
            write(tmp_path)
        else:
            write(tmp_path, b"a plan of the other library", library=library, version="10.16.1.11")
        code = (
            "import sys; from pathlib import Path\n"
            "from edgekit_runtime.errors import EdgekitError\n"
            "from edgekit_runtime.values import OpenRequest\n"
            "from edgekit_tensorrt.session import open_session\n"
            "try:\n"
            "    open_session(OpenRequest(directory=Path(sys.argv[1]), precision='fp16', device='gpu'))\n"
            "except EdgekitError as error:\n"
            "    print(error.code, error.exit_code, error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("hardware-missing 4 "), done.stdout
        assert "NVIDIA driver" in done.stdout
        assert "run this on the device" in done.stdout

    def test_the_librarys_own_words_say_why_it_does_not_load_a_plan(self, tmp_path: Path) -> None:
        """The real library, given bytes that are no plan: it refuses them on every machine."""
        description = write(tmp_path, b"no plan at all" * 100)
        with pytest.raises(OpenFailed, match=r"cannot load .*engine\.plan: .+") as caught:
            Engine(load_library("tensorrt-rtx"), b"no plan at all" * 100, description, tmp_path)
        assert trt.__version__ in caught.value.message

    @pytest.mark.parametrize("error", [RunFailed, OpenFailed])
    def test_codes_of_cuda_become_errors_with_cudas_name(self, error: type[RunFailed | OpenFailed]) -> None:
        with pytest.raises(error, match="could not pin memory: CUDA_ERROR_OUT_OF_MEMORY") as caught:
            checked((cuda.CUresult.CUDA_ERROR_OUT_OF_MEMORY, None), "pin memory", error)
        assert "memory is full" in caught.value.hint
        assert checked((cuda.CUresult.CUDA_SUCCESS, 7), "count") == 7
        assert checked((cuda.CUresult.CUDA_SUCCESS,), "wait") is None


class TestRanges:
    def described(self, *profiles: Profile) -> EngineDescription:
        inputs = (
            TensorSpec(name="ids", dtype="int64", shape=("batch", "sequence")),
            TensorSpec(name="mask", dtype="int64", shape=("batch", "sequence")),
        )
        return EngineDescription(
            library="tensorrt",
            version="10.3.0",
            architectures=("sm_87",),
            system="linux-aarch64",
            precision="fp16",
            signature=Signature(inputs=inputs, outputs=()),
            profiles=profiles,
        )

    def ranges(self, *sizes: tuple[int, ...]) -> Profile:
        return Profile(ranges=(item("ids", *sizes), item("mask", *sizes)))

    def feeds(self, *shape: int) -> dict[str, np.ndarray]:
        return {name: np.ones(shape, np.int64) for name in ("ids", "mask")}

    def test_feeds_outside_the_profile_are_refused_with_the_range(self) -> None:
        description = self.described(self.ranges((1, 1), (1, 128), (4, 256)))
        with pytest.raises(InputError) as caught:
            profile_for(description, self.feeds(1, 300))
        assert caught.value.message == "input 'ids' has shape [1, 300]; the engine takes [1, 1] to [4, 256]"
        assert "compile the model again" in caught.value.hint

    def test_every_bound_is_still_inside(self) -> None:
        description = self.described(self.ranges((1, 1), (1, 128), (4, 256)))
        for shape in ((1, 1), (4, 256), (1, 256), (4, 1)):
            assert profile_for(description, self.feeds(*shape)) == 0
        for shape in ((5, 1), (0, 8), (1, 257)):
            with pytest.raises(InputError):
                profile_for(description, self.feeds(*shape))

    def test_the_first_profile_that_takes_all_inputs_is_chosen(self) -> None:
        description = self.described(
            self.ranges((1, 1), (1, 64), (1, 64)), self.ranges((1, 1), (8, 64), (8, 64))
        )
        assert profile_for(description, self.feeds(1, 16)) == 0
        assert profile_for(description, self.feeds(2, 16)) == 1
        with pytest.raises(InputError, match=r"\[1, 1\] to \[1, 64\] or \[1, 1\] to \[8, 64\]"):
            profile_for(description, self.feeds(9, 16))

    def test_an_engine_without_profiles_takes_its_one_shape(self) -> None:
        assert profile_for(self.described(), self.feeds(1, 16)) == 0
        assert is_fixed(self.described(), 0)

    def test_only_a_profile_of_one_shape_counts_as_fixed(self) -> None:
        description = self.described(self.ranges((1, 8), (1, 8), (1, 8)), self.ranges((1, 1), (1, 8), (2, 8)))
        assert [is_fixed(description, place) for place in (0, 1)] == [True, False]

    def test_made_up_feeds_have_the_shapes_that_the_engine_is_optimised_for(self) -> None:
        description = self.described(self.ranges((1, 1), (1, 128), (4, 256)))
        feeds = usual_feeds(description, 1)
        assert {name: value.shape for name, value in feeds.items()} == {"ids": (1, 128), "mask": (1, 128)}
        assert profile_for(description, feeds) == 0
