"""What is done to an image before a model sees it, as processor.json keeps it.

{"schema": 1, "kind": "image", "inputs": ["pixel_values"], "clear_is_white": false,
 "resize": {"rule": "shortest", "size": [256], "filter": "bicubic"}, "crop": [224, 224], "channels": "rgb",
 "rescale": 0.00392156862745098, "offset": 0.0, "normalize": [{"mean": [...], "std": [...]}]}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit_runtime.errors import ProcessorError
from edgekit_runtime.processors.base import PROCESSOR_FILE, PROCESSOR_SCHEMA
from edgekit_runtime.strictjson import Fields, check_schema, nearest, number, read_json_file

#: The one input that an image becomes.
IMAGE_INPUT = "pixel_values"
#: Rule of resizing -> how many sizes it takes.
RULES = {"exact": 2, "shortest": 1, "within": 2, "within-multiple": 2, "fit": 2}
#: Resampling filter -> Pillow's number of it.
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
CHANNELS = ("rgb", "bgr")

#: Beyond these a file is damaged: no model has such an edge in pixels, nor such a number.
_LARGEST_EDGE = 65_535
_KEYS = (
    "schema",
    "kind",
    "inputs",
    "clear_is_white",
    "resize",
    "crop",
    "channels",
    "rescale",
    "offset",
    "normalize",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """To which size an image is scaled, and how.

    rule and size: "exact" (height, width), whatever the shape; the others keep the shape: "shortest"
    (edge,); "within" (shortest, longest): the shortest edge, or less where the longest would be over;
    "within-multiple": the same, then cut down to multiples of `multiple`; "fit" (height, width): as
    large as fits. Numbers are rounded as transformers rounds them. filter: a word of `FILTERS`.
    """

    rule: str
    size: tuple[int, ...]
    filter: str = "bilinear"
    multiple: int = 1

    def target(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image of this height and width gets; either may come out as 0."""
        if self.rule == "exact":
            return self.size[0], self.size[1]
        if self.rule == "shortest":
            return _shortest(height, width, self.size[0])
        if self.rule == "fit":
            scale = min(self.size[0] / height, self.size[1] / width)
            return int(height * scale), int(width * scale)
        high, wide = _within(height, width, self)
        return high - high % self.multiple, wide - wide % self.multiple


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalize:
    """(value - mean) / std of each channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """The content of processor.json, in the order in which it is done.

    clear_is_white: whether the one colour that a file calls transparent becomes white, as some classes
    of transformers have it (an alpha channel is left out by all);
    crop: (height, width) cut out of the middle, with zeros around where the image is smaller;
    channels: a word of `CHANNELS`; rescale: each value times this; offset: then less this;
    normalize: one after the other.
    """

    inputs: tuple[str, ...] = (IMAGE_INPUT,)
    clear_is_white: bool = False
    resize: Resize | None = None
    crop: tuple[int, int] | None = None
    channels: str = "rgb"
    rescale: float | None = None
    offset: float = 0.0
    normalize: tuple[Normalize, ...] = ()

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """(height, width) that every image gets; None where it depends on the image."""
        if self.crop is not None:
            return self.crop
        if self.resize is not None and self.resize.rule == "exact":
            return self.resize.size[0], self.resize.size[1]
        return None


def settings_json(settings: ImageSettings) -> dict[str, object]:
    """The table that processor.json holds."""
    resize, crop = settings.resize, settings.crop
    scaling: dict[str, object] | None = None
    if resize is not None:
        scaling = {"rule": resize.rule, "size": list(resize.size), "filter": resize.filter}
        scaling |= {"multiple": resize.multiple} if resize.multiple != 1 else {}
    return {
        "schema": PROCESSOR_SCHEMA,
        "kind": "image",
        "inputs": list(settings.inputs),
        "clear_is_white": settings.clear_is_white,
        "resize": scaling,
        "crop": None if crop is None else list(crop),
        "channels": settings.channels,
        "rescale": settings.rescale,
        "offset": settings.offset,
        "normalize": [{"mean": list(step.mean), "std": list(step.std)} for step in settings.normalize],
    }


def read_settings(directory: Path) -> ImageSettings:
    """The settings in a processor directory. Raises `ProcessorError` naming the key that is wrong."""
    path = directory / PROCESSOR_FILE
    value = read_json_file(path, error=ProcessorError)
    check_schema(value, PROCESSOR_SCHEMA, where=str(path), error=ProcessorError)
    fields = Fields(value, known=_KEYS, where=str(path), error=ProcessorError)
    inputs = fields.texts("inputs")
    if inputs != (IMAGE_INPUT,):
        raise ProcessorError(f"{path}: an image becomes {IMAGE_INPUT!r} alone, found {list(inputs)}")
    rescale, clear_is_white = fields.raw("rescale"), fields.raw("clear_is_white")
    if not isinstance(clear_is_white, bool):
        raise ProcessorError(f"{fields.where('clear_is_white')} must be true or false")
    crop = None if fields.raw("crop") is None else _sizes(fields, "crop", 2)
    return ImageSettings(
        inputs=inputs,
        clear_is_white=clear_is_white,
        resize=None if fields.raw("resize") is None else _resize(fields),
        crop=None if crop is None else (crop[0], crop[1]),
        channels=_word(fields, "channels", CHANNELS),
        rescale=None if rescale is None else number(rescale, fields.where("rescale"), error=ProcessorError),
        offset=number(fields.raw("offset"), fields.where("offset"), error=ProcessorError),
        normalize=tuple(
            _normalize(item, f"{fields.where('normalize')}: step {index}")
            for index, item in enumerate(fields.items("normalize"))
        ),
    )


# --- sizes --------------------------------------------------------------------------------------------


def _shortest(height: int, width: int, edge: int) -> tuple[int, int]:
    """transformers.image_transforms.get_resize_output_image_size."""
    if width <= height:
        return int(edge * height / width), edge
    return edge, int(edge * width / height)


def _within(height: int, width: int, resize: Resize) -> tuple[int, int]:
    """transformers.image_transforms.get_size_with_aspect_ratio, and the variant of it that YOLOS has.

    The variant scales a portrait even where its shortest edge is right already.
    """
    size, longest = resize.size
    small, large = float(min(height, width)), float(max(height, width))
    exact: float = size
    if large / small * size > longest:
        exact = longest * small / large
        size = round(exact)
    right_already = min(height, width) == size
    if right_already and (resize.rule == "within" or height <= width):
        return height, width
    if width < height:
        return int(exact * height / width), size
    return size, int(exact * width / height)


# --- reading ------------------------------------------------------------------------------------------


def _resize(parent: Fields) -> Resize:
    where = parent.where("resize")
    known = ("rule", "size", "filter", "multiple")
    fields = Fields(parent.raw("resize"), known=known, where=where, error=ProcessorError)
    rule = _word(fields, "rule", RULES)
    return Resize(
        rule=rule,
        size=_sizes(fields, "size", RULES[rule]),
        filter=_word(fields, "filter", FILTERS),
        multiple=fields.whole("multiple", low=1) if fields.has("multiple") else 1,
    )


def _normalize(item: object, where: str) -> Normalize:
    fields = Fields(item, known=("mean", "std"), where=where, error=ProcessorError)
    mean, std = _channels(fields, "mean"), _channels(fields, "std")
    if 0.0 in std:
        raise ProcessorError(f"{fields.where('std')} must not hold 0")
    return Normalize(mean=mean, std=std)


def _channels(fields: Fields, key: str) -> tuple[float, float, float]:
    values = [number(item, fields.where(key), error=ProcessorError) for item in fields.items(key)]
    if len(values) != 3:
        raise ProcessorError(f"{fields.where(key)} must hold a number for each of 3 channels")
    return values[0], values[1], values[2]


def _sizes(fields: Fields, key: str, count: int) -> tuple[int, ...]:
    values = fields.items(key)
    sizes = [item for item in values if type(item) is int and 0 < item <= _LARGEST_EDGE]
    if len(sizes) != len(values) or len(sizes) != count:
        raise ProcessorError(f"{fields.where(key)} must hold {count} sizes in pixels, found {values!r:.60}")
    return tuple(sizes)


def _word(fields: Fields, key: str, known: dict[str, int] | tuple[str, ...]) -> str:
    word = fields.text(key)
    if word not in known:
        raise ProcessorError(f"{fields.where(key)}: {word!r} is not known", hint=nearest(word, known))
    return word
