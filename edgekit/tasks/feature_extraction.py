"""feature-extraction: the hidden states of a text model, for whatever comes after it."""

from __future__ import annotations

from edgekit.tasks.base import Column, ExportRecipe, Row
from edgekit.tasks.configs import not_an_encoder_of_text


class FeatureExtraction:
    """Numbers, compared as numbers."""

    name = "feature-extraction"
    columns: tuple[Column, ...] = (Column(name="text", help="the text"),)
    answers = "tensor"
    metric = ""
    exports = (
        ExportRecipe(
            architectures=("Model",),
            auto_class="AutoModel",
            outputs=("last_hidden_state",),
            misfit=not_an_encoder_of_text,
        ),
    )

    def inputs(self, row: Row) -> tuple[str, ...]:
        """The text."""
        return (row.text("text"),)
