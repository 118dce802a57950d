"""One build: from an ONNX file to the bytes of an engine. What the library answers with None, False or -1
becomes an error with the library's own words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edgekit.api import CompileFailed, ProgressCallback, Signature
from edgekit_tensorrt.description import Profile
from edgekit_tensorrt.library import RTX, STANDARD, Library
from edgekit_tensorrt.log import Log, cleaned, make_log
from edgekit_tensorrt.parsing import make_builder, network_mismatch, parse

#: Seconds between two looks at a build that runs beside.
_LOOK = 0.1
_MIB = 1 << 20
_MOST_MIB = 1 << 20
#: What the library says when the sizes of a profile contradict the graph. It builds all the same.
_CONTRADICTS = re.compile(r"Profile k(MIN|MAX) values are not self-consistent\.? *(.*)", re.DOTALL)
_SIZES = re.compile(r"Total (Activation|Weights) Memory: (\d+) bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """Of one build. architectures: as "sm_89", one or more; workspace_mib: 0 sets no limit;
    timing: an earlier timing cache, b"" for none (standard TensorRT only)."""

    architectures: tuple[str, ...]
    profiles: tuple[Profile, ...] = ()
    workspace_mib: int = 0
    optimization_level: int = 3
    timing: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An engine. plan: its bytes, in the library's own memory; timing: the timing cache, b"" for none;
    activations, weights: bytes of GPU memory by the library's own count, 0 when it does not say."""

    plan: memoryview
    timing: bytes = b""
    activations: int = 0
    weights: int = 0


class OutOfRange(Exception):
    """A profile's smallest (lower) or largest sizes contradict the graph. reason: the library's words."""

    def __init__(self, reason: str, *, lower: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lower = lower


def build(
    library: Library, model: Path, signature: Signature, settings: BuildSettings, progress: ProgressCallback
) -> Built:
    """Build one engine. Ctrl-C stops it at the library's next step.

    Raises `CompileFailed` with the library's own lines; `OutOfRange` for a profile that contradicts
    the graph.
    """
    trt, log = library.module, make_log(library)
    builder = make_builder(library, log)
    network, parser = parse(library, builder, log, model)
    mismatch = network_mismatch(trt, network, signature)
    if mismatch:
        raise CompileFailed(f"the graph is not what its signature says: {mismatch}")
    config = _configured(library, builder, settings, log)
    watch = _make_watch(trt, log)
    config.progress_monitor = watch
    with ThreadPoolExecutor(max_workers=1) as beside:
        running = beside.submit(builder.build_serialized_network, network, config)
        _await(running, watch, progress, library)
    try:
        plan = running.result()
    except (TypeError, ValueError, RuntimeError) as error:  # pybind11's words for what C++ threw
        raise CompileFailed(f"{library.name} {library.version} failed: {error}") from error
    del parser  # it holds the weights that the network refers to
    contradiction = _contradiction(log)
    if contradiction is not None:
        raise contradiction
    if plan is None:
        raise failed(library, log, "did not build it")
    timing = _timing(config) if library.name == STANDARD else b""
    sizes = _sizes(log)
    return Built(
        plan=memoryview(plan),
        timing=timing,
        activations=sizes.get("Activation", 0),
        weights=sizes.get("Weights", 0),
    )


def failed(library: Library, log: Log, what: str) -> CompileFailed:
    """The error for a call that gave nothing, in the library's own words."""
    lines = cleaned(log.errors())
    said = "; ".join(lines[:4]) or "it gave no reason"
    return CompileFailed(f"{library.name} {library.version} {what}: {said}", hint=_hint(said))


def _hint(said: str) -> str:
    if "OutOfMemory" in said:
        return "a smaller profile, a smaller workspace_mib, or a GPU with more memory"
    if "violate shape constraints" in said:
        return "the model does not take these sizes: the target's [workload], or the option profiles"
    return "another precision, other profiles, or nodes kept high (--keep-high) may build"


def _configured(library: Library, builder: Any, settings: BuildSettings, log: Log) -> Any:
    trt = library.module
    config = builder.create_builder_config()
    if config is None:
        raise failed(library, log, "makes no configuration")
    # TF32 would multiply "fp32" with 10 bits of mantissa, and it is on unless it is taken off.
    config.clear_flag(trt.BuilderFlag.TF32)
    # So that the engine inspector can tell precisions layer by layer when a session is open.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = settings.optimization_level
    if not 0 <= settings.workspace_mib <= _MOST_MIB:
        raise CompileFailed(f"workspace_mib is {settings.workspace_mib}, not 0 to {_MOST_MIB}")
    if settings.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib * _MIB)
    if library.name == RTX:
        _aim(library, config, settings.architectures, log)
    else:
        _give_timing(library, config, settings.timing, log)
    for place, profile in enumerate(settings.profiles):
        _add_profile(library, builder, config, profile, place, log)
    return config


