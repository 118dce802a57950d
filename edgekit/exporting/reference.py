"""Running the exported file: by an installed backend with capability `reference`, in a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_runtime.values import Signature

if TYPE_CHECKING:
    from edgekit_runtime.session import Array


def reference_outputs(
    model: Path,
    signature: Signature,
    feeds: Sequence[Mapping[str, Array]],
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Sequence[Mapping[str, Array]]:
    """Outputs of the ONNX file for each of `feeds`, in fp32 on this machine."""
    from edgekit.host.reference import open_reference

    with open_reference(model, signature) as session:
        return session.run_many(feeds, on_progress)
