"""Packages that carry what their artifact was compiled from, and are compiled again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.files.manifests import read_manifest, verify
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.package import PackageOptions, package
from edgekit.stages.parents import find_parent, table_of
from edgekit.values import DeviceSettings, Target, Workload
from edgekit_runtime.errors import DigestMismatch, OpenFailed, PackageError, SelfTestFailed
from edgekit_runtime.manifests import list_files
from edgekit_runtime.reader import open_package, read_info
from tests.conftest import Edgekit
from tests.plugin_folders import install_plugin

TARGET = Target(name="box", workload=Workload(sequence=8), device=DeviceSettings(uri="pigeon://coop"))
#: The tutorial backend, whose engine opens what its own version built, and answers wrongly when bent.
VERSIONED = """
from dataclasses import replace
from edgekit.api import OpenFailed, OptionSpec
from edgekit_example import compiler as good, session as good_session

SPEC = dict(
    arches=("x86_64", "AMD64", "aarch64", "arm64"), precisions=("fp32",), capabilities=("dynamic-shapes",),
    options=(OptionSpec(name="level", type="int", default=1, help="how hard to try"),),
)
VERSION = "1"

class Compiler(good.Compiler):
    def compile(self, request, progress):
        built = super().compile(request, progress)
        (request.workdir / "version.txt").write_text(VERSION)
        return replace(built, files=(*built.files, "version.txt"))

def open(request):
    built = (request.directory / "version.txt").read_text()
    if built != VERSION:
        raise OpenFailed(f"built by engine {built}, this is {VERSION}", hint="build it again")
    return good_session.open_session(request)
"""


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Path:
    return tiny_model


@pytest.fixture
def packed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with its source, of an artifact that engine 1 built with an option of its own."""
    install_plugin(monkeypatch, tmp_path, "versioned", VERSIONED)
    options = CompileOptions(target=TARGET, backend="versioned", options={"level": 3})
    compile_model(model, tmp_path / "built", options)
    with_source = PackageOptions(allow_failed=True, with_source=True)
    return package(tmp_path / "built", tmp_path / "box.edgekit", with_source).path


@pytest.fixture
def later(tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same package on a machine with engine 2."""
    install_plugin(monkeypatch, tmp_path / "later", "versioned", VERSIONED + '\nVERSION = "2"\n')
    return packed


def test_it_holds_the_model_once_and_a_device_unpacks_only_what_it_runs(packed: Path, model: Path) -> None:
    paths = [entry.path for entry in read_info(packed).files]
    assert {"source/manifest.json", "source/model.onnx"} <= {*paths}
    assert not [path for path in paths if path.startswith(("source/golden", "source/processor"))]
    with open_package(packed) as opened:
        assert sorted(path.name for path in opened.directory.iterdir()) == ["artifact", "golden", "processor"]
        opened.self_test()


def test_an_engine_of_another_version_says_how_to_build_it_here(later: Path) -> None:
    with open_package(later) as opened, pytest.raises(OpenFailed, match="built by engine 1") as caught:
        opened.self_test()
    assert caught.value.hint.startswith("build it again; or ")
    assert f"edgekit compile {later} -o DIR" in caught.value.hint


def test_without_its_source_a_package_does_not_speak_of_it(later: Path, tmp_path: Path, model: Path) -> None:
    bare = package(tmp_path / "built", tmp_path / "bare.edgekit", PackageOptions(allow_failed=True))
    with open_package(bare.path) as opened, pytest.raises(OpenFailed) as caught:
        opened.self_test()
    assert caught.value.hint == "build it again"
    with pytest.raises(UsageError, match="carries no source") as refused:
        compile_model(bare.path, tmp_path / "again")
    assert "--with-source" in refused.value.hint


def test_wrong_answers_on_a_device_point_to_building_it_there(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = """
class Wrong:
    def __init__(self, inner): self.inner = inner
    signature = property(lambda self: self.inner.signature)
    def run(self, feeds): return {name: -value for name, value in self.inner.run(feeds).items()}
    def placement(self): return self.inner.placement()
    def profile(self): return self.inner.profile()
    def close(self): self.inner.close()

def open(request):
    return Wrong(good_session.open_session(request))
"""
    install_plugin(monkeypatch, tmp_path / "wrong", "versioned", VERSIONED + wrong)
    with open_package(packed) as opened, pytest.raises(SelfTestFailed) as caught:
        opened.self_test()
    assert "edgekit compile" in caught.value.hint


def test_it_is_compiled_again_as_it_was_and_its_model_is_left_beside(
    later: Path, model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "again"
    result = compile_model(later, output)
    table = table_of(result.manifest.artifact)
    assert (output / "version.txt").read_text() == "2"
    assert (table.target.name, table.backend, table.recipe.options) == ("box", "versioned", {"level": 3})
    assert table.target.device.uri == "local", "how the packer reached the board says nothing here"
    left = tmp_path / "out" / "again.model"
    assert list_files(left, skip=()) == list_files(model, skip=())
    verify(left, read_manifest(left, "model"))
    assert find_parent(output, result.manifest, "model", None).path == left.resolve()
    repacked = package(output, tmp_path / "again.edgekit", PackageOptions(allow_failed=True))
    with open_package(repacked.path) as opened:
        assert opened.self_test().passed
    assert compile_model(later, output).up_to_date
    assert sorted(path.name for path in output.parent.iterdir()) == ["again", "again.model"]


def test_what_is_asked_for_goes_before_what_was_packed(later: Path, tmp_path: Path) -> None:
    asked = CompileOptions(target=Target(name="other", workload=TARGET.workload), options={"level": 5})
    table = table_of(compile_model(later, tmp_path / "again", asked).manifest.artifact)
    assert (table.target.name, table.recipe.options) == ("other", {"level": 5})


def test_a_damaged_package_is_refused_and_leaves_nothing(later: Path, tmp_path: Path) -> None:
    data = bytearray(later.read_bytes())
    data[len(data) // 2] ^= 1
    later.write_bytes(bytes(data))
    with pytest.raises((DigestMismatch, PackageError)):
        compile_model(later, tmp_path / "out" / "again")
    assert not (tmp_path / "out").exists()


def test_a_model_beside_that_is_another_is_never_taken_for_it(later: Path, tmp_path: Path) -> None:
    (tmp_path / "again.model").mkdir()
    (tmp_path / "again.model" / "mine.txt").write_text("mine")
    with pytest.raises(Exception, match="holds files and is not an edgekit directory"):
        compile_model(later, tmp_path / "again")
    assert (tmp_path / "again.model" / "mine.txt").read_text() == "mine"


def test_the_command_line_packs_the_source_and_compiles_the_package(
    model: Path, tmp_path: Path, edgekit: Edgekit
) -> None:
    target = tmp_path / "box.toml"
    target.write_text(
        'name = "box"\nextends = "this-machine"\nbackend = "example"\n[workload]\nsequence = 8\n'
    )
    built, file = tmp_path / "built", tmp_path / "box.edgekit"
    assert edgekit("compile", model, "-o", built, "--target", target).returncode == 0
    assert edgekit("package", built, "-o", file, "--allow-failed", "--with-source").returncode == 0
    done = edgekit("compile", file, "-o", tmp_path / "again", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["artifact"]["target"]["name"] == "box"
