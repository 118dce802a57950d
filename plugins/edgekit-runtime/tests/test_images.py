"""Images become the values the model was trained on, whatever the files hold."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from edgekit_runtime.errors import InputError, MissingDependency, ProcessorError, SelfTestFailed
from edgekit_runtime.processors import Processor, load_processor
from edgekit_runtime.processors.base import Image, ImageContext
from edgekit_runtime.processors.image import (
    MOST_PIXELS,
    SAMPLES,
    ImageProcessor,
    describe,
    load_image,
    write_image_processor,
)
from edgekit_runtime.processors.image_settings import ImageSettings, Normalize, Resize

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.5, 0.2)
SCALED = ImageSettings(rescale=1 / 255, normalize=(Normalize(mean=MEAN, std=STD),))
SQUARE = replace(SCALED, resize=Resize(rule="shortest", size=(40,), filter="bicubic"), crop=(32, 32))


def picture(height: int, width: int) -> Image:
    """Smooth waves: one level of rounding is no more than one level anywhere."""
    y, x = np.mgrid[0:height, 0:width] / 9.0
    channels = [np.sin(x + y * turn) * 100 + 128 for turn in (0.3, 0.7, 1.1)]
    return Image(np.stack(channels, axis=-1).astype(np.uint8))


def saved(path: Path, image: Image, **settings: Any) -> Path:
    PIL.Image.fromarray(image.pixels).save(path, **settings)
    return path


# --- values -------------------------------------------------------------------------------------------


def test_values_are_scaled_and_normalized_by_channel_channels_first() -> None:
    pixels = np.array([[[0, 51, 102], [255, 204, 153]]], dtype=np.uint8)
    values = ImageProcessor(SCALED).feeds([Image(pixels)])["pixel_values"]
    assert values.shape == (1, 3, 1, 2)
    assert values.dtype == np.float32
    expected = [[[-2.0, 2.0]], [[-0.4, 0.8]], [[0.5, 1.5]]]
    np.testing.assert_allclose(values[0], expected, atol=1e-6)


def test_offset_second_normalization_and_channel_order_are_kept() -> None:
    pixels = np.array([[[0, 51, 102]]], dtype=np.uint8)
    twice = ImageSettings(
        rescale=1 / 51,
        offset=1.0,
        channels="bgr",
        normalize=(Normalize(mean=(0, 0, 0), std=(2, 2, 2)), Normalize(mean=(1, 1, 1), std=(1, 1, 2))),
    )
    values = ImageProcessor(twice).feeds([Image(pixels)])["pixel_values"]
    np.testing.assert_allclose(values.ravel(), [-0.5, -1.0, -0.75])


@pytest.mark.parametrize(
    ("resize", "size", "expected"),
    [
        (Resize(rule="exact", size=(30, 20)), (7, 91), (30, 20)),
        (Resize(rule="shortest", size=(224,)), (480, 640), (224, 298)),
        (Resize(rule="shortest", size=(224,)), (640, 480), (298, 224)),
        (Resize(rule="shortest", size=(224,)), (100, 100), (224, 224)),
        (Resize(rule="within", size=(800, 1333)), (480, 640), (800, 1066)),
        (Resize(rule="within", size=(800, 1333)), (427, 1000), (569, 1333)),
        (Resize(rule="within", size=(800, 1333)), (800, 900), (800, 900)),
        (Resize(rule="within", size=(800, 1333)), (2000, 500), (1333, 333)),
        (Resize(rule="within-multiple", size=(512, 864), multiple=16), (480, 640), (512, 672)),
        (Resize(rule="within-multiple", size=(512, 864), multiple=16), (900, 512), (864, 480)),
        (Resize(rule="fit", size=(50, 50)), (100, 200), (25, 50)),
        (Resize(rule="fit", size=(200, 500)), (100, 200), (200, 400)),
    ],
)
def test_sizes_are_rounded_as_transformers_rounds_them(
    resize: Resize, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert resize.target(*size) == expected


def test_a_crop_takes_the_middle_and_puts_zeros_around_a_small_image() -> None:
    plain = ImageSettings(crop=(2, 5))
    pixels = np.arange(12, dtype=np.uint8).reshape(4, 3, 1).repeat(3, axis=2)
    values = ImageProcessor(plain).feeds([Image(pixels)])["pixel_values"][0, 0]
    assert values.tolist() == [[0, 3, 4, 5, 0], [0, 6, 7, 8, 0]]


def test_the_context_says_what_part_the_model_sees_in_pixels_of_the_file() -> None:
    whole = replace(SCALED, resize=Resize(rule="exact", size=(8, 8)))
    (context,) = ImageProcessor(whole).prepare([picture(30, 50)]).contexts
    assert context == ImageContext(size=(30, 50), seen=(0.0, 0.0, 30.0, 50.0))
    (context,) = ImageProcessor(SQUARE).prepare([picture(80, 120)]).contexts
    # Scaled by a half to 40 x 60, of which 32 x 32 in the middle are taken.
    assert context == ImageContext(size=(80, 120), seen=(8.0, 28.0, 72.0, 92.0))
    padded = ImageSettings(crop=(10, 10))
    (context,) = ImageProcessor(padded).prepare([picture(6, 20)]).contexts
    assert context == ImageContext(size=(6, 20), seen=(-2.0, 5.0, 8.0, 15.0))


def test_rows_are_paths_texts_of_paths_and_images(tmp_path: Path) -> None:
    path = saved(tmp_path / "a picture.png", picture(50, 70))
    processor = ImageProcessor(SQUARE)
    values = processor.feeds([path, str(path), picture(50, 70)])["pixel_values"]
    assert values.shape == (3, 3, 32, 32)
    assert (values[0] == values[1]).all()
    assert (values[0] == values[2]).all()


# --- files --------------------------------------------------------------------------------------------


def turned(path: Path, orientation: int) -> Path:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return saved(path, picture(20, 34), exif=exif)


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    plain = ImageProcessor(ImageSettings())
    upright = picture(20, 34).pixels
    for orientation, expected in (
        (3, upright[::-1, ::-1]),
        (6, np.rot90(upright, -1)),
        (2, upright[:, ::-1]),
    ):
        prepared = plain.prepare([turned(tmp_path / f"{orientation}.png", orientation)])
        assert (prepared.feeds["pixel_values"][0].transpose(1, 2, 0) == expected).all()
        (context,) = prepared.contexts
        assert isinstance(context, ImageContext)
        assert context.size == expected.shape[:2]


def test_every_kind_of_colour_becomes_rgb(tmp_path: Path) -> None:
    image = PIL.Image.fromarray(picture(9, 11).pixels)
    plain = ImageProcessor(ImageSettings())
    for mode in ("1", "L", "LA", "P", "RGBA"):
        changed = image.convert(mode)
        changed.save(tmp_path / "image.png")
        values = plain.feeds([tmp_path / "image.png"])["pixel_values"][0]
        assert (values.transpose(1, 2, 0) == np.array(changed.convert("RGB"))).all(), mode


def test_transparency_is_left_out_as_transformers_leaves_it_out(tmp_path: Path) -> None:
    PIL.Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    values = ImageProcessor(ImageSettings()).feeds([tmp_path / "clear.png"])["pixel_values"]
    assert values[0, :, 0, 0].tolist() == [10, 20, 30]


def test_a_colour_that_is_called_clear_becomes_white_where_the_settings_say_so(tmp_path: Path) -> None:
    image = PIL.Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "clear.png", transparency=1)
    for white, expected in ((False, [40, 50, 60]), (True, [255, 255, 255])):
        processor = ImageProcessor(ImageSettings(clear_is_white=white))
        values = processor.feeds([tmp_path / "clear.png"])["pixel_values"]
        assert values[0, :, 0, 0].tolist() == [10, 20, 30]
        assert values[0, :, 0, 1].tolist() == expected


def test_the_first_picture_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [PIL.Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    values = ImageProcessor(ImageSettings()).feeds([tmp_path / "two.gif"])["pixel_values"]
    assert values[0, :, 0, 0].tolist() == [255, 0, 0]


def damaged(tmp_path: Path, kind: str) -> Path:
    """A file that is no whole image."""
    path = tmp_path / kind
    content = io.BytesIO()
    PIL.Image.fromarray(picture(40, 40).pixels).save(content, "JPEG" if kind.endswith("jpg") else "PNG")
    data = content.getvalue()
    if kind.startswith("cut"):
        data = data[: len(data) // 2]
    if kind.startswith("flipped"):
        data = data[:60] + bytes(255 - byte for byte in data[60:90]) + data[90:]
    if kind == "text.png":
        data = b"this is a text"
    if kind == "empty.png":
        data = b""
    if kind == "program.eps":
        data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut.png", "cannot be read"),
        ("cut.jpg", "cannot be read"),
        ("flipped.png", "cannot be read"),
        ("text.png", "no image of a known format"),
        ("empty.png", "no image of a known format"),
        ("program.eps", "no image of a known format"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, kind: str, message: str) -> None:
    path = damaged(tmp_path, kind)
    with pytest.raises(InputError, match=message) as caught:
        ImageProcessor(SQUARE).feeds([picture(40, 40), path])
    assert f"row 1: {path}" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "PPM"])
def test_whatever_is_in_a_file_nothing_but_an_input_error_comes_out(tmp_path: Path, kind: str) -> None:
    content = content_of(picture(20, 30), kind)
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        data = bytearray(content)
        for place in generator.integers(0, min(len(data), 200), 4):
            data[place] = generator.integers(0, 256)
        (tmp_path / "harmed").write_bytes(data[: generator.integers(len(data) // 2, len(data) + 1)])
        try:
            ImageProcessor(SQUARE).feeds([tmp_path / "harmed"])
        except InputError:
            refused += 1
    assert refused > 20


def test_an_image_larger_than_pillow_takes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "bomb.png", picture(40, 40))
    for limit in (1000, 100):  # Pillow warns of the first and refuses the second
        monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InputError, match=r"bomb\.png is too large"):
            ImageProcessor(SQUARE).feeds([path])


def test_grey_of_more_than_8_bits_is_refused(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    PIL.Image.fromarray(deep).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="more than 8 bits"):
        ImageProcessor(SQUARE).feeds([tmp_path / "deep.png"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ("photo.png", "must be a list of images"),
        (Path("photo.png"), "must be a list of images"),
        (picture(4, 4), "must be a list of images"),
        (["nothing-here.png"], r"row 0: nothing-here\.png does not exist"),
        (["."], "is a directory"),
        (["x" * 5000], "row 0"),
        (["a\0b"], "row 0"),
        ([("a.png", "b.png")], "row 0 must be an image or the path of one, found tuple"),
        ([picture(4, 4).pixels], "found ndarray"),
        ([Image(np.zeros((4, 4), dtype=np.uint8))], r"uint8 \[height, width, 3\], found uint8 \[4, 4\]"),
        ([Image(np.zeros((4, 4, 3), dtype=np.float32))], "found float32"),
        ([Image(np.zeros((0, 4, 3), dtype=np.uint8))], r"\[0, 4, 3\]"),
        ([None], "found NoneType"),
    ],
)
def test_what_is_no_image_is_refused(rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageProcessor(SQUARE).feeds(rows)


def test_images_of_different_sizes_make_no_batch() -> None:
    free = replace(SCALED, resize=Resize(rule="within", size=(20, 40)))
    processor = ImageProcessor(free)
    assert processor.feeds([picture(40, 60)])["pixel_values"].shape == (1, 3, 20, 30)
    assert processor.feeds([picture(40, 60)] * 2)["pixel_values"].shape == (2, 3, 20, 30)
    with pytest.raises(InputError, match="row 1 becomes 30 x 20 pixels and row 0 20 x 30 pixels") as caught:
        processor.feeds([picture(40, 60), picture(60, 40)])
    assert "one by one" in caught.value.hint


def test_images_are_not_padded_and_have_no_vocabulary() -> None:
    with pytest.raises(InputError, match="no length that could be padded to 7"):
        ImageProcessor(SQUARE).prepare([picture(4, 4)], pad_to=7)
    with pytest.raises(InputError, match="no vocabulary"):
        ImageProcessor(SQUARE).decode([1, 2])


def test_an_image_too_narrow_to_be_scaled_is_refused() -> None:
    with pytest.raises(InputError, match="1 x 90 pixels would be scaled to 0 x"):
        ImageProcessor(replace(SCALED, resize=Resize(rule="within", size=(20, 40)))).feeds([picture(1, 90)])
    many = MOST_PIXELS // 40**2 + 1
    with pytest.raises(InputError, match="would be scaled to 40 x"):
        ImageProcessor(SQUARE).feeds([Image(np.zeros((1, many, 3), dtype=np.uint8))])


def test_without_pillow_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.png", picture(8, 8))
    for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    for row in (path, picture(8, 8)):
        with pytest.raises(MissingDependency) as caught:
            ImageProcessor(SQUARE).feeds([row])
        assert caught.value.hint == "pip install edgekit-runtime[image]"
    assert ImageProcessor(SCALED).feeds([picture(8, 8)])["pixel_values"].shape == (1, 3, 8, 8)


# --- directories --------------------------------------------------------------------------------------


def content_of(image: Image, kind: str) -> bytes:
    content = io.BytesIO()
    PIL.Image.fromarray(image.pixels).save(content, kind)
    return content.getvalue()


def made(directory: Path, settings: ImageSettings = SQUARE) -> ImageProcessor:
    """A processor directory with a PNG and a JPEG to be read again."""
    files = {"a.png": content_of(picture(50, 70), "PNG"), "b.jpg": content_of(picture(64, 48), "JPEG")}
    directory.mkdir(parents=True, exist_ok=True)
    processor = ImageProcessor(settings)
    cases = []
    for name, content in files.items():
        (directory / name).write_bytes(content)
        cases.append(describe(name, processor.feeds([directory / name])["pixel_values"][0]))
    return write_image_processor(directory, settings=settings, parity=cases, files=files)


@pytest.mark.parametrize(
    "settings",
    [
        SQUARE,
        ImageSettings(clear_is_white=True),
        ImageSettings(crop=(5, 6), channels="bgr", rescale=0.5, offset=1.0),
        replace(SCALED, resize=Resize(rule="within-multiple", size=(64, 96), filter="lanczos", multiple=16)),
    ],
)
def test_settings_come_back_as_they_were_written(tmp_path: Path, settings: ImageSettings) -> None:
    written = made(tmp_path / "processor", settings)
    opened = load_processor(tmp_path / "processor")
    assert isinstance(opened, ImageProcessor)
    assert isinstance(opened, Processor)
    assert opened.settings == written.settings == settings
    assert opened.kind == "image"
    assert opened.input_names == ("pixel_values",)
    assert opened.check_parity() == 2


def change(path: Path, edit: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def alter(key: str, at: int, by: float) -> Callable[[Any], None]:
    def edit(value: Any) -> None:
        value["cases"][0][key][at] += by

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (alter("values", 17, 0.05), r"a\.png: value \[\d, \d+, \d+\] is .* instead of"),
        (alter("sums", 1, 20.0), "the sum of channel 1"),
        (alter("shape", 2, 1), r"shape \(3, 32, 32\) instead of \(3, 32, 33\)"),
    ],
)
def test_a_tampered_parity_file_is_found_out(
    tmp_path: Path, edit: Callable[[Any], None], message: str
) -> None:
    made(tmp_path)
    change(tmp_path / "parity.json", edit)
    with pytest.raises(SelfTestFailed, match=message) as caught:
        load_image(tmp_path).check_parity()
    assert "Pillow" in caught.value.hint


def test_a_difference_of_rounding_is_no_difference(tmp_path: Path) -> None:
    made(tmp_path)
    one_level = 1 / 255 / max(STD)
    change(tmp_path / "parity.json", alter("values", 3, one_level * 0.9))
    assert load_image(tmp_path).check_parity() == 2


@pytest.mark.parametrize("filter", ["bilinear", "lanczos", "nearest"])
def test_another_filter_is_found_out(tmp_path: Path, filter: str) -> None:
    made(tmp_path)

    def edit(value: Any) -> None:
        value["resize"]["filter"] = filter

    sharp = content_of(Image(picture(64, 48).pixels // 64 * 80), "PNG")
    (tmp_path / "a.png").write_bytes(sharp)
    values = load_image(tmp_path).feeds([tmp_path / "a.png"])["pixel_values"][0]
    write_image_processor(
        tmp_path, settings=SQUARE, parity=[describe("a.png", values)], files={"a.png": sharp}
    )
    change(tmp_path / "processor.json", edit)
    with pytest.raises(SelfTestFailed, match=r"a\.png"):
        load_image(tmp_path).check_parity()


def test_a_parity_file_stays_small(tmp_path: Path) -> None:
    made(tmp_path)
    case = json.loads((tmp_path / "parity.json").read_text())["cases"][0]
    assert len(case["values"]) == SAMPLES
    assert (tmp_path / "parity.json").stat().st_size < 20_000


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(ProcessorError, match=r"b\.jpg is missing"):
        load_image(tmp_path).check_parity()


def put(*keys: Any, value: Any) -> Callable[[Any], None]:
    def edit(table: Any) -> None:
        for key in keys[:-1]:
            table = table[key]
        table[keys[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("inputs", value=["input_ids"]), "becomes 'pixel_values' alone"),
        (put("clear_is_white", value=1), "clear_is_white must be true or false"),
        (put("resize", "rule", value="shortes"), r"resize: rule: 'shortes' is not known"),
        (put("resize", "rule", value="exact"), "resize: size must hold 2 sizes"),
        (put("resize", "size", value=[0]), "size must hold 1 sizes"),
        (put("resize", "size", value=[40.5]), "size must hold 1 sizes"),
        (put("resize", "size", value=[True]), "size must hold 1 sizes"),
        (put("resize", "size", value=[10**9]), "size must hold 1 sizes"),
        (put("resize", "filter", value="cubic"), "filter: 'cubic' is not known"),
        (put("resize", "gap", value=3), "unknown key 'gap'"),
        (put("resize", value=7), "resize must be an object"),
        (put("crop", value=[32]), "crop must hold 2 sizes"),
        (put("crop", value=[60_000, 60_000]), "more than the 50,000,000"),
        (put("channels", value="gbr"), "channels: 'gbr' is not known"),
        (put("rescale", value="1/255"), "rescale must be a finite number"),
        (put("rescale", value=10**400), "rescale must be a finite number"),
        (put("offset", value=None), "offset must be a finite number"),
        (put("normalize", 0, "mean", value=[0.5]), "a number for each of 3 channels"),
        (put("normalize", 0, "std", value=[1, 0, 1]), "std must not hold 0"),
        (put("normalize", 0, "std", value=[1, 1e-300, 1]), "no finite numbers"),
        (put("do_resize", value=True), "unknown key 'do_resize'"),
        (put("schema", value=2), "schema is 2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    tmp_path: Path, edit: Callable[[Any], None], message: str
) -> None:
    made(tmp_path)
    change(tmp_path / "processor.json", edit)
    with pytest.raises(ProcessorError, match=message) as caught:
        load_processor(tmp_path)
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("cases", 0, "file", value="../a.png"), "must be the name of a file"),
        (put("cases", 0, "file", value="C:a.png"), "must be the name of a file"),
        (put("cases", 0, "values", value=[1.0]), f"{SAMPLES} values"),
        (put("cases", 0, "values", 3, value="x"), "must be a finite number"),
        (put("cases", 0, "shape", value=[3, 32]), "3 sizes"),
        (put("cases", 0, value=[]), "case 0 must be an object"),
        (put("cases", value={}), "cases must be a list"),
        (put("schema", value=0), "schema is 0"),
    ],
)
def test_a_parity_file_that_makes_no_sense_is_refused(
    tmp_path: Path, edit: Callable[[Any], None], message: str
) -> None:
    made(tmp_path)
    change(tmp_path / "parity.json", edit)
    with pytest.raises(ProcessorError, match=message):
        load_image(tmp_path)
