"""A folder of images or recordings, one folder in it for each class, read as rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import DataError
from edgekit.tasks import Mapped, load_task
from edgekit.tasks.data import read_rows

LABELS = ("cat", "dog")


def lay(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, "utf-8")
    return folder


def read(folder: Path, task: str = "image-classification", **changes: object) -> list[tuple[str, object]]:
    rows = read_rows(folder, **{"task": load_task(task), "labels": LABELS, **changes})  # type: ignore[arg-type]
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    (media,) = {name for row in rows for name in row.values}
    return [(Path(row.text(media)).relative_to(folder).as_posix(), row.truth) for row in rows]


def refused(folder: Path, task: str = "image-classification", **changes: object) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, task, **changes)
    assert str(folder) in caught.value.message and caught.value.hint
    return caught.value.message


def test_each_file_is_a_row_and_its_folder_the_label(tmp_path: Path) -> None:
    lay(
        tmp_path,
        "dog/b.PNG",
        "cat/2.jpg",
        "cat/10.jpg",
        "dog/more/a.webp",
        "dog/.hidden.png",
        "cat/Thumbs.db",
    )
    assert read(tmp_path) == [
        ("cat/10.jpg", "cat"),
        ("cat/2.jpg", "cat"),
        ("dog/b.PNG", "dog"),
        ("dog/more/a.webp", "dog"),
    ]


def test_recordings_are_read_alike(tmp_path: Path) -> None:
    assert read(lay(tmp_path, "dog/a.wav"), "audio-classification") == [("dog/a.wav", "dog")]


def test_folders_are_mapped_by_labels_or_are_class_numbers(tmp_path: Path) -> None:
    lay(tmp_path, "katze/a.png", "1/b.png")
    mapped = Mapped(labels={"katze": "cat", "1": "dog"})
    assert read(tmp_path, mapped=mapped) == [("1/b.png", "dog"), ("katze/a.png", "cat")]
    assert "has the label 'katze'" in refused(tmp_path)


def test_calibration_takes_files_wherever_they_lie(tmp_path: Path) -> None:
    lay(tmp_path, "b.png", "x/a.png")
    assert read(tmp_path, need_label=False) == [("b.png", None), ("x/a.png", None)]
    assert read(tmp_path, "object-detection", need_label=False) == [("b.png", None), ("x/a.png", None)]
    assert read(tmp_path, "image-embedding") == [("b.png", None), ("x/a.png", None)]


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    assert "holds no folder" in refused(lay(tmp_path, "a.png"))


def test_a_file_in_no_class_is_refused_and_a_note_beside_the_classes_is_none(tmp_path: Path) -> None:
    lay(tmp_path, "cat/a.png", "README.txt")
    assert read(tmp_path) == [("cat/a.png", "cat")]
    assert "b.png lies in no class's folder" in refused(lay(tmp_path, "b.png"))


def test_a_file_of_another_kind_is_refused_not_left_out(tmp_path: Path) -> None:
    assert "a.heic is no image file" in refused(lay(tmp_path, "cat/a.heic"))


def test_empty_folders_hold_no_rows(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    assert "holds no rows" in refused(tmp_path)


def test_tasks_of_other_columns_take_no_folder(tmp_path: Path) -> None:
    lay(tmp_path, "cat/a.png")
    assert "no single files" in refused(tmp_path, "text-classification")
    assert "column 'boxes'" in refused(tmp_path, "object-detection")
    assert "column 'mask'" in refused(tmp_path, "semantic-segmentation")


def test_a_folder_has_no_columns_to_map(tmp_path: Path) -> None:
    lay(tmp_path, "cat/a.png")
    assert "--columns" in refused(tmp_path, mapped=Mapped(columns={"image": "photo"}))
