"""custom: the user's own module. Its outputs are numbers; only their distance can be judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.errors import UsageError
from edgekit.tasks.base import Column, Row

if TYPE_CHECKING:
    from edgekit_runtime.processors.base import Processor
    from edgekit_runtime.session import Array

_NO_ROWS = "a model of task 'custom' has no processor, so labelled rows cannot be judged"
_HINT = "leave out --data; the goldens still compare the artifact with the original"


class Custom:
    """No processor, no labels, no metric: goldens and export checks compare the raw tensors."""

    name = "custom"
    columns: tuple[Column, ...] = ()
    agreement = "tensor"
    metric = ""
    export = None

    def feeds(
        self, processor: Processor, rows: Sequence[Row], *, pad_to: int | None = None
    ) -> dict[str, Array]:
        """Raises UsageError."""
        raise UsageError(_NO_ROWS, hint=_HINT)

    def predictions(self, outputs: Mapping[str, Array], labels: Sequence[str]) -> tuple[str, ...]:
        """Raises UsageError."""
        raise UsageError(_NO_ROWS, hint=_HINT)

    def correct(self, predictions: Sequence[str], rows: Sequence[Row]) -> tuple[bool, ...]:
        """Raises UsageError."""
        raise UsageError(_NO_ROWS, hint=_HINT)
