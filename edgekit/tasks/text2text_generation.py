"""text2text-generation: the text that a model writes in answer to a text."""

from __future__ import annotations

from edgekit.tasks.base import ANSWER, Column, ExportRecipe, Row
from edgekit.tasks.configs import not_text_to_text


class Text2TextGeneration:
    """Greedy search by an encoder-decoder, judged by the F-score of character n-grams (Popović, "chrF",
    WMT 2015)."""

    name = "text2text-generation"
    columns = (
        Column(name="text", help="what the model is given, with the prefix it was trained with, if any"),
        Column(name="answer", help="what it should write", holds=ANSWER, label=True),
    )
    answers = "text"
    metric = "chrf"
    exports = (
        ExportRecipe(
            architectures=(
                "ForConditionalGeneration",
                "MTModel",
                "T5WithLMHeadModel",
                "EncoderDecoderModel",
            ),
            auto_class="AutoModelForSeq2SeqLM",
            outputs=("tokens", "scores"),
            misfit=not_text_to_text,
            pipeline="encoder-decoder",
        ),
    )

    def inputs(self, row: Row) -> tuple[str, ...]:
        """The text."""
        return (row.text("text"),)
