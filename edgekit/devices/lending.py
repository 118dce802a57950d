"""The runtime and the openers of this Python, for a Python of another architecture.

They are pure Python. What is not (numpy, the engines) that Python must have of its own, so that nothing
else of this one's library may come before it on the path.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

from edgekit.errors import DeviceError

_RUNTIME = "edgekit_runtime"


def lend_packages(directory: Path) -> None:
    """Fill `directory` with links to the packages and with the entry points of their distributions."""
    from edgekit_runtime.openers import find_openers  # numpy comes with it

    _link(_RUNTIME, directory)
    for point in find_openers().values():
        package = point.module.partition(".")[0]
        if point.dist is None or (directory / package).exists():
            continue
        _link(package, directory)
        _describe(point.dist, directory)


def _link(package: str, directory: Path) -> None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DeviceError(f"the package {package!r} cannot be found", hint="reinstall its distribution")
    origin = Path(spec.origin)
    source = origin.parent if spec.submodule_search_locations else origin
    (directory / source.name).symlink_to(source.resolve())


def _describe(distribution: metadata.Distribution, directory: Path) -> None:
    name = distribution.metadata["Name"].replace("-", "_")
    information = directory / f"{name}-{distribution.version}.dist-info"
    information.mkdir()
    for file in ("METADATA", "entry_points.txt"):
        (information / file).write_text(distribution.read_text(file) or "", encoding="utf-8")
