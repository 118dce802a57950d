"""A processor of the user's own settings, for a torch module that no library ever fed.

There is no original to compare it with. Its parity cases hold what it makes of files here, so that a
device can still prove that its libraries read files alike.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.exporting import pictures, sounds
from edgekit_runtime.processors.audio import AudioProcessor, sound_case, write_audio_processor
from edgekit_runtime.processors.audio_settings import WAVEFORM, AudioSettings
from edgekit_runtime.processors.base import Processor
from edgekit_runtime.processors.image import ImageProcessor, describe, write_image_processor
from edgekit_runtime.processors.image_settings import IMAGE_INPUT, ImageSettings

#: Files that travel: of formats that every build of Pillow reads, and small.
_TRAVELLING, _TRAVELLING_BYTES = (".png", ".jpg"), 12_000
#: An image of one pixel's width grows beyond reason where the shortest edge is scaled.
_LEFT_OUT = ("one-wide.png", "one-high.png", "very-wide.png", "very-high.png")


def write_processor(directory: Path, settings: object) -> Processor:
    """Write the processor that `settings` (ImageSettings or AudioSettings) describe, with parity cases.

    Raises UsageError for anything else.
    """
    if isinstance(settings, ImageSettings):
        return _images(directory, settings)
    if isinstance(settings, AudioSettings):
        return _recordings(directory, settings)
    raise UsageError(
        f"processor is a {type(settings).__name__}",
        hint="give the processor/ directory of a model, or ImageSettings or AudioSettings",
    )


def _images(directory: Path, settings: ImageSettings) -> Processor:
    processor = ImageProcessor(settings)
    cases, files = [], {}
    with tempfile.TemporaryDirectory(prefix="edgekit-pictures-") as name:
        for file, content in pictures.tricky():
            if not file.endswith(_TRAVELLING) or len(content) > _TRAVELLING_BYTES or file in _LEFT_OUT:
                continue
            path = Path(name) / file
            path.write_bytes(content)
            cases.append(describe(file, processor.feeds([path])[IMAGE_INPUT][0]))
            files[file] = content
    return write_image_processor(directory, settings=settings, parity=cases, files=files)


def _recordings(directory: Path, settings: AudioSettings) -> Processor:
    if settings.features != WAVEFORM:
        raise UsageError(
            f"processor: settings of {settings.features!r} lack its window and filters",
            hint="give the processor/ directory of a model that hears alike, or features='waveform'",
        )
    processor = AudioProcessor(settings)
    cases, files = [], {}
    with tempfile.TemporaryDirectory(prefix="edgekit-sounds-") as name:
        for sound in sounds.travelling():
            path = Path(name) / sound.name
            path.write_bytes(sound.wav())
            cases.append(sound_case(sound.name, processor.feeds([path])[settings.inputs[0]]))
            files[sound.name] = path.read_bytes()
    return write_audio_processor(directory, settings, parity=cases, files=files)
