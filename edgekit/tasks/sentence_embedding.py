"""sentence-embedding: one vector for a text. Vectors are compared as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.errors import UsageError
from edgekit.tasks.base import Column, ExportRecipe, Row

if TYPE_CHECKING:
    from edgekit_runtime.processors.base import Processor
    from edgekit_runtime.session import Array

_NO_ANSWERS = "a model of task 'sentence-embedding' gives vectors, not answers that a label could match"
_HINT = "leave out --data; the goldens still compare the artifact with the original"


class SentenceEmbedding:
    """Texts in, output `sentence_embedding` out. A sentence-transformers folder gives it."""

    name = "sentence-embedding"
    columns: tuple[Column, ...] = (Column(name="text", help="the text to embed"),)
    agreement = "tensor"
    metric = ""
    export = ExportRecipe(architectures=(), auto_class="AutoModel", outputs=("sentence_embedding",))

    def feeds(
        self, processor: Processor, rows: Sequence[Row], *, pad_to: int | None = None
    ) -> dict[str, Array]:
        """Tokenize the rows as one batch."""
        return processor.feeds([row.values["text"] for row in rows], pad_to=pad_to)

    def predictions(self, outputs: Mapping[str, Array], labels: Sequence[str]) -> tuple[str, ...]:
        """Raises UsageError."""
        raise UsageError(_NO_ANSWERS, hint=_HINT)

    def correct(self, predictions: Sequence[str], rows: Sequence[Row]) -> tuple[bool, ...]:
        """Raises UsageError."""
        raise UsageError(_NO_ANSWERS, hint=_HINT)
