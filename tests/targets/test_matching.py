"""Whether a machine is the target: every key given must hold, and silence recognises nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.targets import load_target, match_machine, runs_on
from edgekit.targets.matching import NOT_RECOGNISABLE
from edgekit.values import Match, Target

from .conftest import MACHINES

N100, PI5 = MACHINES["n100"], MACHINES["pi5"]

FITS = {
    "architecture": (Match(arch="x86_64"), N100),
    "architecture as Windows words it": (Match(arch="AMD64"), N100),
    "architecture as macOS words it": (Match(arch="arm64"), PI5),
    "pattern, case ignored": (Match(cpu="intel(r) n*"), N100),
    "whole name": (Match(cpu="Intel(R) N100"), N100),
    "name with a NUL behind": (
        Match(device_tree="Raspberry Pi 5*"),
        replace(PI5, device_tree="Raspberry Pi 5 Model B Rev 1.0\0"),
    ),
    "system": (Match(system="linux"), N100),
    "features": (Match(isa=("avx2", "avx_vnni")), N100),
    "one of several GPUs": (Match(gpu="*4060"), replace(N100, gpu=("Intel UHD", "NVIDIA GeForce RTX 4060"))),
    "emulated where that is allowed": (Match(arch="aarch64", emulated=True), MACHINES["emulated-pi5"]),
}

MISSES = {
    "architecture": (Match(arch="aarch64"), N100, "architecture is x86_64"),
    "part of a name": (Match(cpu="Intel(R)"), N100, "CPU is 'Intel(R) N100'"),
    "a CPU that is not told": (Match(cpu="*"), PI5, "not told"),
    "device tree": (Match(device_tree="Raspberry Pi 4*"), PI5, "device-tree model is 'Raspberry Pi 5"),
    "no GPU": (Match(gpu="*"), N100, "GPU is not told"),
    "laptop card": (
        Match(gpu="NVIDIA GeForce RTX 4060"),
        replace(N100, gpu=("NVIDIA GeForce RTX 4060 Laptop GPU",)),
        "Laptop",
    ),
    "system": (Match(system="Android"), PI5, "system is Linux"),
    "features": (Match(isa=("avx2", "avx512f", "avx512_vnni")), N100, "lacks avx512f, avx512_vnni"),
    "emulation": (Match(arch="aarch64"), MACHINES["emulated-pi5"], "emulated"),
}


@pytest.mark.parametrize("case", FITS)
def test_a_machine_that_fits_is_the_target_and_the_grounds_are_named(case: str) -> None:
    match, machine = FITS[case]
    result = match_machine(Target(name="t", match=match), machine)
    assert result.ok
    assert result.reasons


@pytest.mark.parametrize("case", MISSES)
def test_a_machine_that_differs_is_not_and_the_difference_is_named(case: str) -> None:
    match, machine, reason = MISSES[case]
    result = match_machine(Target(name="t", match=match), machine)
    assert not result.ok
    assert reason in "; ".join(result.reasons)


def test_every_difference_is_named_not_only_the_first() -> None:
    result = match_machine(load_target("intel-n100"), MACHINES["emulated-pi5"])
    assert len(result.reasons) == 4


@pytest.mark.parametrize("emulated", [False, True])
def test_a_target_that_says_nothing_recognises_nothing(emulated: bool) -> None:
    result = match_machine(Target(name="t", match=Match(emulated=emulated)), N100)
    assert (result.ok, result.reasons) == (False, (NOT_RECOGNISABLE,))


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_this_machine_is_always_itself(machine: str) -> None:
    at_hand = MACHINES[machine]
    assert match_machine(load_target("this-machine", machine=at_hand), at_hand).ok
    assert match_machine(Target(name="this-machine"), at_hand).ok


def test_this_machine_of_one_is_not_another_with_fewer_features() -> None:
    target = load_target("this-machine", machine=N100)
    assert not match_machine(target, MACHINES["haswell"]).ok
    assert not match_machine(target, PI5).ok


def test_features_beyond_the_targets_are_told() -> None:
    result = match_machine(load_target("x86-64-v3"), MACHINES["server"])
    assert result.ok
    assert "avx512_vnni" in result.extra_isa
    assert match_machine(load_target("x86-64-v3"), MACHINES["haswell"]).extra_isa == ()


@given(pattern=st.text(max_size=20), cpu=st.text(max_size=20))
def test_no_pattern_and_no_name_breaks_matching(pattern: str, cpu: str) -> None:
    match_machine(Target(name="t", match=Match(arch="x86_64", cpu=pattern)), replace(N100, cpu=cpu))


def test_a_backend_runs_on_an_architecture_by_any_of_its_names_and_on_all_when_it_names_none() -> None:
    assert runs_on(("x86_64",), "AMD64")
    assert runs_on(("aarch64",), "arm64")
    assert not runs_on(("x86_64",), "aarch64")
    assert runs_on((), "riscv64")
