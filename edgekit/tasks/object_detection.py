"""object-detection: boxes with labels in an image."""

from __future__ import annotations

from pathlib import Path

from edgekit.tasks.base import BOXES, Column, ExportRecipe, Row
from edgekit.tasks.image_classification import IMAGE_COLUMN, image_path


class ObjectDetection:
    """Boxes in pixels of the image as given, judged by the mean average precision of COCO."""

    name = "object-detection"
    columns = (
        IMAGE_COLUMN,
        Column(
            name="boxes",
            help='a list of {"box": [x, y, width, height], "label": "…"}, in pixels',
            holds=BOXES,
            label=True,
        ),
    )
    answers = "boxes"
    metric = "map"
    exports = (
        ExportRecipe(
            architectures=("ForObjectDetection",),
            auto_class="AutoModelForObjectDetection",
            outputs=("logits", "pred_boxes"),
            processor="image",
        ),
    )

    def inputs(self, row: Row) -> tuple[Path, ...]:
        """The image."""
        return image_path(row)
