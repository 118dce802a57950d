"""Plugins are listed without importing them, loaded one by one, and a broken one hides no other."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from edgekit import discovery
from edgekit.errors import (
    ApiMismatch,
    BackendUnavailable,
    PluginBroken,
    PluginConflict,
    UnknownName,
)
from edgekit.stages.backends import list_backends
from edgekit.tasks import load_task
from edgekit.values import Outcome, StageEvent
from tests.plugin_folders import GOOD_BACKEND, install_plugin, make_plugin

OBSERVER = """
from pathlib import Path
from edgekit.api import DeviceKind, ReportFormat, TaskSpec, hookimpl

SEEN = []

@hookimpl
def edgekit_target_dirs():
    return [Path(__file__).parent / "targets"]

@hookimpl
def edgekit_tasks():
    return [TaskSpec(name="fortune-telling", factory=f"{__name__}:Task")]

@hookimpl
def edgekit_device_kinds():
    return [DeviceKind(scheme="pigeon", factory=f"{__name__}:open_device")]

@hookimpl
def edgekit_report_formats():
    return [ReportFormat(name="haiku", filename="report.txt", writer=f"{__name__}:render")]

@hookimpl
def edgekit_stage_finished(event):
    SEEN.append(event)

class Task:
    name = "fortune-telling"
    columns = ()
    answers = "tensor"
    metric = ""
    exports = ()
    def inputs(self, row): return ()

def render(manifest):
    return "five seven and five"
"""


def install_hooks(monkeypatch: pytest.MonkeyPatch, directory: Path, name: str, code: str) -> None:
    """A distribution with an entry point in group `edgekit.plugins`, for one test."""
    folder = directory / f"hooks-{name}"
    information = folder / f"edgekit_{name}-0.1.dist-info"
    information.mkdir(parents=True)
    (folder / f"edgekit_hooks_{name}.py").write_text(code)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: edgekit-{name}\nVersion: 0.1\n")
    (information / "entry_points.txt").write_text(f"[edgekit.plugins]\n{name} = edgekit_hooks_{name}\n")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, f"edgekit_hooks_{name}", raising=False)


@pytest.fixture(autouse=True)
def fresh_plugins() -> object:
    discovery._plugins.cache_clear()
    yield
    discovery._plugins.cache_clear()


def test_a_backend_outside_the_repository_is_found_and_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin(monkeypatch, tmp_path, "mine")
    assert "edgekit_test_mine" not in sys.modules
    assert "mine" in {entry.name for entry in discovery.backends()}
    assert "edgekit_test_mine" not in sys.modules, "listing imports nothing"
    assert discovery.load_backend("mine").summary == "a test"


def test_a_backend_whose_import_raises_is_named_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin(monkeypatch, tmp_path, "broken", "raise RuntimeError('no such driver')")
    install_plugin(monkeypatch, tmp_path, "mine")
    with pytest.raises(PluginBroken, match=r"edgekit-broken 0\.1.*RuntimeError: no such driver"):
        discovery.load_backend("broken")
    states = {row.name: row.state for row in list_backends()}
    assert (states["broken"], states["mine"]) == ("broken", "ready")


@pytest.mark.parametrize("raised", ["SystemExit(3)", "ImportError('libgpu.so')", "BaseException('x')"])
def test_whatever_a_plugin_raises_at_import_is_one_named_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: str
) -> None:
    install_plugin(monkeypatch, tmp_path, "broken", f"raise {raised}")
    with pytest.raises(PluginBroken, match="edgekit-broken"):
        discovery.load_backend("broken")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("SPEC['capabilities'] = ('telepathy',)", "telepathy"),
        ("NAME = 'other'", "describes itself as 'other'"),
        ("SPEC['builds_on'] = 'the moon'", "the moon"),
        (
            "def edgekit_backend(): raise KeyError('x')\nedgekit_backend = hookimpl(edgekit_backend)",
            "KeyError",
        ),
        ("def edgekit_backend(): return 7\nedgekit_backend = hookimpl(edgekit_backend)", "int"),
        ("def edgekit_backend(unknown): pass\nedgekit_backend = hookimpl(edgekit_backend)", "unknown"),
    ],
)
def test_a_description_that_cannot_be_true_is_a_broken_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, words: str
) -> None:
    install_plugin(monkeypatch, tmp_path, "odd", change)
    with pytest.raises(PluginBroken, match=words):
        discovery.load_backend("odd")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("SPEC['capabilities'] = None", "capabilities is None"),
        ("SPEC['arches'] = 'x86_64'", r"arches is 'x86_64', not tuple\[str"),
        ("SPEC['precisions'] = ('fp32', 8)", "precisions is"),
        ("SPEC['builds_on'] = ['target']", "builds_on is"),
        ("SPEC['device'] = None", "device is None, not str"),
        ("SPEC['engine_modules'] = (1,)", "engine_modules is"),
        ("SPEC['options'] = (1,)", r"options is \(1,\), not tuple\[OptionSpec"),
        ("SPEC['options'] = None", "options is None"),
        ("SAID['summary'] = None", "summary is None, not str"),
        ("SAID['compiler'] = open", "compiler is"),
        ("SAID['name'] = 3", "name is 3"),
        ("SAID['api_version'] = '1'", "api_version is '1', not an int"),
        ("SAID['api_version'] = None", "api_version is None"),
        ("OPTION['default'] = None", "option 'level': default is None"),
        ("OPTION['type'] = int", "option 'level': type is"),
        ("OPTION['choices'] = 'ab'", "option 'level': choices is"),
        ("OPTION['help'] = 7", "option 'level': help is 7"),
        ("OPTION['tunable'] = 'no'", "option 'level': tunable is 'no', not bool"),
        ("OPTION['name'] = ('a',)", "name is"),
    ],
)
def test_a_field_of_the_wrong_type_is_named_and_hides_no_other_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, words: str
) -> None:
    code = f"""
