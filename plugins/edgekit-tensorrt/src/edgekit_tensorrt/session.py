"""The session half: opens `engine.plan` on an NVIDIA GPU. Runs where edgekit is not installed."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edgekit_runtime.errors import HardwareMissing, OpenFailed, RunFailed, SessionClosed
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.signatures import check_feeds
from edgekit_runtime.values import OpenRequest, OperatorTime, Placement, Signature
from edgekit_tensorrt.buffers import GpuTimes
from edgekit_tensorrt.description import (
    EngineDescription,
    Here,
    mismatch,
    read_description,
    read_plan,
    rebuild_hint,
    this_system,
)
from edgekit_tensorrt.driver import DEVICE, Cuda, find_gpu
from edgekit_tensorrt.engine import Engine
from edgekit_tensorrt.execution import Execution
from edgekit_tensorrt.inference import Inference
from edgekit_tensorrt.library import Library, is_installed, load_library
from edgekit_tensorrt.observing import observe
from edgekit_tensorrt.ranges import is_fixed, profile_for, usual_feeds


def open_session(request: OpenRequest) -> TensorRtSession:
    """Open the artifact in `request.directory`; raise `OpenFailed` rather than run it otherwise.

    Raises `HardwareMissing` where the artifact is right but this machine has no GPU, or no driver.
    """
    if request.device != DEVICE:
        raise OpenFailed(
            f"backend tensorrt runs on device {DEVICE!r}, not {request.device!r}",
            hint=f'set device = "{DEVICE}" in the target\'s [run]',
        )
    description = read_description(request.directory)
    if description.precision != request.precision:
        raise OpenFailed(
            f"{request.directory} was compiled for {description.precision}, not {request.precision}",
            hint="compile the model for the precision that is wanted",
        )
    plan = read_plan(request.directory, description)
    library = _fitting_library(description, request.directory)
    try:
        return TensorRtSession(library, plan, description, request.directory)
    except RunFailed as error:  # the GPU has no room for it
        raise OpenFailed(error.message, hint=error.hint) from error


def _fitting_library(description: EngineDescription, directory: Path) -> Library:
    """The library that built the engine, on a GPU that it was built for. Nothing has seen the plan yet.

    What differs is told before what is missing, so that an artifact that can run nowhere near is refused
    on a machine without a GPU too.
    """
    name = description.library
    library = load_library(name) if is_installed(name) else None
    here = Here(version=library.version if library else "", system=this_system())
    _refuse_mismatch(description, here, directory)
    gpu = find_gpu()
    library = library or load_library(name)
    here = Here(version=library.version, architecture=gpu.architecture, system=this_system())
    _refuse_mismatch(description, here, directory)
    return library


def _refuse_mismatch(description: EngineDescription, here: Here, directory: Path) -> None:
    problem = mismatch(description, here)
    if not problem:
        return
    hint = rebuild_hint(description, here)
    if not mismatch(description, replace(here, architecture="")):
        raise HardwareMissing(problem, hint=hint)  # on the GPU that it was built for it may well be right
    raise OpenFailed(f"{directory}: {problem}", hint=hint)


class TensorRtSession:
    """An open engine. Implements `edgekit_runtime.session.Session`."""

    def __init__(
        self, library: Library, plan: bytes, description: EngineDescription, directory: Path
    ) -> None:
        """Raises `OpenFailed`, and `RunFailed` where CUDA gives no memory, stream or context."""
        self._description = description
        self._directory = directory
        self._last: Feeds | None = None
        self._cuda = Cuda()
        with ExitStack() as stack:
            stack.callback(self._cuda.close)
            with self._cuda.current(), ExitStack() as made:
                self._engine = Engine(library, plan, description, directory)
                made.callback(self._engine.close)
                self._inference: Inference | None = Inference(self._cuda, self._engine, graphs=True)
                made.pop_all()
            stack.pop_all()

    @property
    def signature(self) -> Signature:
        """Inputs and outputs; TensorRT knows the tensors, the artifact the names of their axes."""
        return self._description.signature

    @property
    def times(self) -> GpuTimes | None:
        """GPU time of the last run beside its copies; None before the first run."""
        return self._opened().times

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """One inference. Feeds are copied in and outputs out, so nobody shares memory with the engine."""
        inference = self._opened()
        check_feeds(self.signature, feeds)
        profile = profile_for(self._description, feeds)
        with self._cuda.current():
            outputs = inference.run(feeds, profile, fixed=is_fixed(self._description, profile))
        self._last = feeds
        return outputs

    def placement(self) -> Placement:
        """Layers that ran, by precision, as the engine inspector tells, with their share of the time."""
        return self._executed().placement()

    def profile(self) -> tuple[OperatorTime, ...]:
        """Share of time of each layer that ran, costliest first."""
        return self._executed().operators()

    def close(self) -> None:
        """Free the engine, its buffers and the GPU's context."""
        inference, self._inference, self._last = self._inference, None, None
        if inference is None:
            return
        with ExitStack() as stack:
            stack.callback(self._cuda.close)
            stack.enter_context(self._cuda.current())
            stack.callback(self._engine.close)
            stack.callback(inference.close)

    def _opened(self) -> Inference:
        if self._inference is None:
            raise SessionClosed(f"the session of {self._directory} is closed")
        return self._inference

    def _executed(self) -> Execution:
        """Look at the engine on the last feeds, or on made-up ones."""
        self._opened()
        candidates = [self._last] if self._last is not None else self._made_up()
        problem: RunFailed | None = None
        for feeds in candidates:
            try:
                with self._cuda.current():
                    return observe(self._cuda, self._engine, self._description, feeds)
            except RunFailed as error:
                problem = error
        raise problem or RunFailed(f"{self._directory} was not run")

    def _made_up(self) -> list[dict[str, Array]]:
        return [usual_feeds(self._description, whole) for whole in (1, 0)]
