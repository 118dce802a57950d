"""Images to pixel values, as the model's own image processor makes them. numpy and Pillow, no transformers.

processor.json    what is done, see `image_settings`
parity.json       {"schema": 1, "cases": [{"file", "shape", "sums", "values"}]}; the files lie beside it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from edgekit_runtime.errors import InputError, MissingDependency, ProcessorError, SelfTestFailed
from edgekit_runtime.processors.base import (
    PROCESSOR_FILE,
    Image,
    ImageContext,
    Prepared,
    Row,
)
from edgekit_runtime.processors.image_files import read_image
from edgekit_runtime.processors.image_settings import (
    FILTERS,
    IMAGE_INPUT,
    ImageSettings,
    read_settings,
    settings_json,
)
from edgekit_runtime.processors.parity import read_cases, write_cases
from edgekit_runtime.session import Array
from edgekit_runtime.strictjson import Fields, dump_json, number

#: Pixel values of a parity case that are recorded one by one.
SAMPLES = 256
#: By how many of the 255 levels of a pixel another machine may differ. Pillow's resampling is of whole
#: numbers, rounded to one level; decoders of JPEG also round the transform and the colours.
LOSSLESS_LEVELS, JPEG_LEVELS = 1.0, 4.0
#: And by how many on the mean of a channel: roundings go both ways, another filter or size does not.
_MEAN_SHARE = 0.25
#: An image may not be scaled to more pixels than this: one of 1 x 10,000 would become gigabytes.
MOST_PIXELS = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCase:
    """What the original made of a file. shape: of the values, (3, height, width); sums: of each channel;
    values: `SAMPLES` of them, spread over all."""

    file: str
    shape: tuple[int, ...]
    sums: tuple[float, ...]
    values: tuple[float, ...]


class ImageProcessor:
    """Resizing, cropping and scaling with fixed settings. Not for use by several threads at once."""

    kind = "image"

    def __init__(
        self, settings: ImageSettings, parity: Sequence[ImageCase] = (), folder: Path = Path()
    ) -> None:
        fixed = settings.fixed_size
        if fixed is not None and fixed[0] * fixed[1] > MOST_PIXELS:
            raise ProcessorError(
                f"{fixed[0]} x {fixed[1]} pixels are more than the {MOST_PIXELS:,} that an image may have"
            )
        self.settings = settings
        self.parity = tuple(parity)
        self._folder = folder
        self._levels = _levels(settings)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The model input that `feeds` makes."""
        return self.settings.inputs

    def prepare(self, rows: Sequence[Row], *, pad_to: int | None = None) -> Prepared:
        """One batch: float32 [rows, 3, height, width]. All rows must come out at one size.

        A row is the path of an image file, or an `Image`. `pad_to` is for texts.
        """
        if isinstance(rows, str | Path | Image):
            raise InputError("rows must be a list of images, found one", hint="put it in a list: [image]")
        if not rows:
            raise InputError("there are no rows to make feeds of")
        if pad_to is not None:
            raise InputError(f"images have no length that could be padded to {pad_to}")
        values, contexts = zip(
            *(self._one(row, f"row {index}") for index, row in enumerate(rows)), strict=True
        )
        for index, array in enumerate(values):
            if array.shape != values[0].shape:
                raise InputError(
                    f"row {index} becomes {_shown(array)} and row 0 {_shown(values[0])}: that is no batch",
                    hint="images of different sizes are run one by one",
                )
        return Prepared(feeds={IMAGE_INPUT: np.stack(values)}, contexts=contexts)

    def feeds(self, rows: Sequence[Row], *, pad_to: int | None = None) -> dict[str, Array]:
        """The feeds of `prepare`."""
        return self.prepare(rows, pad_to=pad_to).feeds

    def decode(self, ids: Sequence[int]) -> str:
        """Raises `InputError`: images are made of no vocabulary."""
        raise InputError(f"an image processor has no vocabulary that could read the ids {list(ids)[:5]}")

    def check_parity(self) -> int:
        """Read the recorded files again; raise `SelfTestFailed` for the first that comes out differently."""
        for case in self.parity:
            path = self._folder / case.file
            if not path.is_file():
                raise ProcessorError(f"{path} is missing", hint="export the model again")
            values, _ = self._one(path, "parity")
            found = describe(case.file, values)
            problem = self._difference(found, case)
            if problem:
                raise SelfTestFailed(
                    f"parity case {case.file}: {problem}",
                    hint="the installed Pillow reads or scales images differently; install another version",
                )
        return len(self.parity)

    def _one(self, row: object, where: str) -> tuple[Array, ImageContext]:
        if isinstance(row, str | Path):
            row = read_image(Path(row), where, clear_is_white=self.settings.clear_is_white)
        pixels = _pixels(row, where)
        height, width = pixels.shape[:2]
        resized = self._resize(pixels, where)
        cropped = resized if self.settings.crop is None else _crop(resized, self.settings.crop)
        if self.settings.channels == "bgr":
            cropped = cropped[:, :, ::-1]
        values = np.stack([self._levels[channel][cropped[:, :, channel]] for channel in range(3)])
        seen = _seen((height, width), resized.shape[:2], self.settings.crop)
        return values, ImageContext(size=(height, width), seen=seen)

    def _resize(self, pixels: Array, where: str) -> Array:
        resize = self.settings.resize
        if resize is None:
            return pixels
        height, width = resize.target(*pixels.shape[:2])
        if min(height, width) < 1 or height * width > MOST_PIXELS:
            shape = f"{pixels.shape[0]} x {pixels.shape[1]}"
            raise InputError(
                f"{where}: an image of {shape} pixels would be scaled to {height} x {width}",
                hint="it is too narrow for this model; cut out the part that matters",
            )
        try:
            from PIL import Image as pillow
        except ImportError as exc:
            raise MissingDependency(
                f"scaling images needs the library Pillow: {exc}", hint="pip install edgekit-runtime[image]"
            ) from exc
        scaled = pillow.fromarray(pixels).resize((width, height), pillow.Resampling(FILTERS[resize.filter]))
        return np.array(scaled)

    def _difference(self, found: ImageCase, recorded: ImageCase) -> str:
        if found.shape != recorded.shape:
            return f"shape {found.shape} instead of {recorded.shape}"
        lossy = recorded.file.endswith((".jpg", ".jpeg"))
        # How far one level of a pixel moves a value.
        level = float(np.abs(np.diff(self._levels, axis=1)).max())
        allowed = level * (JPEG_LEVELS if lossy else LOSSLESS_LEVELS) * 1.001
        for place, value, wanted in zip(places(found.shape), found.values, recorded.values, strict=True):
            if not abs(value - wanted) <= allowed:
                return f"value {_place(place, found.shape)} is {value:.6g} instead of {wanted:.6g}"
        pixels = found.shape[1] * found.shape[2]
        for channel, (value, wanted) in enumerate(zip(found.sums, recorded.sums, strict=True)):
            if not abs(value - wanted) / pixels <= allowed * _MEAN_SHARE:
                return f"the sum of channel {channel} is {value:.6g} instead of {wanted:.6g}"
        return ""