from edgekit.api import OptionSpec

OPTION = dict(name="level", type="int", default=1, help="how hard to try")
SAID = dict(name=NAME, summary="odd", api_version=1, compiler=f"{{__name__}}:Compiler")
{change}

@hookimpl
def edgekit_backend():
    return BackendSpec(**{{"options": (OptionSpec(**OPTION),), **SPEC, **SAID}})
"""
    install_plugin(monkeypatch, tmp_path, "odd", code)
    install_plugin(monkeypatch, tmp_path, "mine")
    with pytest.raises(PluginBroken, match=f"'odd' .*: {words}"):
        discovery.load_backend("odd")
    states = {row.name: row.state for row in list_backends()}
    assert (states["odd"], states["mine"]) == ("broken", "ready")


def test_another_api_version_says_which_side_to_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin(
        monkeypatch,
        tmp_path,
        "new",
        "def edgekit_backend():\n"
        "    return BackendSpec(name=NAME, summary='', api_version=99, compiler='x:y', **SPEC)\n"
        "edgekit_backend = hookimpl(edgekit_backend)",
    )
    with pytest.raises(ApiMismatch) as caught:
        discovery.load_backend("new")
    assert "upgrade edgekit" in caught.value.hint


def test_two_providers_of_one_name_are_both_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in ("1", "2"):
        folder = make_plugin(tmp_path / number, "twice", GOOD_BACKEND, version=f"0.{number}")
        info = next(folder.glob("*.dist-info"))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vendor-{number}\nVersion: 0.{number}\n")
        info.rename(info.with_name(f"vendor_{number}-0.{number}.dist-info"))
        monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    with pytest.raises(PluginConflict, match="vendor-1") as caught:
        discovery.load_backend("twice")
    assert "vendor-2" in caught.value.message


def test_an_unknown_backend_names_the_nearest_and_is_never_a_pip_command() -> None:
    with pytest.raises(UnknownName) as caught:
        discovery.load_backend("onxruntime")
    assert "did you mean 'onnxruntime'?" in caught.value.hint
    with pytest.raises(UnknownName) as caught:
        discovery.load_backend("zzz; rm -rf")
    assert "installed: example, onnxruntime, openvino" in caught.value.hint
    assert "pip" not in caught.value.hint and "zzz" not in caught.value.hint


def test_a_missing_engine_is_seen_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin(monkeypatch, tmp_path, "mine", "SPEC['engine_modules'] = ('json', 'no_such_engine.core')")
    assert discovery.missing_engine(discovery.load_backend("mine")) == ("no_such_engine.core",)
    (row,) = [row for row in list_backends() if row.name == "mine"]
    assert (row.state, row.capabilities) == ("engine missing", ("placement",))
    assert "no module no_such_engine.core: `pip install edgekit-mine`" in row.summary


def test_without_a_reference_backend_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "backends", lambda: ())
    with pytest.raises(BackendUnavailable, match="check an export") as caught:
        discovery.reference_backend()
    assert "pip install edgekit[all]" in caught.value.hint


@pytest.mark.parametrize(
    ("hidden", "chosen"),
    [
        ((), "onnxruntime"),
        (("onnxruntime",), "openvino"),
        (("openvino",), "onnxruntime"),
        (("onnxruntime", "openvino"), "example"),
    ],
)
def test_uninstalling_a_runtime_leaves_one_that_can_check_exports(
    monkeypatch: pytest.MonkeyPatch, hidden: tuple[str, ...], chosen: str
) -> None:
    real = discovery._is_installed
    monkeypatch.setattr(discovery, "_is_installed", lambda module: module not in hidden and real(module))
    assert discovery.reference_backend() == chosen


def test_reference_backends_without_their_engines_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_is_installed", lambda module: False)
    with pytest.raises(BackendUnavailable, match=r"openvino \(its engine, openvino, is not installed\)"):
        discovery.reference_backend()


def test_hooks_bring_targets_tasks_devices_and_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """edgekit_target_dirs, edgekit_tasks, edgekit_device_kinds, edgekit_report_formats."""
    install_hooks(monkeypatch, tmp_path, "extras", OBSERVER)
    assert discovery.plugin_target_dirs()[0].name == "targets"
    assert [kind.scheme for kind in discovery.plugin_device_kinds()] == ["pigeon"]
    assert [made.name for made in discovery.plugin_report_formats()] == ["haiku"]
    assert load_task("fortune-telling").answers == "tensor"


def test_observers_are_told_and_can_never_fail_a_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """edgekit_stage_finished is contained."""
    code = "from edgekit.api import hookimpl\n@hookimpl\ndef edgekit_stage_finished(event):\n raise "
    install_hooks(monkeypatch, tmp_path, "extras", OBSERVER)
    install_hooks(monkeypatch, tmp_path, "grumpy", f"{code}OSError")
    install_hooks(monkeypatch, tmp_path, "quitter", f"{code}SystemExit(0)")
    event = StageEvent(stage="compile", output=tmp_path, seconds=1.0, up_to_date=False, verdict=Outcome.PASS)
    discovery.stage_finished(event)
    assert [event] == importlib.import_module("edgekit_hooks_extras").SEEN
    assert "plugin grumpy raised in edgekit_stage_finished" in caplog.text
    assert "plugin quitter raised in edgekit_stage_finished: SystemExit: 0" in caplog.text


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "MemoryError"])
@pytest.mark.parametrize("place", ["import", "hook", "observer"])
def test_ctrl_c_and_want_of_memory_pass_every_wall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: str, place: str
) -> None:
    hook = {"hook": "edgekit_tasks()", "observer": "edgekit_stage_finished(event)"}.get(place)
    head = f"from edgekit.api import hookimpl\n@hookimpl\ndef {hook}:\n " if hook else ""
    install_hooks(monkeypatch, tmp_path, "stopped", f"{head}raise {raised}")
    event = StageEvent(stage="compile", output=tmp_path, seconds=1.0, up_to_date=False, verdict=Outcome.PASS)
    with pytest.raises((KeyboardInterrupt, MemoryError)):
        discovery.stage_finished(event) if place == "observer" else discovery.plugin_tasks()


def test_a_hook_plugin_that_exits_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    code = (
        "import sys\nfrom edgekit.api import hookimpl\n@hookimpl\ndef edgekit_device_kinds():\n sys.exit(0)"
    )
    install_hooks(monkeypatch, tmp_path, "extras", OBSERVER)
    install_hooks(monkeypatch, tmp_path, "quitter", code)
    assert [kind.scheme for kind in discovery.plugin_device_kinds()] == ["pigeon"]
    assert "plugin quitter raised in edgekit_device_kinds: SystemExit" in caplog.text


def test_a_hook_plugin_whose_import_raises_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install_hooks(monkeypatch, tmp_path, "extras", OBSERVER)
    install_hooks(monkeypatch, tmp_path, "wreck", "1 / 0")
    assert [kind.scheme for kind in discovery.plugin_device_kinds()] == ["pigeon"]
    assert "wreck" in caplog.text


def test_a_module_that_exits_when_it_is_asked_for_a_name_is_a_broken_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edgekit_test_lazy.py").write_text("def __getattr__(name): raise SystemExit(0)")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginBroken, match="SystemExit"):
        discovery.resolve("edgekit_test_lazy:thing")


@pytest.mark.parametrize("reference", ["no.such.module:x", "json:no_such_name", "json"])
def test_a_reference_that_leads_nowhere_is_a_broken_plugin(reference: str) -> None:
    with pytest.raises(PluginBroken):
        discovery.resolve(reference)
