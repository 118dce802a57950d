"""token-classification: a tag for each word of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.tasks.base import TAGS, WORDS, Column, ExportRecipe, Row

if TYPE_CHECKING:
    from edgekit_runtime.processors.base import Words


class TokenClassification:
    """The tag of a word is that of its first token; judged by the F1 of entities."""

    name = "token-classification"
    columns = (
        Column(name="words", help="a list of the words of the text", holds=WORDS),
        Column(
            name="tags",
            help="a list of the right tags, one for each word",
            holds=TAGS,
            label=True,
            of="words",
        ),
    )
    answers = "tags"
    metric = "entity-f1"
    exports = (
        ExportRecipe(
            architectures=("ForTokenClassification",),
            auto_class="AutoModelForTokenClassification",
            outputs=("logits",),
        ),
    )

    def inputs(self, row: Row) -> tuple[Words, ...]:
        """The words."""
        from edgekit_runtime.processors.base import Words

        return (Words(row.words("words")),)
