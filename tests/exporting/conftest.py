"""A tiny classifier, made once; tests that harm it take a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.models import tiny_classifier


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder that nobody may change."""
    return tiny_classifier(tmp_path_factory.mktemp("tiny") / "classifier")


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy of it to be harmed."""
    return Path(shutil.copytree(tiny, tmp_path / "classifier"))
