"""Records of a folder of images or recordings, one folder in it for each class: DIR/CLASS/*.png."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from edgekit.errors import DataError
from edgekit.tasks.base import AUDIO, IMAGE, LABEL, Column, Task
from edgekit.tasks.data.files import Record

#: Files that are rows. Any other file in a class folder is refused: leaving it out would be a guess.
MEDIA_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    IMAGE: (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    AUDIO: (".wav", ".flac", ".ogg", ".mp3"),
}
#: What file managers leave behind, in lower case.
_LEFT_BEHIND = ("thumbs.db", "desktop.ini")


def folder_records(path: Path, task: Task, columns: Mapping[str, str], need_label: bool) -> Iterator[Record]:
    """A record for each file, in the order of their names; the name of its folder is the label.

    columns: what --columns says, which must be nothing. Without `need_label` files may lie anywhere below.
    Raises DataError for a task that takes more than one media column, and for files that are none.
    """
    media, label = _columns(path, task, need_label)
    if columns:
        raise DataError(
            f"--columns: {path} is a folder, which has no columns", hint="leave it out, or give a .jsonl file"
        )
    try:
        found = _labelled(path, media) if label else [(file, "") for file in _files(path, media)]
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}", hint="the folder must be readable") from None
    for number, (file, folder) in enumerate(found, start=1):
        name = file.relative_to(path).as_posix()
        cells = {media.name: name} | ({label.name: folder} if label else {})
        yield Record(number=number, where=f"{path}: row {number}, {name}", cells=cells, plain=True)


def _columns(path: Path, task: Task, need_label: bool) -> tuple[Column, Column | None]:
    """The media column, and the label column where labels are asked for and the task has them."""
    inputs = [column for column in task.columns if column.required and not column.label]
    if len(inputs) != 1 or inputs[0].holds not in MEDIA_SUFFIXES:
        raise DataError(
            f"{path} is a folder, and rows of task {task.name!r} are no single files",
            hint="give a .jsonl or .csv file",
        )
    label = next((column for column in task.columns if column.label), None) if need_label else None
    if label is not None and label.holds != LABEL:
        raise DataError(
            f"{path} is a folder, whose names cannot tell the column {label.name!r}",
            hint=f"give a .jsonl or .csv file with the columns {inputs[0].name} and {label.name}",
        )
    return inputs[0], label


def _labelled(path: Path, media: Column) -> list[tuple[Path, str]]:
    classes = sorted(entry for entry in path.iterdir() if entry.is_dir() and not _is_hidden(entry))
    if not classes:
        raise DataError(
            f"{path} holds no folder, so that no {media.name} has a class",
            hint=f"put each {media.name} into a folder that is named after its class",
        )
    stray = next((entry for entry in sorted(path.iterdir()) if entry.is_file() and _fits(entry, media)), None)
    if stray is not None:
        raise DataError(f"{stray} lies in no class's folder", hint=f"put it into one of {path}")
    return [(file, folder.name) for folder in classes for file in _files(folder, media)]


def _files(folder: Path, media: Column) -> list[Path]:
    found = []
    for file in sorted(folder.rglob("*"), key=lambda entry: entry.relative_to(folder).parts):
        if not file.is_file() or any(_is_hidden(part) for part in (file, *file.relative_to(folder).parents)):
            continue
        if not _fits(file, media):
            known = ", ".join(MEDIA_SUFFIXES[media.holds])
            raise DataError(f"{file} is no {media.holds} file", hint=f"known: {known}. Convert or remove it")
        found.append(file)
    return found


def _fits(file: Path, media: Column) -> bool:
    return file.suffix.lower() in MEDIA_SUFFIXES[media.holds]


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _LEFT_BEHIND
