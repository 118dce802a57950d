"""Which backends can open artifacts here: entry-point group `edgekit.openers`, named by backend."""

from __future__ import annotations

import importlib.util
from importlib import metadata

from edgekit_runtime.errors import OpenFailed
from edgekit_runtime.session import Opener

GROUP = "edgekit.openers"


def find_openers() -> dict[str, metadata.EntryPoint]:
    """Every installed opener by backend name. Nothing is imported."""
    return {point.name: point for point in _points()}


def load_opener(backend: str) -> Opener:
    """Import the session half of `backend`. Raises `OpenFailed` that names what is missing or broken."""
    found = [point for point in _points() if point.name == backend]
    if not found:
        known = ", ".join(f"{name} ({describe(point)})" for name, point in sorted(find_openers().items()))
        raise OpenFailed(
            f"backend {backend!r} is not installed here",
            hint=f"install the distribution that provides it (installed: {known or 'none'})",
        )
    if len({point.value for point in found}) > 1:
        providers = " and ".join(sorted({describe(point) for point in found}))
        raise OpenFailed(f"backend {backend!r} is provided by {providers}", hint="uninstall one of them")
    point = found[0]
    opener = _imported(point)
    if not callable(opener):
        raise OpenFailed(
            f"{describe(point)}: {point.value} is not callable", hint="report this to its author"
        )
    loaded: Opener = opener
    return loaded


def describe(point: metadata.EntryPoint) -> str:
    """The distribution and version that an entry point comes from."""
    if point.dist is None:
        return "an unknown distribution"
    return f"{point.dist.metadata['Name']} {point.dist.version}"


def missing_module(error: BaseException | None) -> str:
    """The package that an import failed for because it is not installed; "" for any other error."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    package = error.name.partition(".")[0]
    try:
        return package if importlib.util.find_spec(package) is None else ""
    except (ImportError, ValueError):
        return ""


def _points() -> tuple[metadata.EntryPoint, ...]:
    return tuple(metadata.entry_points(group=GROUP))


def _imported(point: metadata.EntryPoint) -> object:
    who = f"backend {point.name!r} ({describe(point)})"
    try:
        loaded: object = point.load()
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as cause:  # the import wall: a plugin may raise anything, even SystemExit
        missing = missing_module(cause)
        if missing:
            need = f"pip install {point.dist.metadata['Name']}" if point.dist else "reinstall the backend"
            raise OpenFailed(
                f"{who} needs the module {missing!r}, which is not installed here", hint=need
            ) from cause
        raise OpenFailed(
            f"{who} cannot be imported: {type(cause).__name__}: {cause}",
            hint="reinstall or uninstall it; every other backend works without it",
        ) from cause
    return loaded
