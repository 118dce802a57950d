"""Neutral pictures, drawn in code: for goldens and checks, and files that decoders read in different ways.

Waves of colour, discs and bars, at fixed seeds; nobody's photographs.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import PIL.Image

    from edgekit_runtime.session import Array

#: (height, width) of the pictures that become goldens: landscape, portrait, square, odd.
SIZES = ((240, 320), (320, 240), (256, 256), (181, 263), (300, 200), (224, 298))
#: Tag of EXIF that says how a camera was held, and its values other than upright.
_ORIENTATION, _TURNS = 0x0112, range(2, 9)


def draw(height: int, width: int, seed: int, grain: float = 0.0) -> Array:
    """A picture, uint8 [height, width, 3], RGB. grain: spread of the noise on it, 1.0 being white."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = generator.uniform(3.0, 12.0, (3, 2))
    phases = generator.uniform(0.0, 6.0, 3)
    canvas = np.stack(
        [0.5 + 0.4 * np.sin(a * x + b * y + c) for (a, b), c in zip(waves, phases, strict=True)], axis=-1
    )
    for _ in range(5):
        top, left, size = generator.uniform(0.0, 1.0, 3)
        disc = (y - top) ** 2 + (x - left) ** 2 < (0.05 + 0.2 * size) ** 2
        canvas[disc] = generator.uniform(0.0, 1.0, 3)
        bar = np.abs(x - left) < 0.01 + 0.02 * size
        canvas[bar & (y > top)] = generator.uniform(0.0, 1.0, 3)
    canvas += generator.normal(0.0, 1.0, canvas.shape) * grain
    picture: Array = (canvas.clip(0.0, 1.0) * 255.0).round().astype(np.uint8)
    return picture


def noise(height: int, width: int, seed: int) -> Array:
    """Random pixels, uint8 [height, width, 3], which no photograph reaches."""
    generator = np.random.default_rng(seed)
    picture: Array = generator.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return picture


def tricky() -> Iterator[tuple[str, bytes]]:
    """(file name, content): shapes, colours, turns and formats on which two readers are likeliest to part."""
    yield from _shapes()
    yield from _colours()
    yield from _turned()
    yield from _formats()


def png(picture: Array) -> bytes:
    """The picture as a PNG file."""
    return _encoded(_image(picture), "PNG")


def clear_colour() -> bytes:
    """A PNG of few colours, one of which the file calls transparent."""
    palette = _image(draw(45, 52, 20)).quantize(8)
    palette.info["transparency"] = 3
    return _encoded(palette, "PNG")


def _shapes() -> Iterator[tuple[str, bytes]]:
    sizes = (
        ("landscape", 48, 64),
        ("portrait", 64, 48),
        ("odd", 37, 53),
        ("odd-portrait", 61, 35),
        ("one-wide", 40, 1),
        ("one-high", 1, 40),
        ("one-pixel", 1, 1),
        ("very-wide", 4, 150),
        ("very-high", 150, 4),
    )
    for seed, (name, height, width) in enumerate(sizes):
        yield f"{name}.png", png(draw(height, width, seed, grain=0.02))
    yield "large.png", png(draw(331, 467, len(sizes)))
    yield "noise.png", png(noise(33, 31, 0))
    tiles = np.indices((40, 40)).sum(axis=0) % 2 * 255
    yield "checkerboard.png", png(np.repeat(tiles[:, :, None], 3, axis=2).astype(np.uint8))
    yield "black.png", png(np.zeros((20, 30, 3), dtype=np.uint8))
    yield "white.png", png(np.full((30, 20, 3), 255, dtype=np.uint8))


def _colours() -> Iterator[tuple[str, bytes]]:
    """Every way in which PNG keeps colours, and JPEG in inks."""
    image = _image(draw(45, 52, 20))
    half = _image(np.tile(np.linspace(0, 255, 52).astype(np.uint8), (45, 1)))
    clear = image.copy()
    clear.putalpha(half)
    yield "grey.png", _encoded(image.convert("L"), "PNG")
    yield "grey-clear.png", _encoded(clear.convert("LA"), "PNG")
    yield "clear.png", _encoded(clear, "PNG")
    yield "palette.png", _encoded(image.quantize(64), "PNG")
    yield "clear-colour.png", clear_colour()
    yield "two-colours.png", _encoded(image.convert("1"), "PNG")
    yield "inks.jpg", _encoded(image.convert("CMYK"), "JPEG")


def _turned() -> Iterator[tuple[str, bytes]]:
    """Pictures that a camera held in other ways says to turn or mirror."""
    import PIL.Image

    for turn in _TURNS:
        exif = PIL.Image.Exif()
        exif[_ORIENTATION] = turn
        image = _image(draw(30, 44, 30))
        buffer = io.BytesIO()
        image.save(buffer, "PNG", exif=exif)
        yield f"turned-{turn}.png", buffer.getvalue()
        if turn == 6:  # a telephone held upright
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", exif=exif, quality=90)
            yield "turned-6.jpg", buffer.getvalue()


def _formats() -> Iterator[tuple[str, bytes]]:
    image = _image(draw(50, 41, 40))
    yield "plain.jpg", _encoded(image, "JPEG")
    yield "grey.jpg", _encoded(image.convert("L"), "JPEG")
    yield "plain.gif", _encoded(image, "GIF")
    yield "plain.bmp", _encoded(image, "BMP")


def _image(picture: Array) -> PIL.Image.Image:
    import PIL.Image

    return PIL.Image.fromarray(picture)


def _encoded(image: PIL.Image.Image, format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()