def _aim(library: Library, config: Any, architectures: Sequence[str], log: Log) -> None:
    """Say what to build for. Every place must be set: the library fails oddly over one that is not."""
    words = library.module.ComputeCapability
    config.num_compute_capabilities = len(architectures)
    for place, architecture in enumerate(architectures):
        member = words.__members__.get(architecture.upper().replace("_", ""))
        if member is None or not config.set_compute_capability(member, place):
            raise failed(library, log, f"does not build for {architecture}")


def _give_timing(library: Library, config: Any, timing: bytes, log: Log) -> None:
    cache = config.create_timing_cache(timing)
    if cache is None or not config.set_timing_cache(cache, False):
        raise failed(library, log, "does not take the timing cache")


def _timing(config: Any) -> bytes:
    return bytes(config.get_timing_cache().serialize())


def _add_profile(library: Library, builder: Any, config: Any, profile: Profile, place: int, log: Log) -> None:
    made = builder.create_optimization_profile()
    for item in profile.ranges:
        try:
            made.set_shape(item.name, item.smallest, item.usual, item.largest)
        except (RuntimeError, ValueError, TypeError) as error:
            raise CompileFailed(f"profile {place}: input {item.name!r}: {error}") from error
    if config.add_optimization_profile(made) < 0:
        raise failed(library, log, f"does not take profile {place}")


def _await(running: Future[Any], watch: Any, progress: ProgressCallback, library: Library) -> None:
    """Wait for the build. Progress is told from here: an exception must not cross the library's own frames,
    and neither must Ctrl-C. Either stops the build."""
    told = ("", 0)
    try:
        while not wait([running], timeout=_LOOK).done:
            if watch.state != told:
                told = watch.state
                progress(told[1], watch.steps, f"{library.name}: {told[0]}")
    finally:
        watch.stop()


def _make_watch(trt: ModuleType, log: Log) -> Any:
    """A progress monitor: called by the library from the thread that builds, read by the one that waits.

    state: the innermost phase, and how many of the `steps` of the outermost are done.

    `step_complete` returns False to stop the build: when told to, and when the library has found that a
    profile contradicts the graph, since that engine would not be used.
    """

    class Watch(trt.IProgressMonitor):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.state = ("", 0)
            self.steps = 0
            self._open: list[str] = []
            self._done = 0
            self._stopped = False

        def stop(self) -> None:
            self._stopped = True

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._open.append(name)
            if parent is None:
                self._done, self.steps = 0, steps
            self.state = (name, self._done)

        def step_complete(self, name: str, step: int) -> bool:
            if self._open[:1] == [name]:
                self._done = step + 1
                self.state = (name, self._done)
            return not self._stopped and _contradiction(log) is None

        def phase_finish(self, name: str) -> None:
            if name in self._open:
                self._open.remove(name)

    return Watch()


def _contradiction(log: Log) -> OutOfRange | None:
    for message in log.warnings():
        found = _CONTRADICTS.search(message)
        if found:
            words = " ".join(cleaned([found[2]]))
            return OutOfRange(words, lower=found[1] == "MIN")
    return None


def _sizes(log: Log) -> dict[str, int]:
    """Memory by the library's own count; of several profiles the most."""
    found: dict[str, int] = {}
    for _, message in list(log.heard):
        for word, size in _SIZES.findall(message):
            found[word] = max(found.get(word, 0), int(size))
    return found
