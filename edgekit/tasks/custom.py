"""custom: the user's own module. Its outputs are numbers; only their distance can be judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.errors import UsageError
from edgekit.tasks.base import Column, Row

if TYPE_CHECKING:
    from edgekit_runtime.processors.base import Row as ModelRow


class Custom:
    """No processor, no labels, no metric: goldens and export checks compare the raw tensors."""

    name = "custom"
    columns: tuple[Column, ...] = ()
    answers = "tensor"
    metric = ""
    exports = ()

    def inputs(self, row: Row) -> tuple[ModelRow, ...]:
        """Raises UsageError."""
        raise UsageError(
            "a model of task 'custom' has no processor, so labelled rows cannot be judged",
            hint="leave out --data; the goldens still compare the artifact with the original",
        )
