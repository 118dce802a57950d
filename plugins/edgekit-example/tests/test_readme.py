"""What the READMEs show is this distribution's own code, to the letter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
README = (HOME.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:python|toml)\n(.*?)```", README, re.DOTALL)
FILES = [HOME / "pyproject.toml", *HOME.glob("src/*/*.py"), *HOME.glob("tests/*.py")]


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_is_code_of_the_example(block: str) -> None:
    assert any(block in path.read_text(encoding="utf-8") for path in FILES)


def test_both_halves_the_entry_points_and_the_test_are_shown() -> None:
    assert len(BLOCKS) == 5
    assert all(name in README for name in ("plugin.py", "compiler.py", "session.py", "pyproject.toml"))


def test_each_file_of_the_example_fits_on_few_screens() -> None:
    for path in HOME.glob("src/*/*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 100, path.name
