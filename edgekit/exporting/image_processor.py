"""The image processor that travels with the model, proven to make of files what transformers makes of them.

The settings are read off the attributes of transformers' own class. Classes do more than their
attributes tell, so nothing is believed of them: files of every kind are run through both.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgekit.errors import ExportWrong, SourceError
from edgekit.exporting.loading import explained, require
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.pictures import clear_colour, draw, png, tricky
from edgekit.exporting.quiet import kept_environment, quiet_libraries
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.processors.image import ImageProcessor, describe, write_image_processor
from edgekit_runtime.processors.image_settings import (
    FILTERS,
    IMAGE_INPUT,
    ImageSettings,
    Normalize,
    Resize,
)

if TYPE_CHECKING:
    from edgekit_runtime.session import Array

#: What attributes called do_... are understood. Annotations and label maps are never given.
_UNDERSTOOD = (
    "do_resize",
    "do_center_crop",
    "do_rescale",
    "do_normalize",
    "do_pad",
    "do_convert_rgb",
    "do_convert_annotations",
    "do_reduce_labels",
    "do_flip_channel_order",
)
#: The same numbers in the same order are the same bits; other versions may order them otherwise.
_ROUNDING = 1e-5
#: What transformers raises for an image that it cannot take, and the only files of which it may: images
#: so narrow that an edge would be scaled to nothing.
_REFUSALS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, OSError)
_NARROW = ("one-", "very-")
#: Files that are proven here and do not travel: over this size, or of formats that small builds of
#: Pillow lack.
_TRAVELLING_BYTES, _TRAVELLING = 12_000, (".png", ".jpg")
#: Side at which ConvNeXT stops to crop, and the share of its picture that LeViT crops.
_CONVNEXT_WARPS_FROM, _LEVIT_SHARE = 384, 256 / 224
_INSTEAD = (
    "save the folder with a plain processor that does the same (ViTImageProcessor, CLIPImageProcessor),"
    " or export the model as a torch module"
)


class HubImages(Protocol):
    """What is used of a transformers image processor, besides its attributes."""

    def __call__(self, images: object, *, return_tensors: str) -> Mapping[str, Array]: ...


def load_image_processor(folder: Path, options: ExportOptions) -> HubImages:
    """The folder's image processor, in its form that needs no torchvision."""
    require("PIL")
    with explained(folder, "image processor"), quiet_libraries(), kept_environment():
        from transformers import AutoImageProcessor

        processor: HubImages = AutoImageProcessor.from_pretrained(
            str(folder),
            use_fast=False,
            local_files_only=True,
            trust_remote_code=options.trust_remote_code,
        )
    return processor


@kept_environment()
def travelling_images(hub: HubImages, directory: Path) -> ImageProcessor:
    """Write `directory` and prove it.

    Raises SourceError for a class whose settings cannot be told, ExportWrong at the first file of which
    it makes something else.
    """
    settings = derive_settings(hub)
    try:
        ImageProcessor(settings)
    except EdgekitError as problem:
        raise _untold(hub, problem.message) from problem
    settings = _with_clear_colours(hub, settings)
    processor = ImageProcessor(settings)
    cases, files = [], {}
    with tempfile.TemporaryDirectory(prefix="edgekit-pictures-") as name, quiet_libraries():
        for file, content in _files(settings):
            path = Path(name) / file
            path.write_bytes(content)
            expected = _compare(hub, processor, path)
            if expected is not None and len(content) <= _TRAVELLING_BYTES and file.endswith(_TRAVELLING):
                cases.append(describe(file, expected))
                files[file] = content
    return write_image_processor(directory, settings=settings, parity=cases, files=files)


def derive_settings(hub: HubImages) -> ImageSettings:
    """What the attributes of a transformers image processor say. Raises SourceError naming its class."""
    _refuse_unknown(hub)
    resize, crop = _geometry(hub)
    rescale = getattr(hub, "rescale_factor", None) if _flag(hub, "do_rescale") else None
    return ImageSettings(
        resize=resize,
        crop=crop,
        channels="bgr" if _flag(hub, "do_flip_channel_order") else "rgb",
        rescale=rescale if rescale is None else float(rescale),
        offset=1.0 if rescale is not None and getattr(hub, "rescale_offset", False) else 0.0,
        normalize=tuple(_normalize(hub)),
    )


