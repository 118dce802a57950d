"""zero-shot-classification: one of any labels for a text, by a model of natural language inference."""

from __future__ import annotations

from edgekit.tasks.base import ANSWER, WORDS, Column, ExportRecipe, Row
from edgekit.tasks.configs import not_entailment
from edgekit.tasks.text_classification import ARCHITECTURES, AUTO_CLASS


class ZeroShotClassification:
    """The candidate whose hypothesis the text entails most (Yin, Hay and Roth, "Benchmarking Zero-shot Text
    Classification", EMNLP 2019), judged by accuracy. A row is one run for each candidate."""

    name = "zero-shot-classification"
    columns = (
        Column(name="text", help="the text to classify"),
        Column(name="candidates", help="a list of the labels to choose from", holds=WORDS),
        Column(
            name="label", help="the right one of the candidates", holds=ANSWER, label=True, of="candidates"
        ),
    )
    answers = "zero-shot"
    metric = "accuracy"
    exports = (
        ExportRecipe(
            architectures=ARCHITECTURES,
            auto_class=AUTO_CLASS,
            outputs=("logits",),
            misfit=not_entailment,
            inferred=False,
        ),
    )

    def inputs(self, row: Row) -> tuple[tuple[str, str], ...]:
        """The text with a hypothesis for each candidate."""
        from edgekit_runtime.answers.zero_shot import hypothesis

        return tuple((row.text("text"), hypothesis(choice)) for choice in row.words("candidates"))
