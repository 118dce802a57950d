"""Devices: where a worker runs. `local`, `emulator:ARCH/CPU`, or the uri of a kind that a plugin brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from edgekit.devices.base import Device, WorkerPipe
from edgekit.devices.emulator import open_emulator
from edgekit.devices.emulator_uri import SCHEME
from edgekit.devices.local import LocalDevice
from edgekit.discovery import PASSES_WALLS, plugin_device_kinds, resolve
from edgekit.errors import DeviceError, PluginBroken, UnknownName
from edgekit.files.tables import nearest
from edgekit_runtime.errors import EdgekitError

__all__ = ["Device", "LocalDevice", "WorkerPipe", "device_schemes", "open_device"]

LOCAL = "local"


def device_schemes() -> tuple[str, ...]:
    """The words that may stand before the ":" of a uri; "local" stands alone."""
    return tuple(sorted({LOCAL, SCHEME, *(kind.scheme for kind in plugin_device_kinds())}))


def open_device(uri: str = LOCAL) -> Device:
    """The device that `uri` names. Raises UsageError, or DeviceError when it cannot be reached."""
    scheme = uri.partition(":")[0]
    if scheme == LOCAL:
        if uri not in (LOCAL, "local://"):
            raise DeviceError(f"{uri!r} is no device: this machine is just 'local'")
        return LocalDevice()
    if scheme == SCHEME:
        return open_emulator(uri)
    kinds = {kind.scheme: kind for kind in plugin_device_kinds()}
    if scheme not in kinds:
        raise UnknownName(f"no device kind {scheme!r} for {uri!r}", hint=nearest(scheme, device_schemes()))
    factory = resolve(kinds[scheme].factory)
    if not callable(factory):
        raise PluginBroken(f"device kind {scheme!r}: {kinds[scheme].factory} is not callable")
    try:
        device: object = cast(Callable[[str], object], factory)(uri)
    except (EdgekitError, *PASSES_WALLS):
        raise
    except BaseException as cause:  # the call wall: a device kind is a plugin
        raise DeviceError(f"{uri} cannot be opened: {type(cause).__name__}: {cause}") from cause
    if not isinstance(device, Device):
        raise PluginBroken(f"device kind {scheme!r} made a {type(device).__name__}, which is no Device")
    return device
