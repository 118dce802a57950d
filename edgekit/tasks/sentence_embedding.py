"""sentence-embedding: one vector for a text; two texts are compared by the cosine of theirs."""

from __future__ import annotations

from edgekit.tasks.base import NUMBER, Column, ExportRecipe, Row


class SentenceEmbedding:
    """Texts in, output `sentence_embedding` out. A sentence-transformers folder gives it, and the text
    tower of a model of images and texts."""

    name = "sentence-embedding"
    columns: tuple[Column, ...] = (
        Column(name="text", help="the text to embed"),
        Column(name="text_pair", help="the text to compare it with", required=False),
        Column(name="score", help="how alike the two are, on any scale", holds=NUMBER, label=True),
    )
    answers = "vector"
    metric = "spearman"
    exports = (
        ExportRecipe(
            architectures=("CLIPModel", "SiglipModel"),
            auto_class="AutoModel",
            outputs=("sentence_embedding",),
            module="edgekit.exporting.towers:text_tower",
        ),
    )

    def inputs(self, row: Row) -> tuple[str, ...]:
        """The text, or both."""
        return tuple(row.text(name) for name in ("text", "text_pair") if name in row.values)
