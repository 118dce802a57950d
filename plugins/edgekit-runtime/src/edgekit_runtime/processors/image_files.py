"""Image files to pixels, as transformers' `load_image` reads them: turned upright, in RGB.

An alpha channel is left out, not blended, and of several frames the first is taken.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np

from edgekit_runtime.errors import InputError, MissingDependency
from edgekit_runtime.processors.base import Image

#: Formats that Pillow decodes itself. Of others it starts programs (EPS) or needs libraries of the system.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
#: Grey values of more than 8 bits, which Pillow cuts off at 255 instead of scaling them.
_DEEP = ("I", "F")
#: What Pillow raises for files that are damaged, each in its own decoder.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    MemoryError,
    AttributeError,
    struct.error,
    zlib.error,
)


def read_image(path: Path, where: str, *, clear_is_white: bool = False) -> Image:
    """The image in the file. where: what it is called in messages; clear_is_white: as in `ImageSettings`.

    Raises `InputError` when it is no image, damaged, or larger than Pillow takes without a warning,
    and `MissingDependency` without Pillow.
    """
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as exc:
        raise MissingDependency(
            f"reading images needs the library Pillow: {exc}", hint="pip install edgekit-runtime[image]"
        ) from exc
    try:
        if not path.is_file():
            what = "is a directory" if path.is_dir() else "does not exist"
            raise InputError(f"{where}: {path} {what}", hint="give the path of an image")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, and reads the pixels
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(path, formats=FORMATS) as opened:
                _refuse_deep(opened.mode, f"{where}: {path}")
                image = PIL.ImageOps.exif_transpose(opened).convert("RGB")
                if clear_is_white and image.info.get("transparency") is not None:
                    white = PIL.Image.new("RGBA", image.size, "white")
                    image = PIL.Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
                pixels = np.array(image)
    except (PIL.Image.DecompressionBombWarning, PIL.Image.DecompressionBombError) as exc:
        raise InputError(f"{where}: {path} is too large: {exc}", hint="make it smaller first") from exc
    except PIL.UnidentifiedImageError as exc:
        raise InputError(
            f"{where}: {path} is no image of a known format", hint=f"known formats: {', '.join(FORMATS)}"
        ) from exc
    except _DAMAGE as exc:
        raise InputError(f"{where}: {path} cannot be read: {exc}", hint="is the file whole?") from exc
    return Image(pixels)


def _refuse_deep(mode: str, where: str) -> None:
    if mode.startswith(_DEEP):
        raise InputError(
            f"{where} has grey values of more than 8 bits (mode {mode})",
            hint="scale it to 8 bits, as the model's training images were",
        )
