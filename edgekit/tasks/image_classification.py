"""image-classification: one label for an image."""

from __future__ import annotations

from pathlib import Path

from edgekit.tasks.base import IMAGE, LABEL_COLUMN, Column, ExportRecipe, Row

IMAGE_COLUMN = Column(name="image", help="the path of the image, beside the data file", holds=IMAGE)


def image_path(row: Row) -> tuple[Path, ...]:
    """What the processor gets of `IMAGE_COLUMN`."""
    return (Path(row.text("image")),)


class ImageClassification:
    """Top-1 of the logits, judged by accuracy."""

    name = "image-classification"
    columns = (
        IMAGE_COLUMN,
        LABEL_COLUMN,
    )
    answers = "classification"
    metric = "accuracy"
    exports = (
        ExportRecipe(
            architectures=("ForImageClassification", "ForImageClassificationWithTeacher"),
            auto_class="AutoModelForImageClassification",
            outputs=("logits",),
            processor="image",
        ),
    )

    def inputs(self, row: Row) -> tuple[Path, ...]:
        """The image."""
        return image_path(row)
