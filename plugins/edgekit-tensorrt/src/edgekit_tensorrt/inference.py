"""One execution context with its buffers on a stream: feeds in, outputs out, GPU time beside copies."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from edgekit_runtime.errors import RunFailed
from edgekit_runtime.session import Array, Feeds
from edgekit_tensorrt.buffers import Buffer, GpuTimes, Graph, Stream, record
from edgekit_tensorrt.driver import Cuda
from edgekit_tensorrt.engine import Engine
from edgekit_tensorrt.library import STANDARD


class Inference:
    """Runs an engine. Made, used and closed inside `Cuda.current()`."""

    def __init__(self, cuda: Cuda, engine: Engine, *, graphs: bool) -> None:
        """graphs: whether CUDA graphs may be used."""
        self._cuda = cuda
        self._engine = engine
        self._buffers: dict[str, Buffer] = {}
        self._shapes: Mapping[str, tuple[int, ...]] | None = None
        self._graph: Graph | None = None
        self._may_record = False
        self.times: GpuTimes | None = None
        with ExitStack() as stack:
            self._stream = Stream(cuda, stack)
            for spec in (*engine.inputs, *engine.outputs):
                buffer = Buffer(cuda, spec.dtype, on_host=engine.on_host(spec.name))
                stack.callback(buffer.free)
                self._buffers[spec.name] = buffer
            self._context: Any = engine.context(graphs=graphs)
            self._resources = stack.pop_all()
        self._reads_host = any(buffer.on_host for buffer in self._buffers.values())
        self._records = graphs and engine.library.name == STANDARD and not self._reads_host

    @property
    def context(self) -> Any:
        """TensorRT's own execution context, its shapes as the last run set them."""
        return self._context

    def run(self, feeds: Feeds, profile: int, *, fixed: bool = False) -> dict[str, Array]:
        """One inference on feeds that fit the signature and the profile. Raises `RunFailed`.

        fixed: the profile takes this one shape, so that the work may be recorded in a CUDA graph.
        """
        fresh = self._settle(feeds, profile)
        if fresh:
            self._may_record = fixed and self._records
        for spec in self._engine.inputs:
            np.copyto(self._buffers[spec.name].array, feeds[spec.name])
        try:
            self._enqueue(fresh)
        finally:
            self._stream.wait()  # nothing may still use the buffers when this returns, failed or not
        self.times = self._stream.times()
        return {spec.name: self._buffers[spec.name].array.copy() for spec in self._engine.outputs}

    def close(self) -> None:
        """Free everything. Once only."""
        with ExitStack() as stack:
            stack.callback(self._resources.close)
            stack.callback(self._drop_graph)
            self._context = None

    def _settle(self, feeds: Feeds, profile: int) -> bool:
        """Give the context shapes and addresses; False when they are those of the last run already."""
        shapes = {spec.name: feeds[spec.name].shape for spec in self._engine.inputs}
        if shapes == self._shapes and not self._reads_host:
            return False
        self._shapes = None
        self._drop_graph()
        self._select(profile)
        for name, shape in shapes.items():
            buffer = self._buffers[name]
            buffer.resize(shape)
            if buffer.on_host:
                np.copyto(buffer.array, feeds[name])
            self._must(self._context.set_input_shape(name, shape), f"the shape {list(shape)} of {name!r}")
            self._must(self._context.set_tensor_address(name, buffer.address), f"memory for {name!r}")
        self._settle_outputs()
        self._shapes = shapes
        return True

    def _select(self, profile: int) -> None:
        if self._context.active_optimization_profile != profile:
            chosen = self._context.set_optimization_profile_async(profile, int(self._stream.handle))
            self._must(chosen, f"optimisation profile {profile}")
            self._stream.wait()

    def _settle_outputs(self) -> None:
        try:
            missing = self._context.infer_shapes()
        except RuntimeError as error:
            raise self._failed(f"cannot infer the outputs' shapes: {error}") from error
        if missing:
            raise self._failed(f"wants more of {', '.join(missing)}")
        for spec in self._engine.outputs:
            shape = tuple(self._context.get_tensor_shape(spec.name))
            if any(size < 0 for size in shape):
                raise RunFailed(
                    f"output {spec.name!r} of {self._engine.path} has a size that depends on the data: "
                    f"{list(shape)}",
                    hint="such outputs are not supported: change the model to pad them to a fixed size",
                )
            buffer = self._buffers[spec.name]
            buffer.resize(shape)
            given = self._context.set_tensor_address(spec.name, buffer.address)
            self._must(given, f"memory for {spec.name!r}")

    def _enqueue(self, fresh: bool) -> None:
        """Copies in, the engine's work, copies out, an event between any two."""
        if not fresh and self._may_record and self._graph is None:
            self._record()
        stream = self._stream
        stream.mark(0)
        for spec in self._engine.inputs:
            self._buffers[spec.name].copy_in(stream)
        stream.mark(1)
        if self._graph is not None:
            self._graph.launch(stream)
        elif not self._execute():
            raise self._failed("cannot run")
        stream.mark(2)
        for spec in self._engine.outputs:
            self._buffers[spec.name].copy_out(stream)
        stream.mark(3)

    def _record(self) -> None:
        """Record the engine's work, which has run once: it may load kernels on its first run only."""
        self._may_record = False
        self._graph = record(self._cuda, self._stream, self._execute)

    def _drop_graph(self) -> None:
        """A graph holds the addresses and shapes that it was recorded with."""
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.free()

    def _execute(self) -> bool:
        return bool(self._context.execute_async_v3(int(self._stream.handle)))

    def _must(self, done: bool, what: str) -> None:
        if not done:
            raise self._failed(f"does not take {what}")

    def _failed(self, how: str) -> RunFailed:
        return RunFailed(f"{self._engine.library.name} {how}, on {self._engine.path}{self._engine.said()}")
