"""speech-recognition: what is said in a recording."""

from __future__ import annotations

from pathlib import Path

from edgekit.tasks.audio_classification import AUDIO_COLUMN, audio_path
from edgekit.tasks.base import ANSWER, Column, ExportRecipe, Row
from edgekit.tasks.configs import not_speech_to_text


class SpeechRecognition:
    """Of a CTC head the likeliest symbol of each frame, repetitions merged and blanks dropped (Graves et al.,
    "Connectionist Temporal Classification", ICML 2006); of a model with a decoder what it writes, by greedy
    search. Judged by the word error rate."""

    name = "speech-recognition"
    columns = (AUDIO_COLUMN, Column(name="text", help="what is said", holds=ANSWER, label=True))
    answers = "transcript"
    metric = "wer"
    exports = (
        ExportRecipe(
            architectures=("ForCTC",), auto_class="AutoModelForCTC", outputs=("logits",), processor="audio"
        ),
        ExportRecipe(
            architectures=("ForConditionalGeneration", "ForSpeechSeq2Seq"),
            auto_class="AutoModelForSpeechSeq2Seq",
            outputs=("tokens", "scores"),
            misfit=not_speech_to_text,
            processor="audio",
            pipeline="encoder-decoder",
        ),
    )

    def inputs(self, row: Row) -> tuple[Path, ...]:
        """The recording."""
        return audio_path(row)
