"""Which plugins are installed, without importing them; and loading exactly one.

Entry-point group `edgekit.backends`: entry-point name == backend name, value a module with the
hook `edgekit_backend`. Group `edgekit.plugins`: modules with any other hook. Each import stands in
its own try, so a broken plugin is named and never breaks another.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_origin, get_type_hints

from edgekit.backend import API_VERSION, CAPABILITIES
from edgekit.errors import ApiMismatch, BackendUnavailable, PluginBroken, PluginConflict, UnknownName
from edgekit.files.tables import nearest
from edgekit.hooktypes import DeviceKind, ReportFormat, TaskSpec
from edgekit.values import BackendSpec, OptionSpec, StageEvent

if TYPE_CHECKING:
    import pluggy

BACKENDS_GROUP = "edgekit.backends"
PLUGINS_GROUP = "edgekit.plugins"
#: What passes every wall: the user's Ctrl-C, and want of memory, which is no plugin's doing alone.
PASSES_WALLS = (KeyboardInterrupt, MemoryError)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendEntry:
    """An installed backend as its distribution's metadata tells it; nothing is imported."""

    name: str
    module: str
    distribution: str
    version: str


def backends() -> tuple[BackendEntry, ...]:
    """Every installed backend, sorted by name; two providers of one name both appear."""
    found = []
    for point in metadata.entry_points(group=BACKENDS_GROUP):
        name, version = _distribution(point)
        found.append(BackendEntry(name=point.name, module=point.value, distribution=name, version=version))
    return tuple(sorted(set(found), key=lambda entry: (entry.name, entry.distribution)))


def find_backend(name: str) -> BackendEntry:
    """The one provider of `name`. Raises UnknownName, or PluginConflict naming both providers."""
    found = [entry for entry in backends() if entry.name == name]
    if not found:
        known = [entry.name for entry in backends()]
        listed = f"installed: {', '.join(sorted(set(known))) or 'none'}"
        close = nearest(name, known) if known else ""
        close = "" if close.startswith("known:") else f"{close} "
        hint = f"{close}Install the distribution that provides it ({listed})"
        raise UnknownName(f"no backend named {name!r} is installed", hint=hint)
    if len(found) > 1:
        providers = " and ".join(f"{entry.distribution} {entry.version}" for entry in found)
        raise PluginConflict(f"backend {name!r} is provided by {providers}", hint="uninstall one of them")
    return found[0]


def load_backend(name: str) -> BackendSpec:
    """Import the plugin module of one backend and return its checked description.

    Raises PluginBroken when the import or the description fails, ApiMismatch for another API
    version.
    """
    import pluggy

    entry = find_backend(name)
    who = f"backend {name!r} ({entry.distribution} {entry.version})"
    module = _import(entry.module, who)
    manager = _manager()
    try:
        manager.register(module, name)
    except (pluggy.PluginValidationError, ValueError) as problem:
        raise PluginBroken(f"{who}: {problem}", hint="report this to its author") from problem
    spec = _describe(manager, who)
    return _checked(spec, entry, who)


def reference_backend() -> str:
    """Name of an installed backend with capability `reference`, the quickest to run first.

    Raises BackendUnavailable when there is none: exports cannot be checked without.
    """
    candidates = []
    idle = []
    for entry in backends():
        try:
            spec = load_backend(entry.name)
        except (PluginBroken, PluginConflict, ApiMismatch) as problem:
            log.debug("skipping %s: %s", entry.name, problem)
            continue
        if "reference" not in spec.capabilities:
            continue
        if missing_engine(spec):
            idle.append(f"{entry.name} (its engine, {', '.join(missing_engine(spec))}, is not installed)")
        else:
            # A backend that reports per-operator time has an engine; pure-Python ones come last.
            candidates.append(("profile" not in spec.capabilities, entry.name))
    if candidates:
        return min(candidates)[1]
    if idle:
        raise BackendUnavailable(
            f"no backend that can check an export works here: {'; '.join(idle)}",
            hint="install the engine of one of them: `edgekit backend list` says how",
        )
    raise BackendUnavailable(
        "no backend that can check an export is installed",
        hint="`pip install edgekit[all]` brings some; any backend that claims `reference` will do",
    )


def plugin_target_dirs() -> tuple[Path, ...]:
    """Directories of target files that plugins bring."""
    found = _broadcast("edgekit_target_dirs")
    return tuple(path for paths in found for path in paths if isinstance(path, Path))


def plugin_tasks() -> tuple[TaskSpec, ...]:
    """Tasks that plugins bring."""
    return tuple(
        spec for found in _broadcast("edgekit_tasks") for spec in found if isinstance(spec, TaskSpec)
    )


def plugin_device_kinds() -> tuple[DeviceKind, ...]:
    """Device kinds that plugins bring."""
    found = _broadcast("edgekit_device_kinds")
    return tuple(kind for kinds in found for kind in kinds if isinstance(kind, DeviceKind))


def plugin_report_formats() -> tuple[ReportFormat, ...]:
    """Report formats that plugins bring."""
    found = _broadcast("edgekit_report_formats")
    return tuple(kind for kinds in found for kind in kinds if isinstance(kind, ReportFormat))


def stage_finished(event: StageEvent) -> None:
    """Tell every observer; what one raises is a warning and changes nothing."""
    for name, manager in _plugins():
        try:
            manager.hook.edgekit_stage_finished(event=event)
        except PASSES_WALLS:
            raise
        except BaseException as problem:  # the call wall: an observer can never fail or end a stage
            log.warning("plugin %s raised in edgekit_stage_finished: %s", name, _told(problem))


