"""Every architecture with its tasks, those that fail, and the few that every run of the suite tries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgekit.errors import ExportFailed, ExportWrong, SourceError
from edgekit_runtime.errors import EdgekitError
from tests.exporting.architectures import audio, image, text
from tests.exporting.architectures.base import Architecture

ARCHITECTURES = (*text.ARCHITECTURES, *image.ARCHITECTURES, *audio.ARCHITECTURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One export: an architecture for a task."""

    architecture: Architecture
    task: str

    @property
    def key(self) -> tuple[str, str]:
        """How the registry and the table name it."""
        return self.architecture.name, self.task


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """error: what export raises; says: a pattern of its message; why: for the table, whose fault it is."""

    error: type[EdgekitError]
    says: str
    why: str


def entries() -> tuple[Entry, ...]:
    """Every architecture for each of its tasks, in the table's order."""
    return tuple(Entry(architecture=found, task=task) for found in ARCHITECTURES for task in found.tasks)


def passing() -> tuple[Entry, ...]:
    """Those that export."""
    return tuple(entry for entry in entries() if entry.key not in FAILING)


def failing() -> tuple[Entry, ...]:
    """Those that are known not to."""
    return tuple(entry for entry in entries() if entry.key in FAILING)


def _each_task(names: tuple[str, ...], reason: Failing) -> Iterator[tuple[tuple[str, str], Failing]]:
    for found in ARCHITECTURES:
        if found.name in names:
            yield from (((found.name, task), reason) for task in found.tasks)


FAILING: Mapping[tuple[str, str], Failing] = dict(
    (
        *_each_task(
            ("Funnel",),
            Failing(
                error=ExportFailed,
                says="'sequence' of 'input_ids' was fixed",
                why="its code pools by a number of tokens that tracing fixes",
            ),
        ),
        *_each_task(
            ("Longformer", "LED"),
            Failing(
                error=ExportFailed,
                says="decides by the values of a tensor",
                why="their code looks at the values of the mask, which tracing does not know",
            ),
        ),
        *_each_task(
            ("XLNet",),
            Failing(
                error=ExportFailed,
                says=r"aten\.sub",
                why="torch's exporter cannot write its `1.0 - mask` of an integer mask",
            ),
        ),
        *_each_task(
            ("SEW", "SEW-D"),
            Failing(
                error=ExportWrong,
                says="tracing itself changed the model",
                why="their code pads where the number of frames is odd, a choice that tracing fixes;"
                " the checks see it and nothing is written",
            ),
        ),
        *_each_task(
            ("Wav2Vec2-BERT",),
            Failing(
                error=SourceError,
                says="SeamlessM4TFeatureExtractor is not known",
                why="its feature extractor has no counterpart on a device yet",
            ),
        ),
        *_each_task(
            ("Speech2Text",),
            Failing(
                error=SourceError,
                says="Speech2TextForConditionalGeneration hears recordings .* not known here",
                why="its tokenizer runs in Python only, and its extractor has no counterpart on a device",
            ),
        ),
        *_each_task(
            ("Moonshine",),
            Failing(
                error=SourceError,
                says="MoonshineForConditionalGeneration hears recordings .* not known here",
                why="its encoder hears waveforms of any length, and gives a number of frames that no axis"
                " of the decoder's graph stands for yet",
            ),
        ),
    )
)

#: Tried whenever the suite runs: another kind of graph or preprocessor each.
HANDFUL = (
    ("RoBERTa", "fill-mask"),
    ("DeBERTa-v2", "token-classification"),
    ("ModernBERT", "question-answering"),
    ("XLM-RoBERTa", "text-classification"),
    ("Llama", "text-classification"),
    ("ViT", "image-classification"),
    ("ResNet", "image-classification"),
    ("SegFormer", "semantic-segmentation"),
    ("DETR (ResNet)", "object-detection"),
    ("CLIP", "image-embedding"),
    ("Wav2Vec2", "speech-recognition"),
    ("AST", "audio-classification"),
)
