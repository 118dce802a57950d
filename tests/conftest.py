"""What tests of several rooms share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def unchanged_environment() -> object:
    """No test may leave the environment changed."""
    before = dict(os.environ)
    yield
    after = {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"}
    before.pop("PYTEST_CURRENT_TEST", None)
    assert after == before
