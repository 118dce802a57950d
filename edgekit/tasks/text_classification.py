"""text-classification: one label for a text, or for a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.tasks.base import Column, ExportRecipe, Row

if TYPE_CHECKING:
    from edgekit_runtime.processors.base import Processor
    from edgekit_runtime.session import Array


class TextClassification:
    """Top-1 of the logits, judged by accuracy."""

    name = "text-classification"
    columns = (
        Column(name="text", help="the text to classify"),
        Column(name="text_pair", help="the second text of a pair", required=False),
        Column(name="label", help="the right label, in the model's words or by its number", label=True),
    )
    agreement = "classification"
    metric = "accuracy"
    export = ExportRecipe(
        architectures=("ForSequenceClassification",),
        auto_class="AutoModelForSequenceClassification",
        outputs=("logits",),
    )

    def feeds(
        self, processor: Processor, rows: Sequence[Row], *, pad_to: int | None = None
    ) -> dict[str, Array]:
        """Tokenize the rows as one batch."""
        return processor.feeds([_texts(row) for row in rows], pad_to=pad_to)

    def predictions(self, outputs: Mapping[str, Array], labels: Sequence[str]) -> tuple[str, ...]:
        """The likeliest label of each row."""
        from edgekit_runtime.processors.classification import classify

        return tuple(prediction.label for prediction in classify(outputs, labels))

    def correct(self, predictions: Sequence[str], rows: Sequence[Row]) -> tuple[bool, ...]:
        """Exact match of labels."""
        return tuple(found == row.label for found, row in zip(predictions, rows, strict=True))


def _texts(row: Row) -> str | tuple[str, str]:
    pair = row.values.get("text_pair")
    return row.values["text"] if pair is None else (row.values["text"], pair)
