"""An artifact is judged on the CPU features that its target has, not on those of the machine at hand."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from edgekit.files.tables import decode, encode
from edgekit.stages.compiling.isa import check_isa, kernel_feature
from edgekit.stages.compiling.workload_goldens import ShapedGoldens
from edgekit.values import Hardware, Match, Outcome, RunSettings, Target
from edgekit.values.isa import IsaRecord
from edgekit_runtime.goldens import read_goldens
from edgekit_runtime.values import Machine
from tests.stages.saturating import CASES, saturating

VNNI = Machine(
    arch="x86_64",
    system="Linux",
    cpu="a server",
    isa=("sse4_2", "f16c", "avx2", "fma", "avx512f", "avx512_vnni"),
    cores=2,
    usable_cores=2.0,
    memory_mib=8000,
)


def target(arch: str, *isa: str) -> Target:
    return Target(name="mine", match=Match(arch=arch, isa=isa))


def not_run(record: IsaRecord | None) -> str:
    """The reason of one that was not run."""
    assert record is not None
    assert (record.outcome, record.cpu, record.golden) == (Outcome.NOT_MEASURED, "", None)
    return record.reason


@pytest.mark.usefixtures("emulator")
def test_int8_that_overflows_without_vnni_is_caught_for_a_target_without_it(tmp_path: Path) -> None:
    record = check_isa(saturating(tmp_path, safe=False), target("x86_64", "avx2", "fma"), VNNI)
    assert record is not None
    assert (record.feature, record.cpu) == ("avx2", "emulator:x86_64/Haswell")
    assert record.outcome is Outcome.FAIL
    assert record.golden is not None
    assert (record.golden.agreeing, record.golden.cases) == (0, CASES)
    assert record.reason == record.golden.reason != ""
    assert decode(encode(record), IsaRecord, where="there and back") == record


@pytest.mark.usefixtures("emulator")
def test_int8_that_cannot_overflow_passes_there(tmp_path: Path) -> None:
    record = check_isa(saturating(tmp_path, safe=True), target("AMD64", "avx2"), VNNI)
    assert record is not None
    assert record.outcome is Outcome.PASS
    assert record.reason == f"{CASES} of {CASES} goldens agree"


@pytest.mark.usefixtures("emulator")
def test_what_overflows_only_at_the_workloads_shape_is_caught_there(tmp_path: Path) -> None:
    built = saturating(tmp_path / "spared", safe=False, sparing=True)
    wanted = target("x86_64", "avx2")
    alone = check_isa(built, wanted, VNNI)
    assert alone is not None
    assert alone.outcome is Outcome.PASS

    dense = read_goldens(saturating(tmp_path / "dense", safe=False).model / "golden")
    shaped = ShapedGoldens(goldens=dense, where="batch=1")
    record = check_isa(dataclasses.replace(built, shaped=shaped), wanted, VNNI)
    assert record is not None
    assert record.outcome is Outcome.FAIL
    assert record.reason.startswith("at the workload's shape (batch=1): ")
    assert record.shaped is not None
    assert (record.shaped.agreeing, record.shaped.cases) == (0, CASES)
    assert decode(encode(record), IsaRecord, where="there and back") == record


@pytest.mark.skipif(
    not os.environ.get("EDGEKIT_AARCH64_SYSROOT"), reason="EDGEKIT_AARCH64_SYSROOT names no root directory"
)
@pytest.mark.parametrize(("feature", "cpu"), [("asimd", "cortex-a53"), ("asimddp", "cortex-a76")])
def test_an_artifact_for_arm_runs_on_an_emulated_arm_cpu(tmp_path: Path, feature: str, cpu: str) -> None:
    record = check_isa(saturating(tmp_path, safe=True), target("aarch64", "asimd", feature), VNNI)
    assert record is not None
    assert (record.outcome, record.cpu) == (Outcome.PASS, f"emulator:aarch64/{cpu}")


def test_nothing_is_run_for_a_target_whose_kernels_are_those_of_this_machine(tmp_path: Path) -> None:
    built = saturating(tmp_path, safe=True)
    assert check_isa(built, target("", "avx512_vnni"), VNNI) is None
    known = Target(name="mine", match=Match(arch="x86_64"), hardware=Hardware(isa=("avx2", "avx512_vnni")))
    assert check_isa(built, known, VNNI) is None


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (target("x86_64", "avx2", "avx_vnni"), "has avx_vnni, which QEMU does not emulate"),
        (target("x86_64", "avx512f"), "has avx512f, which QEMU does not emulate"),
        (target("x86_64"), "names no CPU feature"),
        (target("riscv64", "v"), "no emulated CPU is known here for architecture riscv64"),
    ],
)
def test_what_cannot_be_emulated_is_not_measured_and_says_why(
    tmp_path: Path, wanted: Target, words: str
) -> None:
    assert words in not_run(check_isa(saturating(tmp_path, safe=True), wanted, VNNI))


def test_what_runs_on_no_cpu_is_not_measured(tmp_path: Path) -> None:
    built = dataclasses.replace(saturating(tmp_path, safe=True), run=RunSettings(device="gpu"))
    assert "it runs on gpu" in not_run(check_isa(built, target("x86_64", "avx2"), VNNI))


def test_without_the_emulator_nothing_is_measured_and_the_reason_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = saturating(tmp_path, safe=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    reason = not_run(check_isa(built, target("x86_64", "avx2"), VNNI))
    assert "qemu-x86_64 is not installed" in reason
    assert "apt install qemu-user" in reason


@pytest.mark.usefixtures("emulator")
def test_an_engine_that_cannot_open_the_artifact_there_proves_nothing_about_it(tmp_path: Path) -> None:
    built = saturating(tmp_path, safe=True)
    (built.directory / "model.onnx").write_bytes(b"no model")
    assert "it cannot be run there" in not_run(check_isa(built, target("x86_64", "avx2"), VNNI))


@pytest.mark.parametrize(
    ("arch", "words", "feature"),
    [
        ("x86_64", ("sse4_2", "avx2", "fma"), "avx2"),
        ("amd64", ("AVX2", "AVX512_VNNI"), "avx512_vnni"),
        ("arm64", ("asimd", "asimddp", "i8mm"), "i8mm"),
        ("aarch64", ("fp", "asimd"), "asimd"),
        ("x86_64", ("mmx",), ""),
        ("riscv64", ("v",), ""),
    ],
)
def test_kernels_are_chosen_by_the_strongest_feature(arch: str, words: tuple[str, ...], feature: str) -> None:
    assert kernel_feature(arch, words) == feature
