"""regression: a number for a text, or for a pair of texts."""

from __future__ import annotations

from edgekit.tasks.base import NUMBER, Column, ExportRecipe, Row
from edgekit.tasks.configs import not_regression
from edgekit.tasks.text_classification import ARCHITECTURES, AUTO_CLASS, TEXT_COLUMNS, text_or_pair


class Regression:
    """The model's one output, judged by the root of the mean squared error."""

    name = "regression"
    columns = (*TEXT_COLUMNS, Column(name="value", help="the right number", holds=NUMBER, label=True))
    answers = "number"
    metric = "rmse"
    exports = (
        ExportRecipe(
            architectures=ARCHITECTURES, auto_class=AUTO_CLASS, outputs=("logits",), misfit=not_regression
        ),
    )

    def inputs(self, row: Row) -> tuple[str | tuple[str, str], ...]:
        """The text, or the pair."""
        return (text_or_pair(row),)
