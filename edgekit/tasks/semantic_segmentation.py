"""semantic-segmentation: a class for each pixel of an image."""

from __future__ import annotations

from pathlib import Path

from edgekit.tasks.base import MASK, Column, ExportRecipe, Row
from edgekit.tasks.image_classification import IMAGE_COLUMN, image_path


class SemanticSegmentation:
    """The likeliest class of each pixel of the image as given, judged by the mean intersection over union."""

    name = "semantic-segmentation"
    columns = (
        IMAGE_COLUMN,
        Column(
            name="mask",
            help="the path of a grey PNG of class numbers, as large as the image; 255 is not judged",
            holds=MASK,
            label=True,
            of="image",
        ),
    )
    answers = "mask"
    metric = "miou"
    exports = (
        ExportRecipe(
            architectures=("ForSemanticSegmentation",),
            auto_class="AutoModelForSemanticSegmentation",
            outputs=("logits",),
            processor="image",
        ),
    )

    def inputs(self, row: Row) -> tuple[Path, ...]:
        """The image."""
        return image_path(row)
