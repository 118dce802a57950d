"""speech-recognition: what is said in a recording, by a model with a CTC head."""

from __future__ import annotations

from pathlib import Path

from edgekit.tasks.audio_classification import AUDIO_COLUMN, audio_path
from edgekit.tasks.base import ANSWER, Column, ExportRecipe, Row


class SpeechRecognition:
    """The likeliest symbol of each frame, repetitions merged and blanks dropped (Graves et al.,
    "Connectionist Temporal Classification", ICML 2006); judged by the word error rate."""

    name = "speech-recognition"
    columns = (AUDIO_COLUMN, Column(name="text", help="what is said", holds=ANSWER, label=True))
    answers = "transcript"
    metric = "wer"
    export = ExportRecipe(
        architectures=("ForCTC",), auto_class="AutoModelForCTC", outputs=("logits",), processor="audio"
    )

    def inputs(self, row: Row) -> tuple[Path, ...]:
        """The recording."""
        return audio_path(row)
