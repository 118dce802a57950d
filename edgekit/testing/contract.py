"""The conformance kit's one class for authors.

from edgekit.testing import BackendContract

class TestMine(BackendContract):
    backend = "mine"
"""

from __future__ import annotations

from edgekit.testing.answers import GivesRightAnswers
from edgekit.testing.compiling import CompilesAsPromised
from edgekit.testing.describing import DescribesItself
from edgekit.testing.running import KeepsSessionPromises
from edgekit.testing.surviving import SparesTheProcess


class BackendContract(
    SparesTheProcess, KeepsSessionPromises, GivesRightAnswers, CompilesAsPromised, DescribesItself
):
    """Every promise of a backend as a test. Inherit it, name the backend, run pytest."""
