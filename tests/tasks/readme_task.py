"""The task of edgekit/tasks/README.md, installed as the README says."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgekit import discovery
from tests.conftest import ROOT

TEXT = (ROOT / "edgekit" / "tasks" / "README.md").read_text(encoding="utf-8")
NAME = "same-question"


@contextmanager
def installed_task(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The README's module with its entry point as a distribution; gives the name of the task."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (points,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    ((group, entries),) = tomllib.loads(points)["project"]["entry-points"].items()
    ((name, module),) = entries.items()
    information = folder / "hooks" / "same_question-0.1.dist-info"
    information.mkdir(parents=True)
    (folder / "hooks" / f"{module}.py").write_text(code, "utf-8")
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: same-question\nVersion: 0.1\n", "utf-8"
    )
    (information / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n", "utf-8")
    monkeypatch.syspath_prepend(str(folder / "hooks"))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, module, raising=False)
    discovery._plugins.cache_clear()
    try:
        yield NAME
    finally:
        discovery._plugins.cache_clear()
