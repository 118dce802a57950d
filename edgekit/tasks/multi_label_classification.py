"""multi-label-classification: every label that holds for a text."""

from __future__ import annotations

from edgekit.tasks.base import LABELS, Column, ExportRecipe, Row
from edgekit.tasks.configs import not_multi_label
from edgekit.tasks.text_classification import ARCHITECTURES, AUTO_CLASS, TEXT_COLUMNS, text_or_pair


class MultiLabelClassification:
    """Each label whose probability is above one half, judged by the F1 of all labels together."""

    name = "multi-label-classification"
    columns = (
        *TEXT_COLUMNS,
        Column(
            name="labels", help="a list of the right labels, which may be empty", holds=LABELS, label=True
        ),
    )
    answers = "multi-label"
    metric = "labels-f1"
    exports = (
        ExportRecipe(
            architectures=ARCHITECTURES, auto_class=AUTO_CLASS, outputs=("logits",), misfit=not_multi_label
        ),
    )

    def inputs(self, row: Row) -> tuple[str | tuple[str, str], ...]:
        """The text, or the pair."""
        return (text_or_pair(row),)
