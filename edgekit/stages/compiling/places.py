"""Where an artifact is built, and what to install there."""

from __future__ import annotations

from edgekit.discovery import BackendEntry
from edgekit.values import BackendSpec, Target


def building_device(spec: BackendSpec, target: Target, asked: str) -> str:
    """The uri of the device that builds: this machine, unless the user or the engine asks for another."""
    return asked or (target.device.uri if builds_on_target(spec, target) else "local")


def builds_on_target(spec: BackendSpec, target: Target) -> bool:
    """Whether the engine can only be built on the target's own machine."""
    return "target" in (spec.builds_on, target.compile.builds_on)


def engine_hint(entry: BackendEntry) -> str:
    """How an engine that is missing is installed: with the distribution that requires it.

    The engine's modules are no names of distributions, so they never become a pip command.
    """
    if " " in entry.distribution:  # its metadata gives no name
        return "reinstall the distribution that brings this backend, with what it requires"
    return f"`pip install {entry.distribution}` installs what it requires"
