"""image-embedding: one vector for an image, from a vision model or the image tower of CLIP and SigLIP."""

from __future__ import annotations

from pathlib import Path

from edgekit.tasks.base import Column, ExportRecipe, Row
from edgekit.tasks.image_classification import IMAGE_COLUMN, image_path


class ImageEmbedding:
    """Vectors, judged by their cosine with those of the exported model: there is no other right answer."""

    name = "image-embedding"
    columns: tuple[Column, ...] = (IMAGE_COLUMN,)
    answers = "vector"
    metric = "cosine"
    exports = (
        ExportRecipe(
            architectures=(
                "CLIPModel",
                "SiglipModel",
                "CLIPVisionModelWithProjection",
                "ViTModel",
                "DeiTModel",
                "Dinov2Model",
                "BeitModel",
            ),
            auto_class="AutoModel",
            outputs=("image_embedding",),
            module="edgekit.exporting.towers:image_tower",
            processor="image",
        ),
    )

    def inputs(self, row: Row) -> tuple[Path, ...]:
        """The image."""
        return image_path(row)
