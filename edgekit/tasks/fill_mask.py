"""fill-mask: the word that a mask token in a text stands for."""

from __future__ import annotations

from edgekit.tasks.base import ANSWER, Column, ExportRecipe, Row


class FillMask:
    """The likeliest token at the first mask, judged by accuracy."""

    name = "fill-mask"
    columns = (
        Column(name="text", help="the text, with the model's mask token (such as [MASK]) in it"),
        Column(
            name="word", help="the right word; upper and lower case are the same", holds=ANSWER, label=True
        ),
    )
    answers = "fill-mask"
    metric = "accuracy"
    exports = (
        ExportRecipe(
            architectures=("ForMaskedLM", "WithLMHeadModel"),
            auto_class="AutoModelForMaskedLM",
            outputs=("logits",),
        ),
    )

    def inputs(self, row: Row) -> tuple[str, ...]:
        """The text."""
        return (row.text("text"),)
