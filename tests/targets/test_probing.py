"""A target file written from a machine: it loads, and recognises the machine that it was written from."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import OutputError, UsageError
from edgekit.targets import (
    check_threads,
    has_budget,
    load_target,
    match_machine,
    parse_target,
    probe_target,
    write_target,
)
from edgekit.targets.loading import target_from_table
from edgekit.values import Target
from edgekit_runtime.values import Machine

from .conftest import MACHINES


def loaded(machine: Machine, name: str = "mine") -> Target:
    return target_from_table(tomllib.loads(probe_target(machine, name)), "mine.toml")


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_a_probed_file_recognises_its_machine_and_no_other(machine: str) -> None:
    at_hand = MACHINES[machine]
    target = loaded(at_hand)
    found = {name for name, other in MACHINES.items() if match_machine(target, other).ok}
    # A file for an emulated board allows emulation, it does not demand it.
    assert found == ({"pi5", "emulated-pi5"} if machine == "emulated-pi5" else {machine})
    assert target.hardware.cores == at_hand.cores
    assert target.hardware.memory_mib == at_hand.memory_mib
    assert not has_budget(target.budget)


def test_the_gpu_that_a_machine_tells_is_what_engines_are_built_for() -> None:
    card = MACHINES["rtx-3060"]
    assert loaded(card).hardware.gpu_arch == "sm_86"
    assert load_target("this-machine", machine=card).hardware.gpu_arch == "sm_86"
    assert loaded(MACHINES["rtx"]).hardware.gpu_arch == "", "a name alone tells no architecture"


def test_a_machine_that_tells_little_of_itself_gets_a_warning_in_its_file() -> None:
    assert "others like it are taken for it" in probe_target(MACHINES["phone"], "mine")
    assert "others like it" not in probe_target(MACHINES["pi5"], "mine")


def test_threads_are_whole_usable_cores_and_at_least_one() -> None:
    assert loaded(MACHINES["haswell"]).run.threads == 1
    for usable, threads in ((0.2, 1), (2.9, 2), (float("nan"), 1), (float("inf"), 1)):
        machine = Machine(
            arch="x86_64", system="Linux", cpu="", isa=(), cores=64, usable_cores=usable, memory_mib=1
        )
        assert loaded(machine).run.threads == threads


def test_the_commented_budget_loads_once_it_is_uncommented() -> None:
    text = probe_target(MACHINES["n100"], "mine")
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("# [budget]"))
    open_lines = [*lines[:start], *(line.removeprefix("# ") for line in lines[start:])]
    target = target_from_table(tomllib.loads("\n".join(open_lines)), "mine.toml")
    assert target.budget.latency_p90_ms == 20
    assert target.budget.accuracy_drop == 0.5


def test_a_name_is_made_of_the_board_or_the_cpu_when_none_is_given() -> None:
    assert loaded(MACHINES["pi5"], "").name == "raspberry-pi-5-model-b-rev-1-0"
    assert loaded(MACHINES["n100"], "").name == "intel-r-n100"


@pytest.mark.parametrize("name", ["a b", "../x", "-x", "x" * 65, "this-machine"])
def test_a_name_that_cannot_be_a_targets_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        probe_target(MACHINES["n100"], name)


words = st.text(max_size=30)


@given(
    arch=st.sampled_from(["x86_64", "aarch64", "riscv64"]),
    cpu=words,
    device_tree=words,
    gpu=st.lists(words, max_size=2).map(tuple),
    isa=st.lists(words, max_size=3).map(tuple),
    usable=st.floats(),
    cores=st.integers(-1, 4096),
)
def test_whatever_a_machine_tells_the_file_loads_and_recognises_it(
    arch: str,
    cpu: str,
    device_tree: str,
    gpu: tuple[str, ...],
    isa: tuple[str, ...],
    usable: float,
    cores: int,
) -> None:
    machine = Machine(
        arch=arch,
        system="Linux",
        cpu=cpu,
        isa=isa,
        cores=cores,
        usable_cores=usable,
        memory_mib=100,
        device_tree=device_tree,
        gpu=gpu,
    )
    result = match_machine(loaded(machine, ""), machine)
    assert result.ok, result.reasons


def test_a_file_is_written_whole_and_replaces_only_when_told(tmp_path: Path) -> None:
    output = tmp_path / "kiosk.toml"
    write_target(probe_target(MACHINES["n100"], "kiosk"), output)
    assert load_target(output).name == "kiosk"
    with pytest.raises(OutputError, match="exists already"):
        write_target("x", output)
    write_target('name = "other"\n', output, replace=True)
    assert load_target(output).name == "other"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["kiosk.toml"]


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="directory"):
        write_target("x", tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        write_target("x", tmp_path / "missing" / "kiosk.toml")


def test_more_threads_than_the_quota_allows_are_refused() -> None:
    machine = MACHINES["haswell"]  # usable_cores 1.5: a quota of one core and a half
    check_threads(1, machine)
    with pytest.raises(UsageError, match="2 threads, but this machine lets this process use 1") as caught:
        check_threads(2, machine)
    assert "1.5 of 4 cores" in caught.value.message
    assert "--threads 1" in caught.value.hint
    check_threads(4, MACHINES["n100"])


def test_a_probed_text_is_the_target_that_its_file_would_be(tmp_path: Path) -> None:
    text = probe_target(MACHINES["n100"], "kiosk")
    assert parse_target(text).name == "kiosk"
    file = tmp_path / "kiosk.toml"
    write_target(text, file)
    assert parse_target(text, file) == load_target(file)
