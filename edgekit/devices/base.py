"""What a device is to edgekit: something that starts a worker and hands over its three streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, Protocol, runtime_checkable


@runtime_checkable
class WorkerPipe(Protocol):
    """A running worker. Reading `stdout` gives the protocol's frames, `stderr` everything printed."""

    @property
    def stdin(self) -> BinaryIO:
        """Where the host writes frames. Closing it ends the worker and all it started."""

    @property
    def stdout(self) -> BinaryIO:
        """Where the worker's frames are read; buffered."""

    @property
    def stderr(self) -> BinaryIO:
        """What the worker and its libraries print; unbuffered: `read(n)` gives what is there."""

    @property
    def pid(self) -> int:
        """The process that the device started, on this machine."""

    def kill(self) -> None:
        """End the worker and everything it started, now. Fine when it has ended already."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Exit code, negative for a signal; None when it still runs after `timeout` seconds."""


@runtime_checkable
class Device(Protocol):
    """A machine that can run workers."""

    @property
    def uri(self) -> str:
        """How a target file or `--device` names it."""

    def start_worker(self, environment: Mapping[str, str]) -> WorkerPipe:
        """Start `python -m edgekit_runtime.worker` with `environment` on top of the device's own.

        The worker gets its own process group. Raises DeviceError when it cannot be started.
        """


def shares_files(device: Device) -> bool:
    """Whether workers of `device` see this machine's files under the same paths.

    A device says so by an attribute `shares_files = True`. To one that does not, files are brought over
    the worker's pipe.
    """
    return getattr(device, "shares_files", False) is True
