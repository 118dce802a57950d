"""Importing, probing and asking the compile half of a backend: real plugins, each broken in one way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgekit.errors import BackendUnavailable, ContractViolation, PluginBroken, PluginError, UnknownName
from edgekit.host.compiling import check_model, compile_model, probe_backend
from edgekit.values import CompileRequest
from tests.plugin_folders import install_plugin, make_plugin


def test_an_unknown_backend_is_an_unknown_name() -> None:
    with pytest.raises(UnknownName, match="no backend named 'nobody'"):
        probe_backend("nobody")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ImportError('libengine.so.9: cannot open')\n", "ImportError: libengine.so.9: cannot open"),
        ("raise SystemExit\n", "SystemExit"),
        ("import edgekit_test_broken.missing_part\n", "ModuleNotFoundError"),
    ],
)
def test_a_compile_half_that_cannot_be_imported_names_distribution_version_and_cause(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest, code: str, words: str
) -> None:
    folder = install_plugin(monkeypatch, tmp_path, "broken", "", version="4.2")
    module = folder / "edgekit_test_broken.py"
    module.write_text(module.read_text().replace('f"{__name__}:Compiler"', "'broken_half:Compiler'"))
    (folder / "broken_half.py").write_text(code)
    with pytest.raises(PluginBroken) as caught:
        compile_model("broken", request_, timeout=60)
    assert "edgekit-broken 4.2" in caught.value.message
    assert words in caught.value.message


def test_a_missing_engine_is_an_answer_of_probe_and_unavailable_for_compile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest
) -> None:
    folder = install_plugin(monkeypatch, tmp_path, "bare", "")
    module = folder / "edgekit_test_bare.py"
    module.write_text(module.read_text().replace('f"{__name__}:Compiler"', "'bare_half:Compiler'"))
    (folder / "bare_half.py").write_text("import an_engine_that_is_missing\n")
    probe = probe_backend("bare")
    assert not probe.available
    assert "an_engine_that_is_missing" in probe.reason
    assert "pip install 'edgekit-bare[compile]'" in probe.reason
    with pytest.raises(BackendUnavailable, match="an_engine_that_is_missing"):
        compile_model("bare", request_, timeout=60)


def test_probe_and_check_give_the_plugins_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest
) -> None:
    install_plugin(monkeypatch, tmp_path, "good")
    assert probe_backend("good").versions == {"fake": "1.0"}
    support = check_model("good", request_.model, request_.target)
    assert support.operators[0].op_type == "Identity"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("probe = lambda self: 1 / 0", "probe() raised ZeroDivisionError"),
        ("probe = lambda self: exit(1)", "probe() raised SystemExit"),
        ("probe = lambda self: True", "probe() returned bool, not Probe"),
        ("check = compile = None\n    def __init__(self): raise SystemExit(1)", "tried to end the process"),
    ],
)
def test_probe_keeps_its_promises_or_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, words: str
) -> None:
    install_plugin(monkeypatch, tmp_path, "odd", f"\nclass Compiler(Compiler):\n    {body}\n")
    with pytest.raises(ContractViolation) as caught:
        probe_backend("odd")
    assert words in caught.value.message


def test_check_may_not_write_and_foreign_errors_are_plugin_errors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest
) -> None:
    code = """
class Compiler(Compiler):
    def check(self, model, target):
        model.with_suffix(".cache").write_text("x")
        return super().check(model, target)
"""
    install_plugin(monkeypatch, tmp_path, "writer", code)
    with pytest.raises(
        ContractViolation, match=r"check\(\) touched the model's directory: added model\.cache"
    ):
        check_model("writer", request_.model, request_.target)
    install_plugin(
        monkeypatch, tmp_path, "raiser", "\nCompiler.check = lambda self, model, target: {}[model]\n"
    )
    with pytest.raises(PluginError, match="KeyError") as caught:
        check_model("raiser", request_.model, request_.target)
    assert type(caught.value) is PluginError


def test_a_compiler_without_a_method_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_plugin(monkeypatch, tmp_path, "half", "\nclass Compiler:\n    def probe(self): ...\n")
    with pytest.raises(ContractViolation, match="lacks check, compile"):
        probe_backend("half")


def test_listing_and_compiling_import_no_plugin_into_the_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_: CompileRequest
) -> None:
    folder = make_plugin(tmp_path, "apart", "raise RuntimeError('imported into the host')\n")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(PluginBroken, match="imported into the host"):
        compile_model("apart", request_, timeout=60)
    assert "edgekit_test_apart" not in sys.modules
