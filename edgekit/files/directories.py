"""Output directories, and single files, that appear whole or not at all.

A stage writes into a temporary sibling; when it ends well the files are flushed to disk and the
directory is renamed into place. An earlier edgekit directory of the same kind is moved aside first
and removed afterwards; anything else at that path is never touched.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgekit.errors import OutputBusy, OutputError
from edgekit.files.manifests import MANIFEST_NAME, manifest_kind

TEMPORARY_PREFIX = ".edgekit-"
_TAIL = re.compile(r"-[0-9a-f]{8}\.(work|old)")
_NOTHING_FREE = 64 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_ELSEWHERE = "choose an --output that can be written"
_IN_THE_WAY = "a file stands where a directory is needed; choose another --output"
_HINTS = {
    errno.ENOSPC: "free some space, or choose an --output on another disk",
    errno.EDQUOT: "free some space, or choose an --output on another disk",
    errno.ENAMETOOLONG: "choose a shorter --output",
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
}


@contextmanager
def new_directory(output: Path, kind: str) -> Iterator[Path]:
    """Yield a temporary directory that becomes `output` when the block ends without an error.

    Raises OutputError when `output` cannot be written or holds something that is not an edgekit
    directory of this `kind`; OutputBusy when another run is writing it. What the block raises for
    other reasons goes on as it is.
    """
    output = Path.cwd() / output
    refuse_foreign(output, kind)
    with sole_writer(output):
        work = temporary_beside(output)
        try:
            with explained(output):
                work.mkdir()
                work.chmod(0o755)
            with explained(output, work):
                yield work
            with explained(output):
                _flush(work)
                _swap(work, output)
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def sole_writer(output: Path) -> Iterator[None]:
    """Hold `output`, an absolute path, for this run alone, and sweep up what a killed one left.

    Raises OutputBusy when another run holds it, OutputError when its place cannot be written.
    """
    _refuse_reserved(output)
    path = output.parent / f"{TEMPORARY_PREFIX}{output.name}.lock"
    with explained(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path)
    if descriptor is None:
        raise OutputBusy(
            f"{output}: another edgekit run is writing it", hint="wait, or choose another --output"
        )
    try:
        with explained(output):
            _sweep(output)
        yield
    finally:
        _release(descriptor, path)


def temporary_beside(output: Path, kind: str = "work") -> Path:
    """A free sibling of `output` for its sole writer; no other output's sibling has such a name.

    The name ends in eight digits and the kind, so all that stands before them is the output's name.
    """
    return output.parent / f"{TEMPORARY_PREFIX}{output.name}-{secrets.token_hex(4)}.{kind}"


@contextmanager
def explained(output: Path, work: Path | None = None) -> Iterator[None]:
    """Turn an OSError of the block into an OutputError that says why `output` cannot be written.

    work: given when other code writes there; then only a full or read-only disk and trouble with a
    path at or below `work` are the output's, and every other error goes on as it is.
    """
    try:
        yield
    except OSError as problem:
        number = problem.errno
        if number is None and shutil.disk_usage(output.parent).free < _NOTHING_FREE:
            number = errno.ENOSPC  # some writers only say that they could not write
        if work is not None and number not in _NO_ROOM and not _concerns(problem, work):
            raise
        reason = os.strerror(number) if number is not None else str(problem)
        raise OutputError(
            f"{output}: cannot write: {reason}; nothing was left there",
            hint=_HINTS.get(number or 0, _ELSEWHERE),
        ) from problem


def _concerns(problem: OSError, work: Path) -> bool:
    """Whether the error names a path at or below `work`."""
    places = (place for place in (problem.filename, problem.filename2) if isinstance(place, str | bytes))
    real = Path(os.path.realpath(work))
    return any(Path(os.path.realpath(os.fsdecode(place))).is_relative_to(real) for place in places)


def refuse_foreign(output: Path, kind: str) -> None:
    """Raise OutputError unless `output` is free, empty, or an edgekit directory of `kind`."""
    _refuse_reserved(output)
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise OutputError(f"{output}: exists and is not a directory", hint="choose another --output")
    if not output.is_dir() or not any(output.iterdir()):
        return
    found = manifest_kind(output)
    if found != kind:
        what = f"an edgekit {found} directory" if found else "not an edgekit directory"
        raise OutputError(f"{output}: holds files and is {what}", hint="choose another --output, or empty it")


def _refuse_reserved(output: Path) -> None:
    if output.name.startswith(TEMPORARY_PREFIX):
        raise OutputError(
            f"{output}: names in {TEMPORARY_PREFIX}* are kept for unfinished work",
            hint="choose another --output",
        )


def _acquire(path: Path) -> int | None:
    """Lock the file at `path` and return its descriptor; None when another run holds it.

    The system frees the lock when the process dies. Between our opening and our locking, the run
    that held the file may end and remove it; such a lock holds nothing, and we try again.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _try_lock(descriptor):
            os.close(descriptor)
            return None
        if _stands_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _release(descriptor: int, path: Path) -> None:
    """Remove the lock file while we hold it; Windows lets it go only when nobody has it open."""
    with suppress(OSError):
        if os.name != "nt" and _stands_at(descriptor, path):
            path.unlink()
    os.close(descriptor)
    if os.name == "nt":
        with suppress(OSError):
            path.unlink()


def _stands_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _try_lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(output: Path) -> None:
    """Remove what a killed run of this output left; we hold the lock, so nobody is using it."""
    prefix = f"{TEMPORARY_PREFIX}{output.name}"
    for entry in list(output.parent.iterdir()):
        tail = _TAIL.fullmatch(entry.name.removeprefix(prefix)) if entry.name.startswith(prefix) else None
        if tail is None or entry.is_symlink():
            continue
        if not entry.is_dir():
            entry.unlink(missing_ok=True)
        elif tail[1] == "old" and not output.exists() and (entry / MANIFEST_NAME).is_file():
            entry.rename(output)  # killed between the two renames of _swap: nothing is lost
        else:
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def new_file(output: Path) -> Iterator[Path]:
    """A temporary sibling that becomes the file `output` when the block ends without an error."""
    output = output.absolute()
    with sole_writer(output):
        temporary = temporary_beside(output)
        try:
            with explained(output, temporary):
                yield temporary
                _fsync(temporary)
            with explained(output):
                temporary.replace(output)
                _fsync(output.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _flush(work: Path) -> None:
    for directory, _, names in os.walk(work):
        for name in names:
            (Path(directory) / name).chmod(0o644)  # some writers leave files to their owner alone
            _fsync(Path(directory) / name)
        _fsync(Path(directory))


def _fsync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(work: Path, output: Path) -> None:
    aside: Path | None = None
    if output.exists():
        aside = temporary_beside(output, "old")
        output.rename(aside)
    try:
        work.rename(output)
    except OSError:
        if aside is not None:
            aside.rename(output)
        raise
    _fsync(output.parent)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)