def describe(file: str, values: Array) -> ImageCase:
    """What is recorded of the values of an image, float32 [3, height, width]."""
    flat = values.reshape(-1)
    return ImageCase(
        file=file,
        shape=tuple(values.shape),
        sums=tuple(float(total) for total in values.sum(axis=(1, 2), dtype=np.float64)),
        values=tuple(float(flat[place]) for place in places(values.shape)),
    )


def places(shape: Sequence[int]) -> list[int]:
    """Which of the flattened values are recorded: far apart, in all channels, the same everywhere."""
    count = int(np.prod(shape, dtype=np.int64))
    return [(index * 2_654_435_761) % count for index in range(SAMPLES)]  # Knuth's multiplicative hash


def write_image_processor(
    directory: Path, *, settings: ImageSettings, parity: Sequence[ImageCase], files: Mapping[str, bytes]
) -> ImageProcessor:
    """Write a processor directory (made when missing) and open it as a device would.

    files: the content of every file that `parity` names.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / PROCESSOR_FILE).write_bytes(dump_json(settings_json(settings)))
    for case in parity:
        (directory / case.file).write_bytes(files[case.file])
    cases = [
        {
            "file": case.file,
            "shape": list(case.shape),
            "sums": [_short(value) for value in case.sums],
            "values": [_short(value) for value in case.values],
        }
        for case in parity
    ]
    write_cases(directory, cases)
    return load_image(directory)


def load_image(directory: Path) -> ImageProcessor:
    """Open an image processor. Raises `ProcessorError`."""
    settings = read_settings(directory)
    parity = read_cases(directory, _parity_case)
    try:
        return ImageProcessor(settings, parity, directory)
    except ProcessorError as exc:
        raise ProcessorError(f"{directory}: {exc.message}", hint=exc.hint) from exc


# --- pixels -------------------------------------------------------------------------------------------


def _pixels(row: object, where: str) -> Array:
    """uint8 [height, width, 3] of a row."""
    if not isinstance(row, Image):
        raise InputError(
            f"{where} must be an image or the path of one, found {type(row).__name__}",
            hint="give the path of an image file",
        )
    pixels = np.asarray(row.pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise InputError(
            f"{where}: the pixels of an image must be uint8 [height, width, 3], found"
            f" {pixels.dtype} {list(pixels.shape)}"
        )
    return np.ascontiguousarray(pixels)


def _crop(pixels: Array, crop: tuple[int, int]) -> Array:
    """The middle of the image, with zeros around it where it is smaller."""
    cropped = np.zeros((*crop, 3), dtype=pixels.dtype)
    into, out_of = [], []
    for have, want in zip(pixels.shape[:2], crop, strict=True):
        start = (have - want) // 2
        out_of.append(slice(max(0, start), min(have, start + want)))
        into.append(slice(max(0, -start), max(0, -start) + min(have, want)))
    cropped[tuple(into)] = pixels[tuple(out_of)]
    return cropped


def _seen(
    size: tuple[int, int], resized: Sequence[int], crop: tuple[int, int] | None
) -> tuple[float, float, float, float]:
    """(top, left, bottom, right) of what the model sees, in pixels of the original.

    Where zeros were put around a small image these lie outside of it.
    """
    if crop is None:
        return 0.0, 0.0, float(size[0]), float(size[1])
    starts = [(have - want) // 2 for have, want in zip(resized, crop, strict=True)]
    scales = [first / second for first, second in zip(size, resized, strict=True)]
    top, left = (start * scale for start, scale in zip(starts, scales, strict=True))
    bottom, right = ((start + want) * scale for start, want, scale in zip(starts, crop, scales, strict=True))
    return top, left, bottom, right


def _levels(settings: ImageSettings) -> Array:
    """What each of the 256 levels of a pixel becomes, float32 [3, 256].

    In the order and the precision of transformers, so that the values are the same to the last bit.
    """
    levels = np.tile(np.arange(256, dtype=np.float64), (3, 1))
    if settings.rescale is not None:
        levels *= settings.rescale
    values: Array = levels.astype(np.float32)
    if settings.offset:
        values = values - np.float32(settings.offset)
    with np.errstate(all="ignore"):
        for step in settings.normalize:
            mean, std = (np.array(part, dtype=np.float32)[:, None] for part in (step.mean, step.std))
            values = (values - mean) / std
    if not np.isfinite(values).all():
        raise ProcessorError("rescale and normalize make values that are no finite numbers")
    return values


# --- parity -------------------------------------------------------------------------------------------


def _parity_case(item: object, where: str) -> ImageCase:
    fields = Fields(item, known=("file", "shape", "sums", "values"), where=where, error=ProcessorError)
    file = fields.text("file")
    if PurePath(file).name != file or "\\" in file or ":" in file:
        raise ProcessorError(f"{fields.where('file')} must be the name of a file, found {file!r}")
    shape, sums, values = (
        [number(part, fields.where(key), error=ProcessorError) for part in fields.items(key)]
        for key in ("shape", "sums", "values")
    )
    if len(shape) != 3 or len(sums) != 3 or len(values) != SAMPLES:
        raise ProcessorError(f"{where} must hold 3 sizes, 3 sums and {SAMPLES} values")
    return ImageCase(
        file=file, shape=tuple(int(size) for size in shape), sums=tuple(sums), values=tuple(values)
    )


def _short(value: float) -> float:
    """Seven digits, as many as fp32 has."""
    return float(f"{value:.7g}")


def _shown(values: Array) -> str:
    return f"{values.shape[1]} x {values.shape[2]} pixels"


def _place(place: int, shape: Sequence[int]) -> str:
    channel, rest = divmod(place, shape[1] * shape[2])
    row, column = divmod(rest, shape[2])
    return f"[{channel}, {row}, {column}]"
