"""audio-classification: one label for a recording."""

from __future__ import annotations

from pathlib import Path

from edgekit.tasks.base import AUDIO, LABEL_COLUMN, Column, ExportRecipe, Row
from edgekit.tasks.configs import not_of_sound

AUDIO_COLUMN = Column(name="audio", help="the path of the recording, beside the data file", holds=AUDIO)


def audio_path(row: Row) -> tuple[Path, ...]:
    """What the processor gets of `AUDIO_COLUMN`."""
    return (Path(row.text("audio")),)


class AudioClassification:
    """Top-1 of the logits, judged by accuracy."""

    name = "audio-classification"
    columns = (
        AUDIO_COLUMN,
        LABEL_COLUMN,
    )
    answers = "classification"
    metric = "accuracy"
    exports = (
        ExportRecipe(
            architectures=("ForSequenceClassification", "ForAudioClassification"),
            auto_class="AutoModelForAudioClassification",
            outputs=("logits",),
            misfit=not_of_sound,
            processor="audio",
        ),
    )

    def inputs(self, row: Row) -> tuple[Path, ...]:
        """The recording."""
        return audio_path(row)
