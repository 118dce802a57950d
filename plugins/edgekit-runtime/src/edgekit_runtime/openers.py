"""Which backends can open artifacts here: entry-point group `edgekit.openers`, named by backend."""

from __future__ import annotations

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
        known = ", ".join(sorted(find_openers())) or "none"
        raise OpenFailed(
            f"backend {backend!r} is not installed here (installed: {known})",
            hint=f"pip install edgekit-{backend}",
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


def _points() -> tuple[metadata.EntryPoint, ...]:
    return tuple(metadata.entry_points(group=GROUP))


def _imported(point: metadata.EntryPoint) -> object:
    who = f"backend {point.name!r} ({describe(point)})"
    try:
        loaded: object = point.load()
    except ModuleNotFoundError as cause:
        missing = (cause.name or "").partition(".")[0]
        if missing and missing != point.module.partition(".")[0]:
            hint = f"pip install {point.dist.metadata['Name']}" if point.dist else f"install {missing}"
            raise OpenFailed(
                f"{who} needs the module {missing!r}, which is not installed here", hint=hint
            ) from cause
        raise OpenFailed(f"{who} is incomplete: {cause}", hint="reinstall it") from cause
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as cause:  # the import wall: a plugin may raise anything, even SystemExit
        raise OpenFailed(
            f"{who} cannot be imported: {type(cause).__name__}: {cause}",
            hint="reinstall or uninstall it; every other backend works without it",
        ) from cause
    return loaded
