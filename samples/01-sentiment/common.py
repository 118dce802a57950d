"""What both scripts of this recipe share: errors, digests and directories that appear whole."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LABELS = ("negative", "positive")
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Row:
    text: str
    label: str


@dataclass(frozen=True)
class Settings:
    """Everything that decides which model comes out; a re-run with equal settings does nothing."""

    frozen: bool
    seed: int
    rows: int | None
    epochs: int
    learning_rate: float
    batch_size: int = 32
    max_length: int = 64


class RecipeError(Exception):
    """Something the user can act on: what happened, and what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def differing(directory: Path, expected: dict[str, str]) -> list[str]:
    """The names under `directory` that are missing or do not have the expected sha256."""
    return [
        name
        for name, digest in expected.items()
        if not (directory / name).is_file() or sha256_of(directory / name) != digest
    ]


def refuse_foreign(directory: Path, own: Container[str]) -> None:
    """Stop before a directory is replaced that holds anything this recipe did not write."""
    if directory.exists() and not directory.is_dir():
        raise RecipeError(f"{directory} is not a directory", "move it away or choose another --output")
    foreign = sorted(entry.name for entry in directory.glob("*") if entry.name not in own)
    if foreign:
        raise RecipeError(
            f"{directory} holds files of someone else ({', '.join(foreign[:3])}) and is left alone",
            "choose another --output",
        )


@contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """Yield a new sibling directory that takes the place of `target` only if the block succeeds.

    A sibling, because a rename is atomic only within one file system. An older `target` stays
    untouched until the new one is complete.
    """
    target = target.absolute()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    retired = target.with_name(f".{target.name}.{os.getpid()}.old")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.mkdir()
    try:
        yield partial
        if target.exists():
            target.rename(retired)
        try:
            partial.rename(target)
        except OSError:
            if retired.exists():
                retired.rename(target)
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def run(main: Callable[[], int]) -> int:
    """Call `main` and turn what a user can act on into a message and an exit code."""
    try:
        return main()
    except RecipeError as error:
        print(f"error: {error}\n  {error.hint}", file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        print(f"error: {error}\n  check the path, its permissions and the free space", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left behind", file=sys.stderr)
        return EXIT_INTERRUPTED