def class_name(hub: object) -> str:
    """The name of the class as folders keep it."""
    return type(hub).__name__.removesuffix("Pil").removesuffix("Fast")


# --- settings -----------------------------------------------------------------------------------------


def _flag(hub: object, name: str) -> bool:
    return bool(getattr(hub, name, False))


def _refuse_unknown(hub: HubImages) -> None:
    """Steps that are switched on and not known, and padding that a mask would have to tell of."""
    unknown = [
        name
        for name, value in vars(hub).items()
        if name.startswith("do_") and value is True and name not in _UNDERSTOOD
    ]
    if unknown:
        raise _untold(hub, f"{unknown[0]} is a step that no processor on a device does")
    if _flag(hub, "do_pad") and (_sizes(hub, "pad_size") or _flag(hub, "size_divisor")):
        raise _untold(hub, "it pads images, and tells the model by a mask, which is no input here")
    if _flag(hub, "keep_aspect_ratio") or (getattr(hub, "ensure_multiple_of", None) or 1) != 1:
        raise _untold(hub, "keep_aspect_ratio and ensure_multiple_of are not known on a device")


def _geometry(hub: HubImages) -> tuple[Resize | None, tuple[int, int] | None]:
    """How the image is scaled, and what is cut out of it then."""
    crop = _pair(hub, "crop_size") if _flag(hub, "do_center_crop") else None
    if not _flag(hub, "do_resize"):
        return None, crop
    name, size, filter = class_name(hub), _sizes(hub, "size"), _filter(hub)
    edge, share = size.get("shortest_edge", 0), getattr(hub, "crop_pct", None)
    if name == "ConvNextImageProcessor" and edge:
        if edge >= _CONVNEXT_WARPS_FROM:
            return Resize(rule="exact", size=(edge, edge), filter=filter), crop
        larger = int(edge / (share or 224 / 256))
        return Resize(rule="shortest", size=(larger,), filter=filter), crop or (edge, edge)
    if name == "PoolFormerImageProcessor" and share:
        return _larger(size, share, filter), crop
    if name == "LevitImageProcessor" and edge:
        return Resize(rule="shortest", size=(int(_LEVIT_SHARE * edge),), filter=filter), crop
    return _resize(hub, size, filter), crop


def _resize(hub: HubImages, size: Mapping[str, int], filter: str) -> Resize:
    keys = set(size)
    if keys == {"height", "width"}:
        return Resize(rule="exact", size=(size["height"], size["width"]), filter=filter)
    if keys == {"shortest_edge"}:
        return Resize(rule="shortest", size=(size["shortest_edge"],), filter=filter)
    if keys == {"shortest_edge", "longest_edge"}:
        edges = size["shortest_edge"], size["longest_edge"]
        if class_name(hub).startswith("Yolos"):
            return Resize(rule="within-multiple", size=edges, filter=filter, multiple=16)
        return Resize(rule="within", size=edges, filter=filter)
    if keys == {"max_height", "max_width"}:
        return Resize(rule="fit", size=(size["max_height"], size["max_width"]), filter=filter)
    raise _untold(hub, f"images cannot be scaled by a size of {', '.join(sorted(keys)) or 'nothing'}")


def _larger(size: Mapping[str, int], share: float, filter: str) -> Resize:
    """PoolFormer: so large that the crop leaves this share."""
    height, width = size.get("height", 0), size.get("width", 0)
    if height != width:
        return Resize(rule="exact", size=(int(height / share), int(width / share)), filter=filter)
    return Resize(rule="shortest", size=(int((size.get("shortest_edge") or height) / share),), filter=filter)


def _filter(hub: HubImages) -> str:
    found = getattr(hub, "resample", None)
    words = {value: word for word, value in FILTERS.items()}
    code = FILTERS["bilinear"] if found is None else int(found)
    if code not in words:
        raise _untold(hub, f"resample {found} is no filter of Pillow")
    return words[code]