def resolve(reference: str) -> object:
    """The object that "package.module:name" names. Raises PluginBroken."""
    module_name, _, attribute = reference.partition(":")
    module = _import(module_name, f"{reference!r}")
    try:
        return getattr(module, attribute)
    except AttributeError as problem:
        raise PluginBroken(
            f"{module_name} has no {attribute!r}", hint="report this to its author"
        ) from problem
    except PASSES_WALLS:
        raise
    except BaseException as problem:  # the import wall: some modules import more when they are asked
        raise PluginBroken(f"{reference!r}: {_told(problem)}", hint="report this to its author") from problem


def _import(module: str, who: str) -> object:
    try:
        return importlib.import_module(module)
    except PASSES_WALLS:
        raise
    except BaseException as problem:  # the import wall: a plugin may raise anything, even SystemExit
        raise PluginBroken(
            f"{who} cannot be imported: {_told(problem)}",
            hint="reinstall or uninstall it; every other backend works without it",
        ) from problem


def _describe(manager: pluggy.PluginManager, who: str) -> object:
    try:
        return manager.hook.edgekit_backend()
    except PASSES_WALLS:
        raise
    except BaseException as problem:  # the call wall
        raise PluginBroken(
            f"{who} failed to describe itself: {_told(problem)}",
            hint="report this to its author",
        ) from problem


def _told(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}"


def _checked(spec: object, entry: BackendEntry, who: str) -> BackendSpec:
    report = "report this to its author"
    if not isinstance(spec, BackendSpec):
        raise PluginBroken(
            f"{who}: edgekit_backend() returned {type(spec).__name__}, not a BackendSpec", hint=report
        )
    if type(spec.api_version) is not int:
        raise PluginBroken(f"{who}: api_version is {spec.api_version!r}, not an int", hint=report)
    if spec.api_version != API_VERSION:
        which = "upgrade edgekit" if spec.api_version > API_VERSION else f"upgrade {entry.distribution}"
        raise ApiMismatch(
            f"{who} was written for plugin API {spec.api_version}; this is {API_VERSION}", hint=which
        )
    problem = _wrong_field(spec, BackendSpec)
    for option in () if problem else spec.options:
        problem = problem or _wrong_field(option, OptionSpec)
    if problem:
        raise PluginBroken(f"{who}: {problem}", hint=report)
    if spec.name != entry.name:
        raise PluginBroken(f"{who}: describes itself as {spec.name!r}", hint=report)
    unknown = set(spec.capabilities) - set(CAPABILITIES)
    if unknown:
        raise PluginBroken(f"{who}: unknown capabilities {', '.join(sorted(unknown))}", hint=report)
    if spec.builds_on not in ("anywhere", "target"):
        raise PluginBroken(f"{who}: builds_on is {spec.builds_on!r}", hint="it is 'anywhere' or 'target'")
    return spec


def _wrong_field(described: BackendSpec | OptionSpec, kind: type) -> str:
    """Which field is not of the type that `kind` declares for it; "" when all are."""
    owner = f"option {described.name!r}: " if kind is OptionSpec else ""
    for name, wanted in get_type_hints(kind).items():
        value: object = getattr(described, name)
        if not _is_a(value, wanted):
            said = str(wanted) if get_args(wanted) else wanted.__name__
            return f"{owner}{name} is {value!r}, not {said.replace(f'{OptionSpec.__module__}.', '')}"
    return ""


def _is_a(value: object, wanted: object) -> bool:
    """Whether a value is of a type as these descriptions use them: plain, a union, a tuple of one type."""
    arguments = get_args(wanted)
    if get_origin(wanted) is tuple:
        return isinstance(value, tuple) and all(_is_a(item, arguments[0]) for item in value)
    if arguments:
        return any(_is_a(value, each) for each in arguments)
    return isinstance(value, wanted) if wanted is not int else type(value) is int  # type: ignore[arg-type]


def _manager() -> pluggy.PluginManager:
    import pluggy

    from edgekit import hookspecs

    manager = pluggy.PluginManager("edgekit")
    manager.add_hookspecs(hookspecs)
    return manager


@cache
def _plugins() -> tuple[tuple[str, pluggy.PluginManager], ...]:
    """One manager per plugin of group `edgekit.plugins`, so that one's failure is its own."""
    loaded = []
    for point in sorted(metadata.entry_points(group=PLUGINS_GROUP), key=lambda point: point.name):
        who = " ".join((point.name, *_distribution(point)))
        try:
            manager = _manager()
            manager.register(_import(point.value, who), point.name)
        except PASSES_WALLS:
            raise
        except BaseException as problem:  # the import wall
            log.warning("plugin %s is left out: %s", who, problem)
            continue
        loaded.append((point.name, manager))
    return tuple(loaded)


def _broadcast(hook: str) -> list[list[object]]:
    results: list[list[object]] = []
    for name, manager in _plugins():
        try:
            results.extend(list(found) for found in getattr(manager.hook, hook)())
        except PASSES_WALLS:
            raise
        except BaseException as problem:  # the call wall
            log.warning("plugin %s raised in %s: %s", name, hook, _told(problem))
    return results


def missing_engine(spec: BackendSpec) -> tuple[str, ...]:
    """Modules of the backend's engine that are not installed; found without importing them."""
    return tuple(name for name in spec.engine_modules if not _is_installed(name))


def engine_versions(spec: BackendSpec) -> dict[str, str]:
    """Versions of the engine's distributions, from metadata; "" where a distribution has another name."""
    found = {}
    for module in spec.engine_modules:
        try:
            found[module] = metadata.version(module.partition(".")[0])
        except metadata.PackageNotFoundError:
            found[module] = ""
    return found


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _distribution(point: metadata.EntryPoint) -> tuple[str, str]:
    dist = point.dist
    return (dist.metadata["Name"], dist.version) if dist is not None else ("unknown distribution", "?")
