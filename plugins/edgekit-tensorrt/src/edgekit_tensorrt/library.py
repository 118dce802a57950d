"""Which TensorRT is here. Both libraries offer nearly one API, so the module is a value that is handed on.

Runs where edgekit is not installed. Importing a library needs neither a GPU nor a driver; using one may.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType

from edgekit_runtime.errors import OpenFailed

#: TensorRT for RTX: desktop and laptop GPUs; builds without a GPU.
RTX = "tensorrt-rtx"
#: Standard TensorRT, of servers and Jetson boards; builds on the GPU that it is for.
STANDARD = "tensorrt"

#: Modules by library, the real one first: that of the wheels, and that of Debian packages and archives.
_MODULES = {
    RTX: ("tensorrt_rtx_bindings", "tensorrt_rtx"),
    STANDARD: ("tensorrt_bindings", "tensorrt"),
}
#: How a library is installed.
INSTALL = {
    RTX: "pip install 'edgekit-tensorrt[rtx]'",
    STANDARD: "a Jetson has it from JetPack (apt install python3-libnvinfer, and a virtual environment with "
    "--system-site-packages); elsewhere: pip install 'edgekit-tensorrt[standard]'",
}
#: What this package is written for: majors of each library.
_MAJORS = {RTX: (1,), STANDARD: (10, 11)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library that was imported. name: RTX or STANDARD; version: "1.7.1.116"; module: its Python module."""

    name: str
    version: str
    module: ModuleType


def installed() -> tuple[str, ...]:
    """Modules of TensorRT that are installed, the one of each library; found without importing them."""
    found = []
    for names in _MODULES.values():
        found += [name for name in names if importlib.util.find_spec(name) is not None][:1]
    return tuple(found)


def is_installed(name: str) -> bool:
    """Whether the library's Python module is here; it may still not load."""
    return bool(set(_MODULES[name]) & set(installed()))


def load_library(name: str) -> Library:
    """Import a library. Raises `OpenFailed` saying how it is installed, why it does not load, or that it is
    of a version that this package is not written for."""
    if name not in _MODULES:
        raise OpenFailed(f"there is no library {name!r}", hint=f"one of {', '.join(_MODULES)}")
    module = _imported(name)
    version = str(getattr(module, "__version__", "unknown"))
    major = version.partition(".")[0]
    if major not in {str(known) for known in _MAJORS[name]}:
        wanted = " or ".join(f"{known}.x" for known in _MAJORS[name])
        raise OpenFailed(
            f"{name} here is {version}; edgekit-tensorrt works with {wanted}", hint=INSTALL[name]
        )
    return Library(name=name, version=version, module=module)


def _imported(name: str) -> ModuleType:
    for candidate in _MODULES[name]:
        if importlib.util.find_spec(candidate) is None:
            continue
        try:
            return importlib.import_module(candidate)
        except (ImportError, OSError, RuntimeError) as error:  # its shared libraries are missing or damaged
            raise OpenFailed(f"{name} is installed but does not load: {error}", hint=INSTALL[name]) from error
    raise OpenFailed(f"{name} is not installed here", hint=INSTALL[name])
