"""What each kind of column promises: a value in the form that metrics take, or a refusal that names it."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgekit.errors import DataError
from edgekit.tasks import Column, Mapped, Row, Task, load_task
from edgekit.tasks.base import INPUTS, TRUTHS
from edgekit.tasks.custom import Custom
from edgekit.tasks.data import media_files, read_rows

LABELS = ("O", "B-PER", "I-PER")


class OneColumn(Custom):
    """A task whose rows hold one cell of a kind, and a text."""

    def __init__(self, holds: str, *, required: bool = True) -> None:
        label = holds in TRUTHS
        self.columns = (
            Column(name="text", help=""),
            Column(name="cell", help="", holds=holds, label=label, required=required),
        )


def write(folder: Path, *records: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def rows_of(path: Path, task: Task | str, labels: tuple[str, ...] = LABELS) -> tuple[Row, ...]:
    return read_rows(path, task=load_task(task) if isinstance(task, str) else task, labels=labels)


def cell(folder: Path, holds: str, value: object, *, plain: bool = False) -> Any:
    """What a cell of this kind is read as, from JSON lines or from CSV."""
    if plain:
        path = folder / "rows.csv"
        with path.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([["text", "cell"], ["a", value]])
    else:
        path = write(folder, {"text": "a", "cell": value})
    (row,) = rows_of(path, OneColumn(holds))
    return row.truth if holds in TRUTHS else row.values["cell"]


def refusal(folder: Path, holds: str, value: object, *, plain: bool = False) -> DataError:
    with pytest.raises(DataError) as caught:
        cell(folder, holds, value, plain=plain)
    assert f"{folder / 'rows.'}" in caught.value.message
    assert "row 1" in caught.value.message and "'cell'" in caught.value.message
    assert caught.value.hint
    return caught.value


def picture(path: Path, size: tuple[int, int] = (4, 3), mode: str = "L", value: Any = 0) -> Path:
    Image.new(mode, size, value).save(path)
    return path


# --- every kind, any value ----------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["box", "label", "crowd", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("holds", [*INPUTS, *TRUTHS])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON)
def test_any_json_is_read_or_refused_by_its_row_and_column(tmp_path: Path, holds: str, value: object) -> None:
    try:
        cell(tmp_path, holds, value)
    except DataError as problem:
        assert f"{tmp_path / 'rows.jsonl'}: row 1, column 'cell'" in problem.message
        assert problem.hint


@pytest.mark.parametrize("holds", [*INPUTS, *TRUTHS])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20) | JSON.map(json.dumps))
def test_any_text_of_csv_is_read_or_refused_by_its_row_and_column(
    tmp_path: Path, holds: str, value: str
) -> None:
    try:
        cell(tmp_path, holds, value, plain=True)
    except DataError as problem:
        assert f"{tmp_path / 'rows.csv'}: row 1, column 'cell'" in problem.message
        assert problem.hint


WORD = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORD, min_size=1, max_size=5))
def test_words_come_back_as_they_were_given(tmp_path: Path, words: list[str]) -> None:
    assert cell(tmp_path, "words", words) == tuple(words)
    assert cell(tmp_path, "words", json.dumps(words), plain=True) == tuple(words)
    if not words[0].startswith("["):
        assert cell(tmp_path, "words", "  ".join(words), plain=True) == tuple(words)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**12), 10**12))
def test_numbers_come_back_as_they_were_given(tmp_path: Path, number: float) -> None:
    assert cell(tmp_path, "number", number) == number
    assert cell(tmp_path, "number", repr(number), plain=True) == number


# --- kind by kind ---------------------------------------------------------------------------


def test_labels_come_in_the_models_order_each_once(tmp_path: Path) -> None:
    assert cell(tmp_path, "labels", ["I-PER", 1, "B-PER"]) == ("B-PER", "I-PER")
    assert cell(tmp_path, "labels", []) == cell(tmp_path, "labels", "", plain=True) == ()
    assert cell(tmp_path, "labels", "I-PER O", plain=True) == ("O", "I-PER")
    assert cell(tmp_path, "labels", '["I-PER"]', plain=True) == ("I-PER",)
    assert "item 2" in refusal(tmp_path, "labels", ["O", "B-LOC"]).message
    assert "B-LOC" in refusal(tmp_path, "labels", "B-LOC", plain=True).message
    assert "list of labels" in refusal(tmp_path, "labels", "O").message
    assert "nothing" in refusal(tmp_path, "labels", None).message


def test_answers_are_a_text_or_several(tmp_path: Path) -> None:
    assert cell(tmp_path, "answers", "Ada") == ("Ada",)
    assert cell(tmp_path, "answers", ["Ada", "she"]) == ("Ada", "she")
    assert cell(tmp_path, "answers", '["Ada", "she"]', plain=True) == ("Ada", "she")
    assert cell(tmp_path, "answers", "[sic] Ada", plain=True) == ("[sic] Ada",)
    assert "no answer" in refusal(tmp_path, "answers", []).message
    assert "not text" in refusal(tmp_path, "answers", ["Ada", 3]).message


@pytest.mark.parametrize("value", ["3", True, None, [1], math.nan, math.inf, 10**400])
def test_what_is_no_finite_number_is_refused(tmp_path: Path, value: object) -> None:
    assert "finite number" in refusal(tmp_path, "number", value).message


@pytest.mark.parametrize("value", ["", "much", "nan", "-inf", "1e999", "[1]"])
def test_what_is_no_finite_number_in_csv_is_refused(tmp_path: Path, value: str) -> None:
    assert "finite number" in refusal(tmp_path, "number", value, plain=True).message


def test_a_number_of_too_many_digits_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "cell": ' + "9" * 5000 + "}", encoding="utf-8")
    with pytest.raises(DataError, match=r"row 1 \(line 1\) is not JSON: .*digits"):
        rows_of(path, OneColumn("number"))


def test_boxes_have_four_numbers_and_a_label_of_the_model(tmp_path: Path) -> None:
    found = {"box": [1, 2.5, 3, 0], "label": 1, "crowd": True, "id": 7}
    expected = [{"box": [1.0, 2.5, 3.0, 0.0], "label": "B-PER", "crowd": True}]
    assert cell(tmp_path, "boxes", [found]) == expected
    assert cell(tmp_path, "boxes", json.dumps([found]), plain=True) == expected
    assert cell(tmp_path, "boxes", []) == []


BOX = {"box": [1, 2, 3, 4], "label": "O"}


@pytest.mark.parametrize(
    "box",
    [
        {"box": [1, 2, 3], "label": "O"},
        {"box": [1, 2, 3, -4], "label": "O"},
        {"box": [1, 2, 3, math.nan], "label": "O"},
        {"box": [1, 2, 3, "4"], "label": "O"},
        {"box": "1 2 3 4", "label": "O"},
        {"box": [1, 2, 3, 4]},
        {"box": [1, 2, 3, 4], "label": "cat"},
        {"box": [1, 2, 3, 4], "label": "O", "crowd": "yes"},
        [1, 2, 3, 4],
    ],
    ids=str,
)
def test_a_box_of_another_shape_is_refused_by_its_place(tmp_path: Path, box: object) -> None:
    assert "box 2" in refusal(tmp_path, "boxes", [BOX, box]).message


@pytest.mark.parametrize("value", [BOX, "boxes", None])
def test_boxes_that_are_no_list_are_refused(tmp_path: Path, value: object) -> None:
    assert "list of boxes" in refusal(tmp_path, "boxes", value).message


# --- media ----------------------------------------------------------------------------------


def test_media_are_looked_for_beside_the_data_file_and_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "data" / "pictures").mkdir(parents=True)
    inside = picture(tmp_path / "data" / "pictures" / "1.png")
    outside = picture(tmp_path / "2.png")
    for name, meant in (("pictures/1.png", inside), ("../2.png", outside), (str(outside), outside)):
        found = cell(tmp_path / "data", "image", name)
        assert found.is_absolute()
        assert found.samefile(meant)


@pytest.mark.parametrize("name", ["", "none.png", ".", "a\0b", "x" * 5000, "https://example.org/1.png"])
@pytest.mark.parametrize("holds", ["image", "audio", "mask"])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, holds: str, name: str) -> None:
    assert str(tmp_path) in refusal(tmp_path, holds, name).hint


def test_a_row_is_recognised_by_what_its_files_hold_whatever_they_are_called(tmp_path: Path) -> None:
    for name, value in (("1", 5), ("2", 5), ("3", 6)):
        picture(tmp_path / f"{name}.png", value=value)
    path = write(tmp_path, *({"image": f"{name}.png"} for name in (1, 2, 3)))
    one, same, other = rows_of(path, "image-embedding", ())
    assert one.digest == same.digest != other.digest


def test_the_files_that_rows_name_are_part_of_the_data(tmp_path: Path) -> None:
    image, mask = picture(tmp_path / "1.png"), picture(tmp_path / "m.png")
    path = write(tmp_path, {"photo": "1.png", "mask": "m.png"})
    task, mapped = load_task("semantic-segmentation"), Mapped(columns={"image": "photo"})
    assert media_files(path, task=task, mapped=mapped) == (image, mask)
    assert media_files(path, task=load_task("text-classification")) == ()
    mask.unlink()
    with pytest.raises(DataError, match=r"row 1, column 'mask'"):
        media_files(path, task=task, mapped=mapped)
    assert media_files(path, task=task, mapped=mapped, need_label=False) == (image,)


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16"])
def test_a_mask_is_the_class_number_of_each_pixel(tmp_path: Path, mode: str) -> None:
    picture(tmp_path / "m.png", mode=mode, value=1)
    found = cell(tmp_path, "mask", "m.png")
    assert (found.shape, found.dtype, set(found.ravel().tolist())) == ((3, 4), np.uint8, {1})


def test_a_mask_of_colours_or_of_large_numbers_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "rgb.png", mode="RGB", value=(1, 2, 3))
    picture(tmp_path / "deep.png", mode="I;16", value=256)
    whole = picture(tmp_path / "whole.png", size=(99, 99)).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture", "utf-8")
    picture(tmp_path / "photo.jpg")
    for name, told in (
        ("rgb", "mode RGB"),
        ("deep", "class 256"),
        ("half", "cannot be read"),
        ("text", "cannot"),
    ):
        assert told in refusal(tmp_path, "mask", f"{name}.png").message
    assert "cannot be read" in refusal(tmp_path, "mask", "photo.jpg").message


# --- a truth and the input that it is about ------------------------------------------------------


def test_there_are_as_many_tags_as_words(tmp_path: Path) -> None:
    path = write(tmp_path, {"words": ["Ada", "wrote"], "tags": ["B-PER", 0]})
    (row,) = rows_of(path, "token-classification")
    assert (row.words("words"), row.truth) == (("Ada", "wrote"), ("B-PER", "O"))
    path = write(tmp_path, {"words": ["Ada", "wrote"], "tags": ["B-PER"]})
    with pytest.raises(DataError, match=r"row 1, column 'tags' holds 1 tags for 2 words"):
        rows_of(path, "token-classification")


def test_the_right_label_of_any_is_one_of_the_candidates(tmp_path: Path) -> None:
    row = {"text": "a", "candidates": ["up", "down"], "label": "up"}
    assert rows_of(write(tmp_path, row), "zero-shot-classification")[0].truth == "up"
    for change in ({"label": "Up"}, {"candidates": ["up", "up"]}):
        with pytest.raises(DataError, match=r"row 1, column 'label'"):
            rows_of(write(tmp_path, row | change), "zero-shot-classification")


def test_a_mask_is_as_large_as_its_image_once_that_is_upright(tmp_path: Path) -> None:
    picture(tmp_path / "m.png", size=(4, 3))
    picture(tmp_path / "wide.png", size=(4, 3))
    turned = Image.new("RGB", (3, 4))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    picture(tmp_path / "high.png", size=(3, 4))
    for name in ("wide.png", "turned.jpg"):
        rows_of(write(tmp_path, {"image": name, "mask": "m.png"}), "semantic-segmentation")
    with pytest.raises(DataError, match=r"row 1, column 'mask' holds a mask of 4 x 3 .* image of 3 x 4"):
        rows_of(write(tmp_path, {"image": "high.png", "mask": "m.png"}), "semantic-segmentation")


# --- columns that are left open -------------------------------------------------------------------


def test_an_optional_column_may_be_left_open_row_by_row(tmp_path: Path) -> None:
    path = write(tmp_path, {"text": "a", "cell": 2}, {"text": "b", "cell": None}, {"text": "c"})
    assert [row.truth for row in rows_of(path, OneColumn("number", required=False))] == [2.0, None, None]
    table = tmp_path / "rows.csv"
    table.write_text("text,cell\na,2\nb,\n", encoding="utf-8")
    assert [row.truth for row in rows_of(table, OneColumn("number", required=False))] == [2.0, None]


def test_labels_are_not_mapped_where_rows_hold_none(tmp_path: Path) -> None:
    path = write(tmp_path, {"text": "a", "value": 2})
    with pytest.raises(DataError, match="--labels: rows of task 'regression' hold no labels"):
        read_rows(path, task=load_task("regression"), labels=(), mapped=Mapped(labels={"a": "b"}))


def test_a_refusal_names_the_column_as_the_file_does(tmp_path: Path) -> None:
    path = write(tmp_path, {"review": 3, "label": "O"})
    mapped = Mapped(columns={"text": "review"})
    with pytest.raises(DataError, match=r"row 1, column 'review' holds int 3, not text"):
        read_rows(path, task=load_task("text-classification"), labels=LABELS, mapped=mapped)
