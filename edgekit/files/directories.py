"""Output directories that appear whole or not at all.

A stage writes into a temporary sibling; when it ends well the files are flushed to disk and the
directory is renamed into place. An earlier edgekit directory of the same kind is moved aside first
and removed afterwards; anything else at that path is never touched.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgekit.errors import OutputBusy, OutputError
from edgekit.files.manifests import MANIFEST_NAME, manifest_kind

TEMPORARY_PREFIX = ".edgekit-"
_NOTHING_FREE = 64 * 1024


@contextmanager
def new_directory(output: Path, kind: str) -> Iterator[Path]:
    """Yield a temporary directory that becomes `output` when the block ends without an error.

    Raises OutputError when `output` cannot be written or holds something that is not an edgekit
    directory of this `kind`; OutputBusy when another run is writing it.
    """
    output = Path.cwd() / output
    refuse_foreign(output, kind)
    with _explained(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with _lock(output):
            _sweep(output)
            work = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{output.name}-", dir=output.parent))
            try:
                work.chmod(0o755)
                yield work
                _flush(work)
                _swap(work, output)
            except OSError as problem:
                if problem.errno is None and shutil.disk_usage(work).free < _NOTHING_FREE:
                    # Some writers only say that they could not write.
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from problem
                raise
            finally:
                shutil.rmtree(work, ignore_errors=True)


def refuse_foreign(output: Path, kind: str) -> None:
    """Raise OutputError unless `output` is free, empty, or an edgekit directory of `kind`."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise OutputError(f"{output}: exists and is not a directory", hint="choose another --output")
    if not output.is_dir() or not any(output.iterdir()):
        return
    found = manifest_kind(output)
    if found != kind:
        what = f"an edgekit {found} directory" if found else "not an edgekit directory"
        raise OutputError(f"{output}: holds files and is {what}", hint="choose another --output, or empty it")


@contextmanager
def _explained(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        hints = {
            errno.ENOSPC: "free some space, or choose an --output on another disk",
            errno.EDQUOT: "free some space, or choose an --output on another disk",
            errno.EROFS: "choose an --output that can be written",
            errno.EACCES: "choose an --output that can be written",
            errno.EPERM: "choose an --output that can be written",
            errno.ENAMETOOLONG: "choose a shorter --output",
            errno.EEXIST: "a file stands where a directory is needed; choose another --output",
            errno.ENOTDIR: "a file stands where a directory is needed; choose another --output",
            errno.ENOENT: "choose an --output that can be written",
        }
        if problem.errno not in hints:
            raise
        message = f"{output}: cannot write: {problem.strerror}; nothing was left there"
        raise OutputError(message, hint=hints[problem.errno]) from problem


@contextmanager
def _lock(output: Path) -> Iterator[None]:
    """Hold the output's lock file; the system frees it when the process dies."""
    path = output.parent / f"{TEMPORARY_PREFIX}{output.name}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _try_lock(descriptor):
            raise OutputBusy(
                f"{output}: another edgekit run is writing it", hint="wait, or choose another --output"
            )
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
    finally:
        os.close(descriptor)


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
    prefix = f"{TEMPORARY_PREFIX}{output.name}-"
    for entry in output.parent.iterdir():
        if entry.name.startswith(prefix) and entry.is_dir() and not entry.is_symlink():
            if (
                entry.name.startswith(f"{prefix}old-")
                and not output.exists()
                and (entry / MANIFEST_NAME).is_file()
            ):
                entry.rename(output)  # killed between the two renames of _swap: nothing is lost
            else:
                shutil.rmtree(entry, ignore_errors=True)


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
        aside = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{output.name}-old-", dir=output.parent))
        aside.rmdir()
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
