"""Backends that are broken on purpose, each in one way, made from one that keeps every promise.

A sabotage is a folder with three modules (plugin, compiler, session) and the metadata of a
distribution, as pip would have installed it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

COMPLETE = Path(__file__).parent / "complete"

PLUGIN = """
from edgekit.api import API_VERSION, BackendSpec, OptionSpec, hookimpl

{code}

@hookimpl
def edgekit_backend():
    said = dict(
        name={name!r}, summary="A backend for tests", api_version=API_VERSION,
        compiler="{module}_compiler:Compiler", engine_modules=("onnx",),
        arches=("x86_64", "AMD64", "aarch64", "arm64"), precisions=("fp32", "int8"),
        capabilities=("reference", "dynamic-shapes", "placement", "profile", "keep-high"),
    )
    return BackendSpec(**{{**said, **globals().get("SAID", {{}})}})
"""

COMPILER = """
import os, signal, stat, sys, time
from dataclasses import replace
from pathlib import Path

import complete_compiler as complete
from complete_compiler import *

{code}
"""

SESSION = """
import os, signal, stat, sys, time
from pathlib import Path

import complete_session as complete
from complete_session import *
from edgekit_runtime.errors import *

{code}

def open_session(request):
    return Session(request)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """One broken backend.

    plugin, compiler, session: code that replaces names of the good one; caught_by: tests that must
    fail, by name with or without parameter; knock_ons: tests that cannot but fail too; settings:
    lines for the body of its conformance class; opener: whether it has the entry point of one.
    """

    name: str
    plugin: str = ""
    compiler: str = ""
    session: str = ""
    caught_by: tuple[str, ...] = ()
    knock_ons: tuple[str, ...] = ()
    settings: str = ""
    opener: bool = True

    @property
    def class_name(self) -> str:
        """The name of its conformance class."""
        return "Test" + "".join(word.capitalize() for word in self.name.split("-"))


def write_plugin(directory: Path, sabotage: Sabotage) -> Path:
    """Write the backend below `directory`; put the returned folder on PYTHONPATH, COMPLETE too."""
    module = "sabotage_" + sabotage.name.replace("-", "_")
    folder = directory / sabotage.name
    information = folder / f"edgekit_{module}-0.1.dist-info"
    information.mkdir(parents=True)
    parts = {
        f"{module}.py": PLUGIN.format(name=sabotage.name, module=module, code=sabotage.plugin),
        f"{module}_compiler.py": COMPILER.format(code=sabotage.compiler),
        f"{module}_session.py": SESSION.format(code=sabotage.session),
    }
    for name, code in parts.items():
        (folder / name).write_text(code, encoding="utf-8")
    distribution = f"Metadata-Version: 2.1\nName: edgekit-{sabotage.name}\nVersion: 0.1\n"
    (information / "METADATA").write_text(distribution, encoding="utf-8")
    points = f"[edgekit.backends]\n{sabotage.name} = {module}\n"
    if sabotage.opener:
        points += f"\n[edgekit.openers]\n{sabotage.name} = {module}_session:open_session\n"
    (information / "entry_points.txt").write_text(points, encoding="utf-8")
    return folder


def conformance_file(sabotages: Iterable[Sabotage]) -> str:
    """The source of a test file with one conformance class for each."""
    lines = ["from edgekit.testing import BackendContract", ""]
    for sabotage in sabotages:
        lines += ["", f"class {sabotage.class_name}(BackendContract):", f"    backend = {sabotage.name!r}"]
        lines += [f"    {line}" for line in sabotage.settings.splitlines()]
    return "\n".join(lines) + "\n"
