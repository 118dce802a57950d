"""Rows of parquet files, as other tools write them."""

from __future__ import annotations

import builtins
import decimal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from edgekit.errors import DataError
from edgekit.tasks import Mapped, load_task
from edgekit.tasks.data import count_rows, each_row, media_files, read_rows
from edgekit_runtime.errors import MissingDependency

TASK = load_task("text-classification")
LABELS = ("negative", "positive")


def write(path: Path, **columns: object) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=3)
    return path


def refused(path: Path, task: str = "text-classification", mapped: Mapped | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        read_rows(path, task=load_task(task), labels=LABELS, mapped=mapped)
    assert str(path) in caught.value.message and caught.value.hint
    return caught.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.parquet"


def test_texts_labels_and_class_numbers_are_read_in_order(path: Path) -> None:
    texts = [f"text {number} ü" for number in range(100)]
    write(path, text=texts, label=[number % 2 for number in range(100)], other=list(range(100)))
    rows = read_rows(path, task=TASK, labels=LABELS)
    assert [(row.number, row.values["text"], row.truth) for row in rows] == [
        (number + 1, text, LABELS[number % 2]) for number, text in enumerate(texts)
    ]
    assert count_rows(path, task=TASK, mapped=Mapped()) == 100
    json_lines = path.with_suffix(".jsonl")
    json_lines.write_text('{"text": "text 7 ü"}\n', encoding="utf-8")
    [again] = read_rows(json_lines, task=TASK, labels=LABELS, need_label=False)
    assert again.digest == rows[7].digest, "a row is known again in another kind of file"


def test_lists_numbers_and_dictionaries_of_words_are_read(path: Path) -> None:
    write(path, words=[["Ada", "wrote"], ["no"]], tags=[[1, 0], [0]])
    rows = read_rows(path, task=load_task("token-classification"), labels=LABELS)
    assert rows[0].values["words"] == ("Ada", "wrote") and rows[0].truth == ("positive", "negative")
    coded = pyarrow.array(["a", "b"]).dictionary_encode()
    values = pyarrow.array([decimal.Decimal("1.50"), decimal.Decimal("2.25")])
    write(path, text=coded, value=values)
    found = read_rows(path, task=load_task("regression"), labels=())
    assert [(row.values["text"], row.truth) for row in found] == [("a", 1.5), ("b", 2.25)]


def test_columns_are_mapped_and_a_near_name_is_told(path: Path) -> None:
    write(path, review=["a"], stars=["positive"])
    mapped = Mapped(columns={"text": "review", "label": "stars"})
    assert [row.truth for row in each_row(path, task=TASK, labels=LABELS, mapped=mapped)] == ["positive"]
    assert "'review'" in refused(path, mapped=Mapped(columns={"text": "reviews"})).hint


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ([None, "b"], "row 1, column 'text' holds nothing"),
        ([b"a", b"b"], "row 1, column 'text' holds bytes"),
        ([{"bytes": b"..", "path": "x"}], "row 1, column 'text' holds dict"),
        ([np.datetime64("2026-01-01", "s")], "row 1, column 'text' holds datetime"),
    ],
)
def test_a_cell_that_is_no_text_is_named(path: Path, cells: list[object], problem: str) -> None:
    assert problem in refused(write(path, text=cells, label=["positive"] * len(cells))).message


def test_pictures_inside_the_file_are_the_files_that_they_were(path: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.PNG"
    Image.new("RGB", (4, 3), "red").save(picture)
    content = picture.read_bytes()
    cells = [{"bytes": content, "path": "photos/a.PNG"}, {"bytes": None, "path": "a.PNG"}]
    task = load_task("image-classification")
    write(path, image=cells, label=[1, 0])
    inside, beside = read_rows(path, task=task, labels=LABELS)
    held = inside.values["image"]
    assert isinstance(held, Path) and held.suffix == ".png"
    assert held.read_bytes() == content
    assert beside.values["image"] == picture
    assert inside.digest == beside.digest
    assert media_files(path, task=task) == (picture,)

    write(path, image=[content], label=[1])
    assert read_rows(path, task=task, labels=LABELS)[0].digest == inside.digest


def test_the_copies_of_pictures_are_gone_when_the_process_ends(path: Path) -> None:
    write(path, image=[{"bytes": b"a picture", "path": "../../escape.png"}], label=[1])
    code = (
        "import sys; from pathlib import Path; from edgekit.tasks import load_task\n"
        "from edgekit.tasks.data import read_rows\n"
        "rows = read_rows(Path(sys.argv[1]), task=load_task('image-classification'), labels=('a', 'b'))\n"
        "assert rows[0].values['image'].read_bytes() == b'a picture'; print(rows[0].values['image'])"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    copy = Path(done.stdout.strip())
    assert copy.parent.name.startswith("edgekit-media-") and not copy.parent.exists()


def test_a_cell_that_is_neither_a_path_nor_a_file_is_named(path: Path) -> None:
    write(path, image=[{"height": 3, "data": b"..."}], label=[1])
    problem = refused(path, "image-classification")
    assert "row 1, column 'image' holds dict" in problem.message and "not a path" in problem.message
    write(path, image=[{"bytes": None, "path": "gone.png"}], label=[1])
    assert "'gone.png': no such file" in refused(path, "image-classification").message


def test_a_file_that_is_damaged_is_refused(path: Path) -> None:
    write(path, text=["some text " * 50] * 1000, label=[0] * 1000)
    whole = path.read_bytes()
    for damaged in (b"", b"PAR1", whole[:-100], whole[: len(whole) // 2], b"text,label\na,0\n"):
        path.write_bytes(damaged)
        assert "parquet" in refused(path).message
    path.write_bytes(b"\xff" * 400 + whole[400:])
    refused(path)
    path.unlink()
    assert "No such file" in refused(path).message


def test_a_file_without_rows_and_one_with_a_column_twice_are_refused(path: Path) -> None:
    write(path, text=pyarrow.array([], pyarrow.string()), label=pyarrow.array([], pyarrow.int64()))
    assert "no rows" in refused(path).message
    table = pyarrow.table([["a"], ["b"]], names=["text", "text"])
    pyarrow.parquet.write_table(table, path)
    assert "two columns are called 'text'" in refused(path).message


def test_a_small_file_that_expands_to_hundreds_of_mebibytes_is_refused(path: Path) -> None:
    table = pyarrow.table({"text": ["a" * (32 << 20)] * 3})
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 1 << 20
    assert "expands from" in refused(path).message


def test_without_the_library_the_extra_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, text=["a"], label=[1])
    given = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.startswith("pyarrow"):
            raise ImportError(f"No module named {name!r}")
        return given(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match="pyarrow") as caught:
        read_rows(path, task=TASK, labels=LABELS)
    assert "edgekit[parquet]" in caught.value.hint
