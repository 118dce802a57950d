"""The gates of compile: an artifact that is wrong, or not what was asked for, is never kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import ArtifactWrong, ModelNotSupported, PrecisionNotGiven, UnknownName, UsageError
from edgekit.files.manifests import read_manifest
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.compiling.options import backend_options
from edgekit.values import BackendSpec, OptionSpec, Target
from tests.plugin_folders import install_plugin

#: The tutorial backend under another name, whose session can be bent.
BENT = """
from dataclasses import replace
from edgekit_example import compiler as good, session as good_session

SPEC = dict(
    arches=("x86_64", "AMD64", "aarch64", "arm64"), precisions=("fp32", "int8"),
    capabilities=("dynamic-shapes", "placement"),
)

class Compiler(good.Compiler):
    def compile(self, request, progress):
        built = super().compile(replace(request, precision="fp32"), progress)
        if request.precision == "int8":
            return replace(built, precision="int8")
        (request.workdir / "full.bin").write_bytes(bytes(1 << 20))  # what int8 saves
        return replace(built, files=(*built.files, "full.bin"))

def open(request):
    return Bent(good_session.open_session(replace(request, precision="fp32")))

class Bent:
    def __init__(self, inner): self.inner = inner
    signature = property(lambda self: self.inner.signature)
    def run(self, feeds): return self.inner.run(feeds)
    def placement(self): return self.inner.placement()
    def profile(self): return ()
    def close(self): self.inner.close()
"""
WRONG = (
    "\ndef wrong(self, feeds): return {k: -v for k, v in self.inner.run(feeds).items()}\nBent.run = wrong\n"
)
REFUSING = """
def check(self, model, target):
    row = OperatorSupport(op_type="Erf", count=6, supported=False, reason="no such unit on this chip")
    return Support(supported=False, operators=(row,))
Compiler.check = check
"""


def bent(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str = "") -> CompileOptions:
    install_plugin(monkeypatch, folder, "bent", BENT + code)
    return CompileOptions(backend="bent")


def test_an_artifact_that_answers_wrongly_is_not_kept(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = bent(monkeypatch, tmp_path, WRONG)
    with pytest.raises(ArtifactWrong, match="disagrees with the model"):
        compile_model(tiny_model, tmp_path / "a", options)
    assert not (tmp_path / "a").exists()
    kept = compile_model(tiny_model, tmp_path / "a", CompileOptions(backend="bent", keep_anyway=True))
    assert kept.manifest.artifact is not None
    assert any(note.startswith("kept anyway: disagrees") for note in kept.manifest.artifact.notes)


def test_int8_that_executes_in_fp32_is_not_kept(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bent(monkeypatch, tmp_path)
    with pytest.raises(PrecisionNotGiven, match="no node executes in it"):
        compile_model(tiny_model, tmp_path / "a", CompileOptions(backend="bent", precision="int8"))
    assert not (tmp_path / "a").exists()


def test_a_model_that_the_backend_refuses_is_not_compiled(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = bent(monkeypatch, tmp_path, REFUSING)
    with pytest.raises(ModelNotSupported, match=r"Erf \(6\): no such unit on this chip"):
        compile_model(tiny_model, tmp_path / "a", options)


def test_a_target_without_a_backend_says_how_to_name_one(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no backend"):
        compile_model(tiny_model, tmp_path / "a", CompileOptions(target=Target(name="bare")))


def test_a_new_budget_needs_no_new_artifact(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text('name = "t"\nextends = "this-machine"\nbackend = "onnxruntime"\n')
    assert not compile_model(tiny_model, tmp_path / "a", CompileOptions(target=file)).up_to_date
    file.write_text(file.read_text() + "[budget]\nartifact_mib = 100\n")
    assert compile_model(tiny_model, tmp_path / "a", CompileOptions(target=file)).up_to_date
    assert not compile_model(tiny_model, tmp_path / "a", CompileOptions(target=file, threads=1)).up_to_date
    assert read_manifest(tmp_path / "a", "artifact").input_digest("model")


OPTION = OptionSpec(name="level", type="int", default=2, help="how hard to try", choices=(1, 2, 3))
FLAG = OptionSpec(name="fast", type="bool", default=False, help="quicker")


def spec() -> BackendSpec:
    return BackendSpec(
        name="b", summary="", api_version=1, compiler="x:y", arches=(), precisions=(), options=(OPTION, FLAG)
    )


def test_options_are_typed_by_their_declaration_and_later_ones_win() -> None:
    assert backend_options(spec(), "compile") == {"level": 2, "fast": False}
    assert backend_options(spec(), "compile", {"level": "1"}, {"level": 3, "fast": "true"}) == {
        "level": 3,
        "fast": True,
    }
    assert backend_options(spec(), "run") == {}


@pytest.mark.parametrize("given", [{"level": "x"}, {"level": 4}, {"fast": "perhaps"}, {"level": True}])
def test_an_option_of_the_wrong_kind_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="option"):
        backend_options(spec(), "compile", given)  # type: ignore[arg-type]


def test_an_undeclared_option_names_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        backend_options(spec(), "compile", {"levle": 1})
    assert "level" in caught.value.hint
