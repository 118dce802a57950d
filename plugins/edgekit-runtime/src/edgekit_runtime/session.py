"""What a backend's session half implements.

Protocols, not base classes: a vendor's session needs no import of ours to be one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgekit_runtime.values import OpenRequest, OperatorTime, Placement, Signature

Array = NDArray[Any]
Feeds = Mapping[str, np.ndarray[Any, Any]]


@runtime_checkable
class Session(Protocol):
    """An opened artifact. All promises are tested by `edgekit backend test NAME`."""

    @property
    def signature(self) -> Signature:
        """Inputs and outputs as the engine sees them; symbolic axes keep the model's names."""

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """One inference.

        Blocks until every output is in host memory. The outputs belong to the caller: a later
        run never changes them. The feeds are not changed. Raises `InputError` for feeds that do
        not fit the signature, `SessionClosed` after `close()`.
        """

    def placement(self) -> Placement:
        """Precisions and devices of the graph as executed, not as wished."""

    def profile(self) -> tuple[OperatorTime, ...]:
        """Per-operator shares of time, costliest first; empty when the engine cannot tell."""

    def close(self) -> None:
        """Free everything. Calling it twice is fine."""


class Opener(Protocol):
    """Entry point of group `edgekit.openers`, named like the backend."""

    def __call__(self, request: OpenRequest) -> Session:
        """Open the artifact in `request.directory`.

        Raises `OpenFailed` when the files are damaged, the precision cannot be given, or the
        device is not there; it never falls back to another precision or device.
        """
