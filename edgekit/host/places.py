"""Where artifacts are built and opened: this machine, or a target's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edgekit.devices import LocalDevice
from edgekit.devices.base import Device
from edgekit.host.client import WorkerClient
from edgekit.host.remote import bringing_files
from edgekit.host.sessions import remote_machine
from edgekit_runtime.machine import read_machine
from edgekit_runtime.values import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A device and the machine that it is."""

    device: Device
    machine: Machine

    @property
    def local(self) -> bool:
        """Whether it is this process's own machine and Python."""
        return isinstance(self.device, LocalDevice)

    def worker(self, threads: int = 1) -> WorkerClient:
        """A fresh worker there, its threads pinned."""
        return WorkerClient(self.device, threads=threads)

    @contextmanager
    def bringing_files(self) -> Iterator[Place]:
        """The same place, which keeps what is brought there until the block ends."""
        with bringing_files(self.device) as device:
            yield replace(self, device=device)


def here() -> Place:
    """This machine."""
    return Place(device=LocalDevice(), machine=read_machine())


def find_place(device: Device) -> Place:
    """The machine behind `device`, asked in a worker where it is another."""
    if isinstance(device, LocalDevice):
        return Place(device=device, machine=read_machine())
    with WorkerClient(device) as worker:
        return Place(device=device, machine=remote_machine(worker))
