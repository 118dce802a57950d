"""Tiny plugins as folders: a module and the metadata of a distribution, importable without pip."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

#: A complete, well-behaved backend that passes each input on as an output. Code that is appended
#: may replace any of its names; `edgekit_backend`, `Compiler` and `open` are looked up late.
GOOD_BACKEND = """
import numpy as np

from edgekit.api import (
    BackendSpec, Compiled, InputError, OperatorSupport, Placement, PlacementRow, Probe, SessionClosed,
    Signature, Support, TensorSpec, hookimpl,
)

SPEC = dict(arches=("x86_64", "aarch64", "arm64"), precisions=("fp32", "int8"), capabilities=("placement",))


@hookimpl
def edgekit_backend():
    return BackendSpec(name=NAME, summary="a test", api_version=1, compiler=f"{__name__}:Compiler", **SPEC)


class Compiler:
    def probe(self):
        return Probe(available=True, versions={"fake": "1.0"})

    def check(self, model, target):
        row = OperatorSupport(op_type="Identity", count=1, supported=True)
        return Support(supported=True, operators=(row,))

    def compile(self, request, progress):
        progress(0, 1, "copying")
        (request.workdir / "engine.bin").write_bytes(request.model.read_bytes())
        progress(1, 1, "copying")
        return Compiled(files=("engine.bin",), precision=request.precision, engine_versions={"fake": "1.0"})


class Session:
    def __init__(self, request):
        self.request = request
        self.closed = False
        tensor = dict(dtype="float32", shape=("batch", 4))
        self.signature = Signature(
            inputs=(TensorSpec(name="x", **tensor),), outputs=(TensorSpec(name="x_out", **tensor),)
        )

    def run(self, feeds):
        if self.closed:
            raise SessionClosed("the session is closed")
        if set(feeds) != {"x"}:
            raise InputError(f"inputs are {sorted(feeds)}, not ['x']")
        return {"x_out": np.array(feeds["x"])}

    def placement(self):
        return Placement(rows=(PlacementRow(precision="fp32", device="cpu", nodes=1),), source="fixed")

    def profile(self):
        return ()

    def close(self):
        self.closed = True


def open(request):
    return Session(request)
"""


def make_plugin(directory: Path, name: str, code: str, *, version: str = "0.1", module: str = "") -> Path:
    """Write backend `name` as the distribution `edgekit-NAME`; put the returned folder on sys.path.

    `code` is the whole module, which holds `edgekit_backend` and `open`; NAME is defined in it.
    """
    module = module or f"edgekit_test_{name.replace('-', '_')}"
    folder = directory / f"plugin-{name}-{version}"
    information = folder / f"edgekit_{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir(parents=True)
    (folder / f"{module}.py").write_text(f"NAME = {name!r}\n{code}", encoding="utf-8")
    metadata = f"Metadata-Version: 2.1\nName: edgekit-{name}\nVersion: {version}\n"
    (information / "METADATA").write_text(metadata, encoding="utf-8")
    points = f"[edgekit.backends]\n{name} = {module}\n\n[edgekit.openers]\n{name} = {module}:open\n"
    (information / "entry_points.txt").write_text(points, encoding="utf-8")
    return folder


def install_plugin(
    monkeypatch: pytest.MonkeyPatch, directory: Path, name: str, code: str = "", *, version: str = "0.1"
) -> Path:
    """Make GOOD_BACKEND plus `code` visible as backend `name`, here and in workers, for one test."""
    folder = make_plugin(directory, name, GOOD_BACKEND + code, version=version)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    for file in folder.glob("*.py"):
        monkeypatch.delitem(sys.modules, file.stem, raising=False)
    return folder
