"""question-answering: the part of a context that answers a question."""

from __future__ import annotations

from edgekit.tasks.base import ANSWERS, Column, ExportRecipe, Row


class QuestionAnswering:
    """The likeliest span, judged by the F1 of its words as SQuAD scores them."""

    name = "question-answering"
    columns = (
        Column(name="question", help="the question"),
        Column(name="context", help="the text that holds the answer"),
        Column(name="answers", help="the right answer, or a list of them", holds=ANSWERS, label=True),
    )
    answers = "span"
    metric = "span-f1"
    exports = (
        ExportRecipe(
            architectures=("ForQuestionAnswering", "ForQuestionAnsweringSimple"),
            auto_class="AutoModelForQuestionAnswering",
            outputs=("start_logits", "end_logits"),
        ),
    )

    def inputs(self, row: Row) -> tuple[tuple[str, str], ...]:
        """The question and the context."""
        return ((row.text("question"), row.text("context")),)
