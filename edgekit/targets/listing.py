"""Every target that a name can reach, with what is wrong with it if something is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.targets.loading import resolve_file
from edgekit.targets.places import TargetPlace, target_files, target_places


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEntry:
    """A target file. source: "shipped", "user" or "plugin"; problem: why the name cannot be used."""

    name: str
    summary: str
    path: Path
    source: str
    problem: str = ""


def list_targets() -> tuple[TargetEntry, ...]:
    """All targets by name. A broken or doubled one is listed with its problem; nothing is probed."""
    entries = [_entry(path, place) for place in target_places() for path in target_files(place)]
    providers = Counter(entry.name for entry in entries)
    marked = [_doubled(entry, entries) if providers[entry.name] > 1 else entry for entry in entries]
    return tuple(sorted(marked, key=lambda entry: (entry.name, str(entry.path))))


def _entry(path: Path, place: TargetPlace) -> TargetEntry:
    entry = TargetEntry(name=path.stem, summary="", path=path, source=place.source)
    try:
        target, names, _ = resolve_file(path)
    except UsageError as problem:
        return replace(entry, problem=problem.message)
    if names[0] != path.stem:
        return replace(entry, problem=f"the file's name is {path.name}, but it names itself {names[0]!r}")
    return replace(entry, summary=target.summary)


def _doubled(entry: TargetEntry, entries: list[TargetEntry]) -> TargetEntry:
    others = ", ".join(str(other.path) for other in entries if other.name == entry.name and other != entry)
    problem = f"also provided by {others}: rename one, or give a path"
    return replace(entry, problem=f"{entry.problem}; {problem}" if entry.problem else problem)
