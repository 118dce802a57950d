"""From a name or a file to a resolved `Target`: read, follow `extends`, merge, check, complete."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from edgekit.errors import TargetFileError, UsageError
from edgekit.files.tables import decode, read_toml
from edgekit.targets.places import SUFFIX, THIS_MACHINE, find_target_file
from edgekit.targets.probing import complete_target
from edgekit.targets.rules import check_values
from edgekit.values import SCHEMA, Target
from edgekit_runtime.values import Machine

#: Keys that describe one file and are never inherited.
OWN_KEYS = ("schema", "name", "extends")
_README = "see targets/README.md"


def load_target(name_or_path: str | Path, *, machine: Machine | None = None) -> Target:
    """The resolved target of a name, or of a file (a path with a separator or ending in .toml).

    `this-machine`, and what extends it, is completed from `machine`, or from the machine this
    process runs on when that is None. Raises UnknownName, UsageError, TargetFileError.
    """
    path = _locate(name_or_path)
    target, names, threads_given = resolve_file(path)
    if THIS_MACHINE not in names:
        return target
    if machine is None:
        from edgekit_runtime.machine import read_machine

        machine = read_machine()
    return complete_target(target, machine, threads_given=threads_given)


def resolve_file(path: Path) -> tuple[Target, tuple[str, ...], bool]:
    """The target of one file with `extends` followed but nothing probed.

    Also the names of all targets in the chain, the file's own first, and whether any of them
    sets `run.threads`.
    """
    chain: list[tuple[Path, str]] = []
    tables: list[Mapping[str, object]] = []
    following: Path | None = path
    while following is not None:
        here = _real(following)
        if any(here == seen for seen, _ in chain):
            raise TargetFileError(_cycle(chain, here), hint="take `extends` out of one of them")
        table = _read(following)
        target = target_from_table(table, str(following))
        chain.append((here, target.name))
        tables.append(table)
        following = _extended(target, following) if target.extends else None
    merged: Mapping[str, object] = {}
    for table in reversed(tables):
        merged = merge(merged, table)
    resolved = dataclasses.replace(target_from_table(merged, str(path)), origin=str(path))
    run = merged.get("run")
    return resolved, tuple(name for _, name in chain), isinstance(run, Mapping) and "threads" in run


def parse_target(text: str, path: Path | None = None) -> Target:
    """The target of a text that `probe_target` made; `path` is where it was written, if anywhere."""
    where = str(path or "")
    return dataclasses.replace(target_from_table(tomllib.loads(text), where), origin=where)


def merge(parent: Mapping[str, object], child: Mapping[str, object]) -> Mapping[str, object]:
    """The child's keys over the parent's, table by table; a list replaces the parent's list."""
    merged = {key: value for key, value in parent.items() if key not in OWN_KEYS}
    merged.update({key: _merged_value(parent.get(key), value) for key, value in child.items()})
    return merged


def _merged_value(below: object, above: object) -> object:
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    keys = [*below, *(key for key in above if key not in below)]
    return {key: _merged_value(below.get(key), above[key]) if key in above else below[key] for key in keys}


def target_from_table(table: Mapping[str, object], where: str) -> Target:
    """One file's table as a checked Target. Raises TargetFileError naming the key."""
    _check_schema(table.get("schema", SCHEMA), where)
    if "origin" in table:
        raise TargetFileError(f"{where}: unknown key `$.origin`", hint="edgekit fills it in; take it out")
    if "name" not in table:
        raise TargetFileError(f"{where}: `name` is missing", hint=f'add `name = "{_stem(where)}"` at the top')
    target = decode(table, Target, where=where, error=TargetFileError)
    check_values(target, where)
    return target


def _locate(name_or_path: str | Path) -> Path:
    if isinstance(name_or_path, Path):
        return name_or_path
    if not name_or_path.strip():
        raise UsageError("no target is named", hint="`edgekit target list` shows the names")
    return Path(name_or_path) if _is_path(name_or_path) else find_target_file(name_or_path)


def _is_path(text: str) -> bool:
    separators = {"/", os.sep, os.altsep or "/"}
    return text.endswith(SUFFIX) or any(separator in text for separator in separators)


def _extended(target: Target, path: Path) -> Path:
    """The file that `extends` names: a target's name, or a path relative to the file itself."""
    if not target.extends.isprintable():
        raise TargetFileError(f"{path}: `extends` is {target.extends!r}: no name and no path", hint=_README)
    if _is_path(target.extends):
        return path.parent / target.extends
    try:
        return find_target_file(target.extends)
    except UsageError as problem:
        message = f"{path}: `extends` cannot be followed: {problem.message}"
        raise TargetFileError(message, hint=problem.hint) from problem


def _cycle(chain: list[tuple[Path, str]], again: Path) -> str:
    start = next(index for index, (path, _) in enumerate(chain) if path == again)
    names = [name for _, name in chain[start:]]
    files = ", ".join(str(path) for path, _ in chain[start:])
    return f"{chain[0][0]}: `extends` runs in a circle: {' -> '.join([*names, names[0]])} ({files})"


def _read(path: Path) -> Mapping[str, object]:
    try:
        if path.exists() and not path.is_file():
            raise TargetFileError(f"{path}: not a file", hint="name the .toml file itself")
        return read_toml(path)
    except (ValueError, OSError) as problem:  # a number of 5000 digits, a path the system refuses
        raise TargetFileError(f"{path}: cannot be read: {problem}", hint=_README) from None


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as problem:  # a loop of links
        raise TargetFileError(f"{path}: cannot be read: {problem}", hint="check the path") from None


def _check_schema(schema: object, where: str) -> None:
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        problem = f"{where}: `schema` is {schema!r}: not a schema number"
        raise TargetFileError(problem, hint=f"write `schema = {SCHEMA}`")
    if schema > SCHEMA:
        raise TargetFileError(
            f"{where}: `schema` is {schema}; this edgekit reads up to {SCHEMA}",
            hint="the file was written for a newer edgekit: upgrade",
        )


def _stem(where: str) -> str:
    return Path(where).stem or "my-target"
