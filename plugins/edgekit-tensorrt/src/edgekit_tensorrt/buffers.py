"""Memory and work on the GPU: pinned host memory, device memory, a stream, its events, CUDA graphs.

Everything here is made and used inside `Cuda.current()`. What was obtained is freed in every path: each piece
registers its release with the `ExitStack` of the session when it is obtained, and not before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit_runtime.errors import RunFailed
from edgekit_runtime.session import Array
from edgekit_tensorrt.driver import Cuda, checked

#: No call of CUDA allocates nothing, and TensorRT wants an address even for an empty tensor.
_LEAST = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuTimes:
    """Of one run, by CUDA's events on the stream, in milliseconds: the engine's work, and copies apart."""

    copy_in_ms: float
    engine_ms: float
    copy_out_ms: float


class Buffer:
    """Room for one tensor: pinned in host memory and, unless the engine reads it there, on the device."""

    def __init__(self, cuda: Cuda, dtype: str, *, on_host: bool = False) -> None:
        self._cuda = cuda
        self._dtype = np.dtype(dtype)
        self.on_host = on_host
        self._freed = ExitStack()
        self._capacity = 0
        self._host = 0
        self._device: Any = 0
        self.shape: tuple[int, ...] = ()

    @property
    def address(self) -> int:
        """Where the engine reads or writes the tensor."""
        return self._host if self.on_host else int(self._device)

    @property
    def array(self) -> Array:
        """The tensor in pinned memory. It must not be used after the next `resize` or `free`."""
        flat = np.asarray(_Pinned(self._host, self._bytes)) if self._bytes else np.empty(0, np.uint8)
        return flat.view(self._dtype).reshape(self.shape)

    def resize(self, shape: tuple[int, ...]) -> None:
        """Make room for a tensor of `shape`. What was in the buffer is lost when it grows."""
        needed = max(_LEAST, math.prod(shape) * self._dtype.itemsize)
        if needed > self._capacity:
            self.free()
            self._obtain(needed)
        self.shape = shape

    def copy_in(self, stream: Stream) -> None:
        """Enqueue the copy from host to device."""
        if not self.on_host and self._bytes:
            api = self._cuda.api
            checked(
                api.cuMemcpyHtoDAsync(self._device, self._host, self._bytes, stream.handle), "copy an input"
            )

    def copy_out(self, stream: Stream) -> None:
        """Enqueue the copy from device to host."""
        if not self.on_host and self._bytes:
            api = self._cuda.api
            checked(
                api.cuMemcpyDtoHAsync(self._host, self._device, self._bytes, stream.handle), "copy an output"
            )

    def free(self) -> None:
        """Free both. Calling it twice is fine."""
        self._capacity, self._host, self._device, self.shape = 0, 0, 0, ()
        self._freed.close()

    @property
    def _bytes(self) -> int:
        return math.prod(self.shape) * self._dtype.itemsize if self._capacity else 0

    def _obtain(self, size: int) -> None:
        api = self._cuda.api
        with ExitStack() as freed:
            host = checked(api.cuMemHostAlloc(size, 0), f"pin {size} bytes of host memory")
            freed.callback(_release, api.cuMemFreeHost, host, "free host memory")
            device = 0
            if not self.on_host:
                device = checked(api.cuMemAlloc(size), f"get {size} bytes of GPU memory")
                freed.callback(_release, api.cuMemFree, device, "free GPU memory")
            self._freed = freed.pop_all()
        self._host, self._device, self._capacity = int(host), device, size


class Stream:
    """A stream with the four events that divide a run: begin, copied in, computed, copied out."""

    def __init__(self, cuda: Cuda, stack: ExitStack) -> None:
        self._api = cuda.api
        flag = self._api.CUstream_flags.CU_STREAM_NON_BLOCKING
        self.handle = checked(self._api.cuStreamCreate(flag), "make a stream")
        stack.callback(_release, self._api.cuStreamDestroy, self.handle, "free a stream")
        self._events = []
        for _ in range(4):
            event = checked(self._api.cuEventCreate(0), "make an event")
            stack.callback(_release, self._api.cuEventDestroy, event, "free an event")
            self._events.append(event)

    def mark(self, place: int) -> None:
        """Record the event number `place` behind what was enqueued so far."""
        checked(self._api.cuEventRecord(self._events[place], self.handle), "record an event")

    def wait(self) -> None:
        """Block until all that was enqueued is done. An error of a kernel surfaces here."""
        checked(self._api.cuStreamSynchronize(self.handle), "finish the run")

    def times(self) -> GpuTimes:
        """Between the events of the last run, which `wait` has seen finished."""
        spans = [
            checked(self._api.cuEventElapsedTime(begin, end), "read the time of a run")
            for begin, end in zip(self._events, self._events[1:], strict=False)
        ]
        return GpuTimes(copy_in_ms=spans[0], engine_ms=spans[1], copy_out_ms=spans[2])


class Graph:
    """What one enqueued inference does, recorded once and launched by one call. For fixed shapes only."""

    def __init__(self, cuda: Cuda, executable: object) -> None:
        self._api = cuda.api
        self._executable = executable

    def launch(self, stream: Stream) -> None:
        """Enqueue the inference."""
        checked(self._api.cuGraphLaunch(self._executable, stream.handle), "launch the CUDA graph")

    def free(self) -> None:
        """Once only."""
        _release(self._api.cuGraphExecDestroy, self._executable, "free a CUDA graph")


def record(cuda: Cuda, stream: Stream, enqueue: Callable[[], bool]) -> Graph | None:
    """Record what `enqueue` puts on the stream; None when it does what a graph cannot hold.

    An engine may wait for the GPU in the middle of a run, or allocate; then CUDA ends the recording
    with an error, which is no error of the engine: it goes on without a graph.
    """
    api = cuda.api
    mode = api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    checked(api.cuStreamBeginCapture(stream.handle, mode), "begin to record a CUDA graph")
    try:
        enqueued = enqueue()
    finally:
        code, graph = api.cuStreamEndCapture(stream.handle)
    if code != 0:
        return None
    try:
        if not enqueued:
            return None
        return Graph(cuda, checked(api.cuGraphInstantiate(graph, 0), "make a CUDA graph"))
    finally:
        _release(api.cuGraphDestroy, graph, "free a recording")


class _Pinned:
    """Bytes at an address, as numpy takes them."""

    def __init__(self, address: int, size: int) -> None:
        self.__array_interface__ = {
            "data": (address, False),
            "shape": (size,),
            "typestr": "|u1",
            "version": 3,
        }


def _release(function: Callable[[Any], tuple[Any, ...]], handle: object, doing: str) -> None:
    checked(function(handle), doing, RunFailed)
