"""The commands that look: targets, backends, doctor, help. Each prints for people and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.stages import doctor
from edgekit.targets import load_target
from edgekit.values import Probe
from tests.conftest import Edgekit

COMMANDS = (
    ("export",),
    ("compile",),
    ("validate",),
    ("diff",),
    ("report",),
    ("package",),
    ("run",),
    ("inspect",),
    ("doctor",),
    ("target", "list"),
    ("target", "show"),
    ("target", "check"),
    ("target", "probe"),
    ("backend", "list"),
    ("backend", "show"),
    ("backend", "check"),
    ("backend", "test"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_teaches_with_help(edgekit: Edgekit, command: tuple[str, ...]) -> None:
    done = edgekit(*command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert done.stderr == ""


def test_help_names_every_command_and_the_exit_codes(edgekit: Edgekit) -> None:
    shown = edgekit("--help").stdout
    assert all(command[0] in shown for command in COMMANDS)
    assert "130 interrupted" in " ".join(shown.split())


def test_the_version_is_that_of_the_distribution(edgekit: Edgekit) -> None:
    from importlib.metadata import version

    assert edgekit("--version").stdout.split() == ["edgekit", version("edgekit")]


def test_targets_are_listed_and_shown(edgekit: Edgekit) -> None:
    names = {entry["name"] for entry in json.loads(edgekit("target", "list", "--json").stdout)}
    assert names >= {
        "this-machine",
        "x86-64-v3",
        "x86-64-v4-vnni",
        "intel-n100",
        "raspberry-pi-4",
        "raspberry-pi-5",
        "android-arm64",
        "jetson-orin-nano",
        "rtx-4060",
    }
    for name in names:
        shown = json.loads(edgekit("target", "show", name, "--json").stdout)
        assert shown["name"] == name
        assert not any(key.startswith("latency") and value for key, value in shown["budget"].items())
    assert "Cortex-A76" in edgekit("target", "show", "raspberry-pi-5").stdout


def test_a_probed_target_loads_and_is_this_machine(edgekit: Edgekit, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    assert edgekit("target", "probe", "--name", "mine", "-o", file).returncode == 0
    assert load_target(file).name == "mine"
    done = edgekit("target", "check", file)
    assert "match" in done.stdout
    assert edgekit("target", "probe", "-o", file).returncode == 2, "an existing file is not replaced"


def test_a_probed_target_is_printed_as_json_with_and_without_a_file(edgekit: Edgekit, tmp_path: Path) -> None:
    alone = json.loads(edgekit("target", "probe", "--name", "mine", "--json").stdout)
    assert (alone["name"], alone["origin"]) == ("mine", "")
    file = tmp_path / "mine.toml"
    written = json.loads(edgekit("target", "probe", "--name", "mine", "-o", file, "--json").stdout)
    assert written == json.loads(edgekit("target", "show", file, "--json").stdout)
    refused = edgekit("target", "probe", "-o", file, "--json")
    assert (refused.returncode, json.loads(refused.stdout)["error"]["exit_code"]) == (2, 2)


def test_broken_and_doubled_targets_are_listed_with_their_problem(
    edgekit: Edgekit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "edgekit" / "targets"
    own.mkdir(parents=True)
    (own / "kiosk.toml").write_text('name = "kiosk"\nprecison = "int8"\n')
    (own / "intel-n100.toml").write_text('name = "intel-n100"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    shown = edgekit("target", "list")
    lines = {line.split()[0]: line for line in shown.stdout.splitlines()}
    assert shown.returncode == 0
    assert "UNUSABLE" in lines["kiosk"] and "precison" in lines["kiosk"]
    assert "also provided by" in lines["intel-n100"]
    assert "UNUSABLE" not in lines["raspberry-pi-5"]
    rows = json.loads(edgekit("target", "list", "--json").stdout)
    assert {row["name"] for row in rows if row["problem"]} == {"kiosk", "intel-n100"}
    monkeypatch.delenv("XDG_CONFIG_HOME")


def test_checking_a_target_says_what_cannot_be_measured_here(edgekit: Edgekit, tmp_path: Path) -> None:
    file = tmp_path / "kiosk.toml"
    file.write_text('name = "kiosk"\nextends = "raspberry-pi-5"\n[budget]\nlatency_p90_ms = 20\n')
    done = edgekit("target", "check", file, "--json")
    assert done.returncode == 5
    assert any(found["key"].startswith("match") for found in json.loads(done.stdout))
    file.write_text('name = "kiosk"\nextends = "raspberry-pi-5"\nbackend = "of-nobody"\n')
    done = edgekit("target", "check", file, "--json")
    assert done.returncode == 4
    assert any("'of-nobody' is installed" in found["message"] for found in json.loads(done.stdout))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "tensorrt", "example"])
def test_a_backend_is_shown_with_its_options(edgekit: Edgekit, name: str) -> None:
    shown = json.loads(edgekit("backend", "show", name, "--json").stdout)
    assert (shown["spec"]["name"], shown["probe"]["available"]) == (name, True)
    assert all(option["help"] for option in shown["spec"]["options"])
    assert name in edgekit("backend", "show", name).stdout


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "example"])
def test_a_backend_says_operator_by_operator_that_it_takes_the_model(
    edgekit: Edgekit, exported: Path, name: str
) -> None:
    done = edgekit("backend", "check", name, "--model", exported, "--target", "this-machine", "--json")
    support = json.loads(done.stdout)
    assert (done.returncode, support["supported"]) == (0, True)
    assert {"MatMul", "Softmax"} <= {row["op_type"] for row in support["operators"]}


def test_doctor_finds_everything_that_is_installed(edgekit: Edgekit) -> None:
    done = edgekit("doctor", "--json")
    states = {found["subject"]: found["state"] for found in json.loads(done.stdout)}
    assert done.returncode == 0
    assert {states[name] for name in ("torch", "backend onnxruntime", "backend openvino")} == {"ok"}


def test_doctor_tells_which_backend_it_is_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "probe_backend", lambda name: Probe(available=True))
    told: list[str] = []
    doctor.examine(lambda done, total, what: told.append(f"{done}/{total} {what}"))
    assert told[0] == f"0/{len(told)} asking backend example"


def test_an_interrupted_command_exits_with_130_and_leaves_nothing(sentiment: Path, tmp_path: Path) -> None:
    import signal
    import time

    command = [
        sys.executable,
        "-m",
        "edgekit",
        "export",
        str(sentiment / "model-frozen"),
        "-o",
        str(tmp_path / "m"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 60
        while not any(path.is_dir() for path in tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "Traceback" not in said
    assert "interrupted; nothing was left half-written" in said
    assert [path for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []
