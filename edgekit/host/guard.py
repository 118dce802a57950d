"""Checks around every plugin call: what was promised before and after, whatever happened in between.

A plugin that breaks a promise gets a ContractViolation that names it, so that the user knows whose
bug it is. Runs in the worker, next to the plugin.
"""

from __future__ import annotations

import errno
import hashlib
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from edgekit.backend import Compiler, ProgressCallback
from edgekit.errors import (
    CompileFailed,
    ContractViolation,
    ModelFileError,
    OutputError,
    PluginError,
)
from edgekit.values import Compiled, CompileRequest, Probe, Support, Target
from edgekit_runtime.calls import caused_by_memory
from edgekit_runtime.errors import EdgekitError, ManifestError
from edgekit_runtime.manifests import MANIFEST, safe_relative

T = TypeVar("T")

#: The name of the directory that a plugin is to write in; its parent is private and holds nothing else.
WORK = "work"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def guarded_probe(who: str, compiler: Compiler) -> Probe:
    """`compiler.probe()`, which promises never to raise."""
    try:
        found: object = compiler.probe()
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as cause:  # the call wall: probe() may break its promise in any way
        raise _violation(who, f"probe() raised {_named(cause)}") from cause
    return _typed(who, "probe()", found, Probe)


def guarded_check(who: str, compiler: Compiler, model: Path, target: Target) -> Support:
    """`compiler.check(model, target)`, which promises to write nothing."""
    before = _neighbours(model)
    with plugin_wall(who, "check()", PluginError, f"{who} failed to check {model.name}"):
        found: object = compiler.check(model, target)
    _unchanged(who, "check()", model, before)
    return _typed(who, "check()", found, Support)


def guarded_compile(
    who: str, compiler: Compiler, request: CompileRequest, progress: ProgressCallback
) -> Compiled:
    """`compiler.compile(request, progress)`, all promises checked.

    `request.workdir` must be an empty directory named WORK in a private parent that holds nothing
    else: what a plugin writes beside it is seen there.
    """
    before = _neighbours(request.model)
    _require_empty(request.workdir)
    with plugin_wall(who, "compile()", CompileFailed, f"{who} could not build {request.model.name}"):
        found: object = compiler.compile(request, progress)
    compiled = _typed(who, "compile()", found, Compiled)
    _unchanged(who, "compile()", request.model, before)
    _nothing_beside(who, request.workdir)
    _plain_values(who, compiled)
    _complete(who, compiled, request.workdir)
    if compiled.precision != request.precision:
        raise _violation(
            who,
            f"compile() built {compiled.precision} where {request.precision} was asked for;"
            " it must raise PrecisionNotGiven instead",
        )
    return compiled


@contextmanager
def plugin_wall(who: str, call: str, error: type[EdgekitError], doing: str) -> Iterator[None]:
    """What a plugin raises becomes `error`; errors of edgekit's own tree and missing memory pass."""
    try:
        yield
    except (EdgekitError, KeyboardInterrupt, MemoryError):
        raise
    except SystemExit as cause:
        raise _violation(who, f"{call} tried to end the process ({_named(cause)})") from cause
    except Exception as cause:  # the call wall: a plugin may raise anything
        if caused_by_memory(cause):
            raise
        if isinstance(cause, OSError) and cause.errno in _FULL:
            raise OutputError(
                f"{doing}: {cause.strerror}", hint="free some space, or choose an --output on another disk"
            ) from cause
        raise error(f"{doing}: {_named(cause)}", hint="run with -vv to see where it was raised") from cause


def neat_progress(who: str, report: ProgressCallback) -> ProgressCallback:
    """A callback that takes what a plugin may reasonably give, and names the plugin for the rest."""

    def progress(done: int, total: int, what: str) -> None:
        try:
            numbers = int(done), int(total)
        except (TypeError, ValueError) as cause:
            raise _violation(who, f"progress({done!r}, {total!r}, ...) is not counted in numbers") from cause
        report(*numbers, str(what)[:200])

    return progress


def strays(directory: Path, allowed: str) -> list[str]:
    """Names in `directory` other than `allowed`."""
    return sorted(path.name for path in directory.iterdir() if path.name != allowed)


def wrote_beside(who: str, names: list[str]) -> ContractViolation:
    """The violation of writing outside the workdir."""
    return _violation(who, f"compile() wrote outside its workdir: {_few(names)}")


def _neighbours(model: Path) -> dict[str, str]:
    """Digest of the model and of every file beside it, external data included."""
    if not model.is_file():
        raise ModelFileError(f"{model} is no file", hint="export the model first")
    return {path.name: _digest(path) for path in model.parent.iterdir() if path.is_file()}


def _unchanged(who: str, call: str, model: Path, before: Mapping[str, str]) -> None:
    after = {path.name: _digest(path) for path in model.parent.iterdir() if path.is_file()}
    if after == before:
        return
    changed = [name for name in before if name in after and after[name] != before[name]]
    told = {
        "changed": changed,
        "removed": [name for name in before if name not in after],
        "added": [name for name in after if name not in before],
    }
    words = "; ".join(f"{what} {_few(names)}" for what, names in told.items() if names)
    raise _violation(who, f"{call} touched the model's directory: {words}")


def _require_empty(workdir: Path) -> None:
    if not workdir.is_dir():
        raise OutputError(f"the work directory {workdir} does not exist")
    found = sorted(path.name for path in workdir.iterdir())
    if found:
        raise OutputError(f"the work directory {workdir} is not empty: {_few(found)}")


def _nothing_beside(who: str, workdir: Path) -> None:
    if not workdir.is_dir() or workdir.is_symlink():
        raise _violation(who, "compile() removed its workdir")
    found = strays(workdir.parent, workdir.name)
    if found:
        raise wrote_beside(who, found)


def _plain_values(who: str, compiled: Compiled) -> None:
    versions = compiled.engine_versions
    if not isinstance(versions, Mapping) or not _all_text((*versions.keys(), *versions.values())):
        raise _violation(who, "Compiled.engine_versions must map names to versions, as text")
    for name in ("files", "notes"):
        if not isinstance(getattr(compiled, name), tuple) or not _all_text(getattr(compiled, name)):
            raise _violation(who, f"Compiled.{name} must be a tuple of text")


def _complete(who: str, compiled: Compiled, workdir: Path) -> None:
    listed = set()
    for name in compiled.files:
        try:
            listed.add(safe_relative(name).as_posix())
        except ManifestError as cause:
            raise _violation(who, f"Compiled.files lists {name!r}: {cause.message}") from cause
    if len(listed) != len(compiled.files):
        raise _violation(who, "Compiled.files lists a file twice")
    if not listed:
        raise _violation(who, "compile() built no files")
    if MANIFEST in listed:
        raise _violation(who, f"{MANIFEST} is edgekit's own name and cannot be a file of an artifact")
    found = _found(who, workdir)
    if found - listed:
        raise _violation(who, f"the workdir holds files that are not listed: {_few(sorted(found - listed))}")
    if listed - found:
        raise _violation(who, f"listed files do not exist: {_few(sorted(listed - found))}")


def _found(who: str, workdir: Path) -> set[str]:
    """Every file below the workdir; only plain ones that nothing else shares."""
    found = set()
    for path in workdir.rglob("*"):
        name = path.relative_to(workdir).as_posix()
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            kind = "a symlink" if stat.S_ISLNK(status.st_mode) else "no plain file"
            raise _violation(who, f"{name} in the workdir is {kind}")
        if status.st_nlink > 1:
            raise _violation(who, f"{name} in the workdir is a hard link to another file")
        found.add(name)
    return found


def _typed(who: str, call: str, value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise _violation(who, f"{call} returned {type(value).__name__}, not {kind.__name__}")
    return value


def _all_text(values: tuple[object, ...]) -> bool:
    return all(isinstance(value, str) for value in values)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _violation(who: str, what: str) -> ContractViolation:
    return ContractViolation(f"a bug in {who}: {what}", hint="report this to the plugin's author")


def _named(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


__all__ = [
    "WORK",
    "guarded_check",
    "guarded_compile",
    "guarded_probe",
    "neat_progress",
    "plugin_wall",
    "strays",
    "wrote_beside",
]
