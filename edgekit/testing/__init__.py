"""The conformance kit: every promise of a backend as a test that its author inherits.

    from edgekit.testing import BackendContract

    class TestMine(BackendContract):
        backend = "mine"

`run_contract("mine")` does the same without a test file. Needs the extra `edgekit[testing]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.testing.runner import ContractResult, ContractRow, run_contract

if TYPE_CHECKING:
    from edgekit.testing.closeness import Closeness
    from edgekit.testing.contract import BackendContract

__all__ = ["BackendContract", "Closeness", "ContractResult", "ContractRow", "run_contract"]


def __getattr__(name: str) -> object:
    """Import pytest and numpy only for those who write tests."""
    from importlib import import_module

    homes = {"BackendContract": "edgekit.testing.contract", "Closeness": "edgekit.testing.closeness"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(homes[name]), name)
    return found
