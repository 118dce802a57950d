"""text-classification: one label for a text, or for a pair of texts."""

from __future__ import annotations

from edgekit.tasks.base import LABEL_COLUMN, Column, ExportRecipe, Row
from edgekit.tasks.configs import not_single_label

TEXT_COLUMNS = (
    Column(name="text", help="the text"),
    Column(name="text_pair", help="the second text of a pair", required=False),
)
ARCHITECTURES = ("ForSequenceClassification",)
AUTO_CLASS = "AutoModelForSequenceClassification"


def text_or_pair(row: Row) -> str | tuple[str, str]:
    """What the processor gets of `TEXT_COLUMNS`."""
    text = row.text("text")
    return (text, row.text("text_pair")) if "text_pair" in row.values else text


class TextClassification:
    """Top-1 of the logits, judged by accuracy."""

    name = "text-classification"
    columns = (
        *TEXT_COLUMNS,
        LABEL_COLUMN,
    )
    answers = "classification"
    metric = "accuracy"
    exports = (
        ExportRecipe(
            architectures=ARCHITECTURES, auto_class=AUTO_CLASS, outputs=("logits",), misfit=not_single_label
        ),
    )

    def inputs(self, row: Row) -> tuple[str | tuple[str, str], ...]:
        """The text, or the pair."""
        return (text_or_pair(row),)
