"""Where target files lie: shipped with edgekit, in the user's configuration, brought by plugins."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import edgekit
from edgekit import discovery
from edgekit.errors import UnknownName, UsageError
from edgekit.files.tables import nearest

THIS_MACHINE = "this-machine"
SUFFIX = ".toml"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPlace:
    """A directory of target files. source: "shipped", "user" or "plugin"."""

    path: Path
    source: str


def shipped_dir() -> Path | None:
    """The shipped targets: inside the installed package, or `targets/` of a checkout."""
    package = Path(edgekit.__file__).resolve().parent
    installed = package / "shipped_targets"
    if installed.is_dir():
        return installed
    root = package.parent
    checkout = root / "targets"
    # site-packages may hold a foreign package called `targets`: only a project root counts.
    if (root / "pyproject.toml").is_file() and (checkout / f"{THIS_MACHINE}{SUFFIX}").is_file():
        return checkout
    return None


def user_dir() -> Path:
    """The user's own targets, as the operating system's habits place configuration."""
    from platformdirs import user_config_path

    return user_config_path("edgekit", appauthor=False) / "targets"


def target_places() -> tuple[TargetPlace, ...]:
    """Every directory searched for a target name, each once."""
    shipped = shipped_dir()
    wanted = [TargetPlace(path=shipped, source="shipped")] if shipped is not None else []
    wanted.append(TargetPlace(path=user_dir(), source="user"))
    wanted += [TargetPlace(path=path, source="plugin") for path in discovery.plugin_target_dirs()]
    places: dict[Path, TargetPlace] = {}
    for place in wanted:
        if place.path.is_dir():
            places.setdefault(place.path.resolve(), place)
        elif place.source == "plugin":
            log.warning("a plugin names the target directory %s, which does not exist", place.path)
    return tuple(places.values())


def target_files(place: TargetPlace) -> tuple[Path, ...]:
    """The target files of one directory, sorted; empty when it cannot be read."""
    try:
        found = [path for path in place.path.iterdir() if path.suffix == SUFFIX and path.stem[0] != "."]
    except OSError as problem:
        log.warning("target directory %s cannot be read: %s", place.path, problem.strerror)
        return ()
    return tuple(sorted(path for path in found if path.is_file()))


def find_target_file(name: str) -> Path:
    """The one file that provides `name`. Raises UnknownName, or UsageError when several do."""
    files = [path for place in target_places() for path in target_files(place)]
    found = [path for path in files if path.stem == name]
    if len(found) > 1:
        where = " and ".join(str(path) for path in found)
        raise UsageError(
            f"target {name!r} is provided by {where}",
            hint="rename your own file, or give the path of the one you mean",
        )
    if found:
        return found[0]
    raise UnknownName(f"no target named {name!r}", hint=_unknown_hint(name, {path.stem for path in files}))


def _unknown_hint(name: str, known: set[str]) -> str:
    try:
        nearby = Path(name + SUFFIX).is_file()
    except (OSError, ValueError):
        nearby = False
    if nearby:
        return f"for the file here, write `{name}{SUFFIX}`"
    return f"`edgekit target list` shows the names, a file's path ends in {SUFFIX}; {nearest(name, known)}"
