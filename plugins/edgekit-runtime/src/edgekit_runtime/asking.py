"""Answers on a command line: words to rows, answers to lines and JSON.

`edgekit run` and `python -m edgekit_runtime run` both print what is made here.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit_runtime.answers import KINDS
from edgekit_runtime.errors import InputError
from edgekit_runtime.package_info import PackageInfo
from edgekit_runtime.processors.base import Row
from edgekit_runtime.reader import Package


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One row and its answer. words: one text or path, or the two of a pair; answer: as its kind reads it."""

    words: tuple[str, ...]
    answer: Any


def ask(
    package: Package, words: Sequence[str], *, pairs: bool = False, candidates: str | None = None
) -> list[Answered]:
    """Answer the rows that `words` are: texts, or paths of images or recordings.

    pairs: take them two by two; candidates: labels to choose from, "one,other". Raises `InputError`
    for what the package cannot take.
    """
    media = package.processor is not None and package.processor.kind != "text"
    groups: list[tuple[str, ...]] = [(word,) for word in words]
    if pairs and len(words) % 2:
        kind = "files" if media else "texts"
        raise InputError(f"--pairs takes an even number of {kind}, found {len(words)}")
    if pairs:
        groups = list(zip(words[::2], words[1::2], strict=True))
    if candidates is None:
        answers = package.predict([_row(group, media=media) for group in groups])
    elif pairs:
        raise InputError("candidates are chosen for one text at a time", hint="leave --pairs out")
    else:
        answers = [package.choose(word, candidates.split(",")) for word in words]
    return [Answered(words=group, answer=answer) for group, answer in zip(groups, answers, strict=True)]


def line(info: PackageInfo, found: Answered) -> str:
    """One line for people: the answer, then the row; tab-separated columns."""
    row = " | ".join(" ".join(_printable(word).split()) for word in found.words)
    return f"{KINDS[info.table.answers].text(found.answer)}\t{row}"


def answers_json(info: PackageInfo, found: Sequence[Answered]) -> dict[str, object]:
    """All of it as one JSON object, with what must not be forgotten about the package."""
    kind = KINDS[info.table.answers]
    predictions = []
    for item in found:
        row = [_printable(word) for word in item.words]
        predictions.append({"row": row if len(row) > 1 else row[0], "prediction": kind.json(item.answer)})
    return {**summary(info), "predictions": predictions}


def summary(info: PackageInfo) -> dict[str, object]:
    """What a package is, for the head of a JSON object."""
    table = info.table
    return {
        "name": info.name,
        "digest": info.digest,
        "task": table.task,
        "answers": table.answers,
        "backend": table.backend,
        "precision": table.precision,
        "verdict": table.verdict,
        "confidence": table.confidence,
        "unproven": list(table.unproven),
        "allow_failed": table.allow_failed,
    }


def _row(words: tuple[str, ...], *, media: bool) -> Row | tuple[Row, Row]:
    values: list[Row] = [_file(word) for word in words] if media else list(words)
    return (values[0], values[1]) if len(values) == 2 else values[0]


def _file(word: str) -> Path:
    path = Path(word)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as exc:  # ValueError: a NUL in it
        problem = getattr(exc, "strerror", None) or str(exc)
    else:
        if stat.S_ISREG(mode):
            return path
        problem = "is a directory" if stat.S_ISDIR(mode) else "is not a file"
    raise InputError(f"{_printable(word)}: {problem}", hint="give paths of image files or recordings")


def _printable(word: str) -> str:
    """`word` without the halves of characters that the name of a file may hold."""
    return word.encode("utf-8", "backslashreplace").decode()
