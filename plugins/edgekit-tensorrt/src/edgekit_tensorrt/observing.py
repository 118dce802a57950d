"""Looking at an engine while it runs: TensorRT's profiler on a second context, and its engine inspector."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from typing import Any

from edgekit_runtime.session import Feeds
from edgekit_tensorrt.buffers import GpuTimes
from edgekit_tensorrt.description import EngineDescription
from edgekit_tensorrt.driver import Cuda
from edgekit_tensorrt.engine import Engine
from edgekit_tensorrt.execution import Execution, read_layers
from edgekit_tensorrt.inference import Inference
from edgekit_tensorrt.ranges import profile_for

WARMUP_RUNS = 2
MEASURED_RUNS = 10


def observe(cuda: Cuda, engine: Engine, description: EngineDescription, feeds: Feeds) -> Execution:
    """The layers that run on `feeds`, and their times. Inside `Cuda.current()`. Raises `RunFailed`.

    A profiler slows the runs that it sees, so it has a context of its own.
    """
    trt = engine.library.module
    profile = profile_for(description, feeds)
    recorder = _make_recorder(trt)
    watched = Inference(cuda, engine, graphs=False)
    with ExitStack() as stack:
        stack.callback(watched.close)
        for _ in range(WARMUP_RUNS):
            watched.run(feeds, profile)
        times = watched.times
        watched.context.profiler = recorder
        for _ in range(MEASURED_RUNS):
            watched.run(feeds, profile)
        inspector = engine.engine.create_engine_inspector()
        inspector.execution_context = watched.context
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        del inspector
    return Execution(
        layers=read_layers(text),
        milliseconds={name: spent / MEASURED_RUNS for name, spent in recorder.spent.items()},
        source=_source(times),
    )


def _make_recorder(trt: Any) -> Any:
    """A profiler of the library that adds up each layer's milliseconds."""

    class Recorder(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.spent: dict[str, float] = defaultdict(float)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.spent[layer_name] += ms

    return Recorder()


def _source(times: GpuTimes | None) -> str:
    told = f"TensorRT's engine inspector, timed over {MEASURED_RUNS} runs"
    if times is None:
        return told
    return (
        f"{told}; one run without it: {times.engine_ms:.3f} ms on the GPU, "
        f"copies {times.copy_in_ms:.3f} ms in and {times.copy_out_ms:.3f} ms out"
    )
