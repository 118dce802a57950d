"""The shipped target files: sound, sourced, recognisable, and without a limit."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekit
from edgekit.errors import UnknownName
from edgekit.targets import has_budget, list_targets, load_target, match_machine, places
from edgekit.targets.rules import KNOWN_AXES
from edgekit_runtime.machine import ARM_FEATURES, X86_FEATURES, read_machine

from .conftest import MACHINES

SHIPPED = {
    "this-machine", "x86-64-v3", "x86-64-v4-vnni", "intel-n100", "raspberry-pi-4", "raspberry-pi-5",
    "android-arm64", "jetson-orin-nano", "jetson-agx-orin", "rtx-4060", "rtx-3060", "rtx-5070", "l4", "t4",
}  # fmt: skip

#: Which shipped targets each machine is, `this-machine` aside.
RECOGNISED = {
    "n100": {"intel-n100", "x86-64-v3"},
    "haswell": {"x86-64-v3"},
    "server": {"x86-64-v3", "x86-64-v4-vnni"},
    "pi4": {"raspberry-pi-4"},
    "pi5": {"raspberry-pi-5"},
    "jetson": {"jetson-orin-nano"},
    "phone": {"android-arm64"},
    "rtx": {"rtx-4060", "x86-64-v3", "x86-64-v4-vnni"},
    "agx": {"jetson-agx-orin"},
    "rtx-4060-ti": {"x86-64-v3", "x86-64-v4-vnni"},
    **{card: {card, "x86-64-v3", "x86-64-v4-vnni"} for card in ("rtx-3060", "rtx-5070", "l4", "t4")},
    "emulated-pi5": set(),
}

#: (architecture, /proc/cpuinfo of one core, device-tree model) as such machines tell them.
RECORDED = {
    "intel-n100": (
        "x86_64",
        ("model name\t: Intel(R) N100", "flags\t\t: fpu sse4_2 movbe avx f16c fma avx2 avx_vnni"),
        "",
    ),
    "raspberry-pi-4": (
        "aarch64",
        ("Features\t: fp asimd evtstrm crc32 cpuid", "CPU implementer\t: 0x41", "CPU part\t: 0xd08"),
        "Raspberry Pi 4 Model B Rev 1.5",
    ),
    "raspberry-pi-5": (
        "aarch64",
        (
            "Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
            "CPU implementer\t: 0x41",
            "CPU part\t: 0xd0b",
        ),
        "Raspberry Pi 5 Model B Rev 1.0",
    ),
}


def test_every_shipped_target_is_listed_without_a_problem() -> None:
    entries = list_targets()
    assert {entry.name for entry in entries} == SHIPPED
    assert [entry.problem for entry in entries if entry.problem] == []
    assert all(entry.summary and entry.source == "shipped" for entry in entries)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_target_loads_and_promises_no_limit(name: str) -> None:
    target = load_target(name, machine=MACHINES["n100"])
    assert target.name == name
    assert target.precision == ("fp16" if name == "t4" else "fp32"), "Turing has no fp32 engines"
    assert not has_budget(target.budget)
    assert all(getattr(target.workload, axis) >= 1 for axis in KNOWN_AXES)
    assert target.run.threads >= 1


@pytest.mark.parametrize("name", sorted(SHIPPED - {"this-machine"}))
def test_a_shipped_target_has_sources_and_a_backend(name: str) -> None:
    target = load_target(name)
    assert target.hardware.sources
    assert all("https://" in source for source in target.hardware.sources)
    expected = {"x86_64": "openvino", "aarch64": "onnxruntime"}[target.match.arch]
    assert target.backend == ("tensorrt" if target.hardware.gpu else expected)


@pytest.mark.parametrize("name", sorted(SHIPPED - {"this-machine"}))
def test_a_target_with_a_gpu_says_what_is_built_for_it_and_where(name: str) -> None:
    target = load_target(name)
    hardware, on_board = target.hardware, name.startswith("jetson")
    assert bool(hardware.gpu_arch) == bool(hardware.gpu)
    assert bool(hardware.gpu_memory_mib) == bool(hardware.gpu and not on_board), "a board shares its memory"
    assert bool(hardware.power_modes) == on_board
    assert target.run.device == ("gpu" if hardware.gpu else "cpu")
    assert target.compile.builds_on == ("target" if on_board else "")
    assert dict(target.compile.options) == ({"library": "tensorrt"} if on_board else {})


@pytest.mark.parametrize("machine", sorted(RECOGNISED))
def test_each_machine_is_recognised_as_its_targets_and_no_other(machine: str) -> None:
    targets = [load_target(name) for name in SHIPPED - {"this-machine"}]
    found = {target.name for target in targets if match_machine(target, MACHINES[machine]).ok}
    assert found == RECOGNISED[machine]


def test_the_match_needs_no_feature_that_no_machine_is_asked_for() -> None:
    for target in map(load_target, SHIPPED - {"this-machine"}):
        assert set(target.match.isa) <= {*X86_FEATURES, *ARM_FEATURES}, target.name


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_recorded_machine_is_recognised_through_the_real_reader(name: str, tmp_path: Path) -> None:
    arch, cpuinfo, board = RECORDED[name]
    root = tmp_path / "root"
    (root / "proc" / "device-tree").mkdir(parents=True)
    (root / "proc" / "sys" / "kernel").mkdir(parents=True)
    (root / "proc" / "cpuinfo").write_text("\n".join(("processor\t: 0", *cpuinfo, "")), encoding="utf-8")
    (root / "proc" / "sys" / "kernel" / "arch").write_text(arch + "\n", encoding="utf-8")
    if board:
        (root / "proc" / "device-tree" / "model").write_text(board + "\0", encoding="utf-8")
    result = match_machine(load_target(name), read_machine(root))
    assert result.ok, result.reasons
    assert result.extra_isa == ()


def test_the_match_needs_no_feature_that_the_sourced_hardware_lacks() -> None:
    for target in map(load_target, SHIPPED - {"this-machine"}):
        if target.hardware.isa:
            assert set(target.match.isa) <= set(target.hardware.isa), target.name


def test_the_readme_names_every_key_and_its_example_loads(tmp_path: Path) -> None:
    readme = (Path(edgekit.__file__).parents[1] / "targets" / "README.md").read_text(encoding="utf-8")
    example = readme.split("```toml\n")[1].split("```")[0]
    path = tmp_path / "kiosk.toml"
    path.write_text(example, encoding="utf-8")
    target = load_target(path)
    assert (target.precision, target.run.threads, target.budget.latency_p90_ms) == ("int8", 2, 20)
    for table in (
        target,
        target.match,
        target.hardware,
        target.compile,
        target.run,
        target.workload,
        target.budget,
    ):
        keys = set(type(table).__dataclass_fields__) - {"origin", "options"}
        assert {key for key in keys if f"{key}`" not in readme and f"{key}]" not in readme} == set()


def test_an_installed_wheel_finds_the_targets_inside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "site-packages" / "edgekit" / "shipped_targets"
    inside.mkdir(parents=True)
    (inside / "board.toml").write_text('name = "board"\n', encoding="utf-8")
    monkeypatch.setattr(edgekit, "__file__", str(inside.parent / "__init__.py"))
    assert places.shipped_dir() == inside
    assert load_target("board").name == "board"


def test_a_foreign_package_called_targets_is_not_taken_for_the_shipped_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "site-packages" / "targets"
    foreign.mkdir(parents=True)
    (foreign / "this-machine.toml").write_text('name = "this-machine"\n', encoding="utf-8")
    monkeypatch.setattr(edgekit, "__file__", str(tmp_path / "site-packages" / "edgekit" / "__init__.py"))
    assert places.shipped_dir() is None
    with pytest.raises(UnknownName):
        load_target("this-machine")