def _normalize(hub: HubImages) -> Iterator[Normalize]:
    mean, std = _channels(hub, "image_mean"), _channels(hub, "image_std")
    if _flag(hub, "do_normalize"):
        yield Normalize(mean=mean, std=std)
    if _flag(hub, "include_top"):  # EfficientNet scales once more for its classifier
        yield Normalize(mean=(0.0, 0.0, 0.0), std=std)


def _channels(hub: HubImages, name: str) -> tuple[float, float, float]:
    found = getattr(hub, name, None)
    values = [found] * 3 if isinstance(found, int | float) else list(found or (0.0, 0.0, 0.0))
    if len(values) != 3:
        raise _untold(hub, f"{name} has {len(values)} channels, and images here have 3")
    red, green, blue = map(float, values)
    return red, green, blue


def _sizes(hub: HubImages, name: str) -> dict[str, int]:
    """A size as a table, whatever version of transformers keeps it."""
    found = getattr(hub, name, None)
    if isinstance(found, int):
        return {"height": found, "width": found}
    pairs = dict(found) if found is not None else {}
    return {key: int(value) for key, value in pairs.items() if value is not None}


def _pair(hub: HubImages, name: str) -> tuple[int, int]:
    size = _sizes(hub, name)
    if set(size) != {"height", "width"}:
        raise _untold(hub, f"{name} must give a height and a width, found {size}")
    return size["height"], size["width"]


def _untold(hub: object, problem: str) -> SourceError:
    return SourceError(f"the image processor {class_name(hub)} cannot travel: {problem}", hint=_INSTEAD)


# --- proof --------------------------------------------------------------------------------------------


def _files(settings: ImageSettings) -> Iterator[tuple[str, bytes]]:
    """The tricky files, and pictures of the very size that the settings name."""
    yield from tricky()
    if settings.resize is not None:
        edge = settings.resize.size[0]
        yield "right-already.png", png(draw(edge, edge + edge // 8, 50))
        yield "right-already-portrait.png", png(draw(edge + edge // 8, edge, 51))


def _with_clear_colours(hub: HubImages, settings: ImageSettings) -> ImageSettings:
    """The settings with what becomes of clear colours, which depends on the class and its version."""
    white = dataclasses.replace(settings, clear_is_white=True)
    with tempfile.TemporaryDirectory(prefix="edgekit-pictures-") as name, quiet_libraries():
        path = Path(name) / "clear-colour.png"
        path.write_bytes(clear_colour())
        try:
            _compare(hub, ImageProcessor(white), path)
        except ExportWrong:
            return settings  # or neither is right, which the proof finds
    return white


def _compare(hub: HubImages, processor: ImageProcessor, path: Path) -> Array | None:
    """The values of a file, float32 [3, height, width]; None when transformers itself cannot take it."""
    import PIL.Image
    from transformers.image_utils import load_image

    try:
        with PIL.Image.open(path) as opened:
            made = hub(images=load_image(opened), return_tensors="np")
        expected = np.asarray(made[IMAGE_INPUT][0], dtype=np.float32)
    except _REFUSALS as problem:
        if path.name.startswith(_NARROW):
            return None
        reason = f"{type(problem).__name__}: {problem}"
        raise _untold(hub, f"it makes no {IMAGE_INPUT} of {path.name} in transformers: {reason}") from problem
    try:
        found = processor.feeds([path])[IMAGE_INPUT][0]
    except EdgekitError as problem:
        raise _differs(hub, path, f"refuses it: {problem.message}") from problem
    if found.shape != expected.shape:
        raise _differs(hub, path, f"gives {_shown(found.shape)}, transformers {_shown(expected.shape)}")
    wrong = ~(np.abs(found - expected) <= _ROUNDING * np.maximum(1.0, np.abs(expected)))
    if wrong.any():
        place = tuple(int(at) for at in np.argwhere(wrong)[0])
        values = f"{found[place]:.6g}, transformers {expected[place]:.6g}"
        raise _differs(
            hub, path, f"gives {values} at {list(place)} ({wrong.mean():.1%} of the values differ)"
        )
    return expected


def _differs(hub: HubImages, path: Path, what: str) -> ExportWrong:
    return ExportWrong(
        f"the processor that would travel reads {path.name} differently from {class_name(hub)}: it {what}",
        hint=f"this class does more than its settings say; {_INSTEAD}",
    )


def _shown(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
