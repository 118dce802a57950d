"""Masks of classes, and the sizes of the images that they belong to. Pillow reads both."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import DataError
from edgekit_runtime.errors import MissingDependency

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: What Pillow raises for files that are damaged, each in its own decoder.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error)
#: One number for each pixel: bits, bytes, places in a palette, and the modes of 16-bit files.
_ONE_NUMBER = ("1", "L", "P", "I", "I;16", "I;16B")
_HIGHEST = 255
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)


def read_mask(where: str, path: Path) -> NDArray[np.uint8]:
    """The class number of each pixel, [height, width]. Raises DataError naming what is wrong."""
    _need_pillow()
    import numpy as np
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL.Image.open(path, formats=("PNG",)) as opened:
                opened.load()
                mode, numbers = opened.mode, np.asarray(opened)
    except PIL.Image.DecompressionBombError:
        raise DataError(f"{where}: {path} is too large a mask", hint="make it smaller") from None
    except _DAMAGE as problem:
        raise DataError(f"{where}: {path} cannot be read as a mask: {problem}", hint=_HINT) from None
    if mode not in _ONE_NUMBER:
        raise DataError(f"{where}: {path} is a mask of mode {mode}, not one number a pixel", hint=_HINT)
    if numbers.size and int(numbers.max()) > _HIGHEST:
        raise DataError(f"{where}: {path} holds the class {int(numbers.max())}, over 255", hint=_HINT)
    return numbers.astype(np.uint8)


_HINT = "give a grey or palette PNG of the class number of each pixel, 0 to 254; 255 is not judged"


def image_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of an image once it is upright; None when that cannot be told."""
    _need_pillow()
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL.Image.open(path) as opened:
                width, height = opened.size
                turned = opened.getexif().get(_ORIENTATION) in _TURNED
    except (PIL.Image.DecompressionBombError, *_DAMAGE):
        return None  # the processor says what is wrong with it
    return (width, height) if turned else (height, width)


def _need_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError as problem:
        raise MissingDependency(
            f"reading masks needs the library Pillow: {problem}", hint="pip install 'edgekit-runtime[image]'"
        ) from None
