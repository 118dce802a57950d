"""What the tests of the runtime house share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def others_are_no_garbage() -> Iterator[None]:
    """The clock collects garbage before it measures, which takes most of a second where other files of the
    suite have left the objects of their libraries in this process."""
    gc.freeze()
    yield
    gc.unfreeze()
