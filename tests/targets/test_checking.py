"""`edgekit target check`: what would go wrong, said before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from edgekit import discovery
from edgekit.errors import PluginBroken
from edgekit.targets import Finding, check_target, load_target
from edgekit.values import (
    BackendSpec,
    Budget,
    CompileSettings,
    DeviceSettings,
    Hardware,
    Match,
    OptionSpec,
    Probe,
    RunSettings,
    Target,
    Workload,
)

from .conftest import MACHINES

N100 = MACHINES["n100"]
SPEC = BackendSpec(
    name="mine",
    summary="",
    api_version=1,
    compiler="mine:Compiler",
    arches=("x86_64",),
    precisions=("fp32", "int8"),
    options=(
        OptionSpec(name="level", type="int", default=1, help="", choices=(1, 2)),
        OptionSpec(name="fast", type="bool", default=False, help="", stage="run"),
    ),
)
SOUND = Target(
    name="t",
    backend="mine",
    match=Match(arch="x86_64", cpu="Intel(R) N100"),
    hardware=Hardware(cores=4, memory_mib=16000, sources=("x",)),
    run=RunSettings(threads=4),
    budget=Budget(latency_p90_ms=20),
)


@pytest.fixture(autouse=True)
def one_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discovery knows one backend, `mine`, and its engine is there."""
    real = discovery.load_backend
    monkeypatch.setattr(discovery, "load_backend", lambda name: SPEC if name == "mine" else real(name))
    monkeypatch.setattr(discovery, "missing_engine", lambda spec: ())


def by_level(findings: Sequence[Finding], level: str) -> str:
    return "\n".join(f"{found.key}: {found.message}" for found in findings if found.level == level)


def exit_code(findings: Sequence[Finding]) -> int:
    return max((found.exit_code for found in findings), default=0)


def test_a_sound_target_on_its_own_machine_has_nothing_to_mend() -> None:
    findings = check_target(SOUND, N100, probe=lambda name: Probe(available=True))
    assert by_level(findings, "error") == by_level(findings, "warning") == ""
    assert "this machine is the target" in by_level(findings, "note")
    assert exit_code(findings) == 0


def test_a_backend_that_is_not_installed_is_said_with_how_to_get_it() -> None:
    jetson = replace(load_target("jetson-orin-nano"), backend="of-nobody")
    findings = check_target(jetson, MACHINES["jetson"])
    assert "'of-nobody' is installed" in by_level(findings, "error")
    assert "Install the distribution that provides it (installed: " in by_level(findings, "error")
    assert "pip install" not in by_level(findings, "error"), "a foreign name is no pip command"
    assert exit_code(findings) == 4


def test_an_engine_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "missing_engine", lambda spec: ("mine_engine",))
    findings = check_target(SOUND, N100)
    assert "mine_engine" in by_level(findings, "error")
    assert exit_code(findings) == 4


def test_the_backends_own_answer_is_passed_on() -> None:
    findings = check_target(SOUND, N100, probe=lambda name: Probe(available=False, reason="no driver"))
    assert "mine cannot work here: no driver" in by_level(findings, "error")


def test_a_broken_backend_is_a_finding_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> BackendSpec:
        raise PluginBroken("mine cannot be imported", hint="reinstall it")

    monkeypatch.setattr(discovery, "load_backend", broken)
    findings = check_target(SOUND, N100)
    assert "cannot be imported; reinstall it" in by_level(findings, "error")
    assert exit_code(findings) == 4


def test_an_engine_that_only_the_target_can_build_is_said_unless_the_target_can_be_reached() -> None:
    jetson = load_target("jetson-orin-nano")
    warned = "builds on the target itself: this machine is not it, and no other is named ([device] uri)"
    assert warned in by_level(check_target(jetson, N100), "warning")
    reached = replace(jetson, device=DeviceSettings(uri="ssh://me@board"))
    for target, machine in ((jetson, MACHINES["jetson"]), (reached, N100)):
        assert "builds on" not in by_level(check_target(target, machine), "warning")


