"""A loaded model of images as a Subject: its processor, its axes, and the pictures it is checked on."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import SourceError, UsageError
from edgekit.exporting.attention import plain_attention
from edgekit.exporting.image_processor import load_image_processor, travelling_images
from edgekit.exporting.loaded import Loaded
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.pictures import SIZES, draw, noise
from edgekit.exporting.subject import Case, Range, Subject
from edgekit_runtime.processors.base import Image
from edgekit_runtime.processors.image import ImageProcessor
from edgekit_runtime.processors.image_settings import IMAGE_INPUT

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_runtime.session import Array

#: Rows of the trace, and its size where sizes vary. No case has this shape.
TRACE_ROWS, TRACE_SIZE = 3, (96, 160)
#: Sizes of the larger batches where sizes vary: real ones, of 800 x 1,066 pixels and more, would take
#: gigabytes. All are multiples of 32, as models that halve an image five times like it best.
_SMALL = ((64, 96), (128, 64), (160, 128))
#: Smallest height and width that the graph promises, where they vary.
_SMALLEST = 32
#: Goldens are pictures as the model gets them, in fp32: as many as fit, at least two.
_GOLDEN_BYTES, _FEWEST_GOLDENS = 24_000_000, 2
#: What models raise for images of a size they do not take.
_MISFITS = (RuntimeError, ValueError, IndexError, TypeError, AssertionError)


def image_subject(loaded: Loaded, options: ExportOptions, processor_dir: Path) -> Subject:
    """Write and prove the processor of a loaded model of images, and plan what to check."""
    if options.max_length is not None:
        raise UsageError(
            f"--max-length {options.max_length} is for texts", hint="leave it out for a model of images"
        )
    _refuse_other_inputs(loaded)
    processor = travelling_images(load_image_processor(loaded.folder, options), processor_dir)
    return processed_subject(loaded, processor, options)


def processed_subject(loaded: Loaded, processor: ImageProcessor, options: ExportOptions) -> Subject:
    """The same, with a processor at hand."""
    fixed = processor.settings.fixed_size
    planner = ImageCases(processor, options.seed)
    trace = planner.trace()
    _refuse_misfit(loaded, trace)
    axes = {0: "batch"} if fixed is not None else {0: "batch", 2: "height", 3: "width"}
    ranges: dict[str, Range] = {"batch": (1, None), "height": (_SMALLEST, None), "width": (_SMALLEST, None)}
    return Subject(
        module=loaded.module,
        call=loaded.call,
        facts=loaded.facts({IMAGE_INPUT: axes}),
        trace=trace,
        ranges={name: ranges[name] for name in axes.values()},
        outputs=loaded.outputs,
        cases=[*planner.checks(), *planner.goldens()],
        tracing=lambda: plain_attention(loaded.model),
    )


class ImageCases:
    """Shapes at which a model of images is compared with its original, by drawn pictures."""

    def __init__(self, processor: ImageProcessor, seed: int) -> None:
        self._processor = processor
        self._seed = seed
        self._fixed = processor.settings.fixed_size
        # Colours as the model gets them, at whatever size a picture has.
        self._plain = ImageProcessor(dataclasses.replace(processor.settings, resize=None, crop=None))

    def trace(self) -> dict[str, Array]:
        """What is traced: a batch that is no case."""
        return self._drawn(TRACE_ROWS, TRACE_SIZE, seed=90)

    def checks(self) -> Iterator[Case]:
        """Batches of 1, 2 and 7; at several sizes where they vary; pictures, flat colours, random pixels."""
        two, seven, one = _SMALL
        yield Case(name="two pictures", feeds=self._drawn(2, two, seed=100))
        yield Case(name="seven pictures", feeds=self._drawn(7, seven, seed=110))
        yield Case(name="one picture of random pixels", feeds=self._random(1, one))
        yield Case(name="two pictures of random pixels", feeds=self._random(2, two))
        for name, level in (("black", 0), ("white", 255)):
            flat = Image(np.full((*self._size(one), 3), level, dtype=np.uint8))
            yield Case(name=f"one picture, all {name}", feeds=self._plain.feeds([flat]))

    def goldens(self) -> Iterator[Case]:
        """Pictures as a user gives them, through the whole processor, each alone; and two together."""
        left = _GOLDEN_BYTES
        for number, (height, width) in enumerate(SIZES, start=1):
            feeds = self._processor.feeds([Image(draw(height, width, number, grain=0.02))])
            left -= feeds[IMAGE_INPUT].nbytes
            if left < 0 and number > _FEWEST_GOLDENS:
                return
            yield Case(name=f"picture {number}, {height} x {width}", feeds=feeds, golden=True)
        yield Case(name="two pictures together", feeds=self._drawn(2, _SMALL[2], seed=120), golden=True)

    def _size(self, size: tuple[int, int]) -> tuple[int, int]:
        return self._fixed or size

    def _drawn(self, rows: int, size: tuple[int, int], seed: int) -> dict[str, Array]:
        size = self._size(size)
        return self._plain.feeds([Image(draw(*size, seed + row, grain=0.02)) for row in range(rows)])

    def _random(self, rows: int, size: tuple[int, int]) -> dict[str, Array]:
        size = self._size(size)
        return self._plain.feeds([Image(noise(*size, self._seed + row)) for row in range(rows)])


def _refuse_other_inputs(loaded: Loaded) -> None:
    """A model that takes no pixels, or pixels of other than three channels."""
    if IMAGE_INPUT not in inspect.signature(loaded.module.forward).parameters:
        raise SourceError(
            f"{loaded.folder}: a {type(loaded.model).__name__} takes no {IMAGE_INPUT}, so no images",
            hint="export it as a torch module",
        )
    config = getattr(loaded.model, "config", None)
    channels = getattr(getattr(config, "vision_config", config), "num_channels", 3)
    if channels != 3:
        raise SourceError(
            f"{loaded.folder}: the model takes images of {channels} channels; images here have 3",
            hint="export it as a torch module",
        )


def _refuse_misfit(loaded: Loaded, feeds: Mapping[str, Array]) -> None:
    """The model and its processor come from one folder and may still not fit."""
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
    try:
        with torch.inference_mode():
            loaded.call(tensors)
    except _MISFITS as problem:
        height, width = feeds[IMAGE_INPUT].shape[2:]
        reason = " ".join(str(problem).split())[:300]
        raise SourceError(
            f"{loaded.folder}: the model does not take {height} x {width} pixels, as its image processor"
            f" makes them: {reason}",
            hint="do size and crop_size in preprocessor_config.json fit the model?",
        ) from problem