def test_no_backend_is_a_note_that_says_what_to_do() -> None:
    findings = check_target(replace(SOUND, backend=""), N100)
    assert "--backend" in by_level(findings, "note")
    assert by_level(findings, "error") == ""


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (replace(SOUND, precision="bf16"), "builds fp32, int8"),
        (replace(SOUND, match=Match(arch="aarch64")), "runs on x86_64"),
        (replace(SOUND, compile=CompileSettings(options={"levle": 1})), "did you mean 'level'"),
        (replace(SOUND, compile=CompileSettings(options={"level": 3})), "is 3"),
        (replace(SOUND, compile=CompileSettings(options={"level": True})), "is True"),
        (replace(SOUND, compile=CompileSettings(options={"level": 1.5})), "is 1.5"),
        (replace(SOUND, compile=CompileSettings(options={"level": "much"})), "is 'much'"),
        (replace(SOUND, run=RunSettings(options={"fast": 1})), "is 1"),
        (replace(SOUND, run=RunSettings(options={"level": 1})), "no such run option"),
        (replace(SOUND, match=Match(isa=("avx512vnni",))), "did you mean 'avx512_vnni'"),
        (replace(SOUND, workload=Workload(batch=0)), "workload.batch"),
    ],
)
def test_what_the_backend_or_the_file_cannot_be_is_an_error(target: Target, named: str) -> None:
    findings = check_target(target, N100)
    assert named in by_level(findings, "error")
    assert findings[0].level == "error", "errors come first"
    assert exit_code(findings) in (2, 5)


def test_good_options_are_taken_as_numbers_and_as_text() -> None:
    options = CompileSettings(options={"level": 2})
    texts = (CompileSettings(options={"level": given}) for given in ("2", 2.0))
    for compile_options in (options, *texts):
        assert by_level(check_target(replace(SOUND, compile=compile_options), N100), "error") == ""


def test_another_machine_names_what_it_cannot_measure() -> None:
    target = replace(SOUND, budget=Budget(latency_p90_ms=20, peak_memory_mib=9, artifact_mib=5))
    findings = check_target(target, MACHINES["server"])
    warnings = by_level(findings, "warning")
    assert "this machine is not it" in warnings
    assert "NOT_MEASURED here: latency_p90_ms, peak_memory_mib" in warnings
    assert exit_code(findings) == 5
    fallback = replace(SOUND, budget=Budget(max_fallback=0.0))
    assert "NOT_MEASURED here: max_fallback" in by_level(
        check_target(fallback, MACHINES["server"]), "warning"
    )
    no_local_limit = replace(SOUND, budget=Budget(artifact_mib=5))
    assert exit_code(check_target(no_local_limit, MACHINES["server"])) == 0


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (replace(SOUND, budget=Budget(peak_memory_mib=20000)), "16000 MiB of memory"),
        (replace(SOUND, run=RunSettings(threads=8)), "the hardware has 4 cores"),
        (replace(SOUND, budget=Budget(latency_p50_ms=9, latency_p90_ms=3)), "decides nothing"),
    ],
)
def test_a_limit_or_a_thread_count_that_cannot_be_meant_is_a_warning(target: Target, named: str) -> None:
    assert named in by_level(check_target(target, N100), "warning")


def test_more_threads_than_usable_cores_is_a_warning() -> None:
    findings = check_target(replace(SOUND, match=Match(arch="x86_64")), MACHINES["haswell"])
    assert "more than the 1 usable here" in by_level(findings, "warning")


def test_a_machine_with_more_features_than_the_target_counts_on_is_noted() -> None:
    notes = by_level(check_target(load_target("x86-64-v3"), MACHINES["server"]), "note")
    assert "avx512_vnni" in notes
    assert "no limit is set" in notes


def test_limits_that_need_a_meter_or_a_generating_model_are_noted() -> None:
    notes = by_level(check_target(replace(SOUND, budget=Budget(energy_mj=5, ttft_ms=9)), N100), "note")
    assert "energy" in notes
    assert "ttft_ms: NOT_MEASURED" in notes
