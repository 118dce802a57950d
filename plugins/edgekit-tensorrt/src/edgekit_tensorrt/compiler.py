"""The compile half: ONNX to a TensorRT engine, in the precision asked for."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from edgekit.api import (
    BackendUnavailable,
    Compiled,
    CompileFailed,
    CompileRequest,
    HardwareMissing,
    OpenFailed,
    PrecisionNotGiven,
    Probe,
    ProgressCallback,
    Support,
    Target,
    load_graph,
)
from edgekit_tensorrt.architectures import (
    Choice,
    choose,
    chosen,
    precisions_of,
    refuse_missing,
    refuse_precision,
)
from edgekit_tensorrt.building import BuildSettings, Built, OutOfRange, build
from edgekit_tensorrt.description import (
    DESCRIPTION_FILE,
    PLAN_FILE,
    EngineDescription,
    read_header,
    this_system,
)
from edgekit_tensorrt.driver import GpuInfo, find_gpu
from edgekit_tensorrt.library import RTX, STANDARD, Library, is_installed, load_library
from edgekit_tensorrt.parsing import parser_report, to_support
from edgekit_tensorrt.prepare import typed_graph
from edgekit_tensorrt.profiles import (
    Ranges,
    narrowed,
    of_inputs,
    plan_profiles,
    shown,
    unsized_axes,
)

TIMING_FILE = "timing.cache"
_MIB = 1 << 20
#: So often are sizes halved or doubled at most before a profile is given up.
_TRIES = 40
#: Bytes of a plan that hold its head.
_HEAD = 64
_ELSEWHERE = (
    'build on the target\'s own machine: `builds_on = "target"` in [compile] of the target, and `uri` in '
    "[device], or --device"
)


class Compiler:
    """Implements `edgekit.backend.Compiler`."""

    def probe(self) -> Probe:
        """Which of the two libraries load here."""
        found, problems = {}, []
        for name in (RTX, STANDARD):
            try:
                found[name] = load_library(name).version
            except OpenFailed as error:
                problems.append(f"{error.message} ({error.hint})")
        if not found:
            return Probe(available=False, reason="; ".join(problems))
        return Probe(available=True, versions={**found, "onnx": onnx.__version__})

    def check(self, model: Path, target: Target) -> Support:
        """The parser's own report, operator by operator."""
        source = load_graph(model)
        options = target.compile.options
        choice = choose(target, str(options.get("library", "auto")), str(options.get("architectures", "")))
        if choice.library == RTX:
            return to_support(parser_report(_loaded(choice), model), source)
        try:
            find_gpu()  # standard TensorRT may not be started without one
        except HardwareMissing:
            if is_installed(RTX):
                return _checked_from_afar(model, source)
        library = _loaded(choice)
        _require_gpu()
        return to_support(parser_report(library, model), source)

    def compile(self, request: CompileRequest, progress: ProgressCallback) -> Compiled:
        """Write `engine.plan` and `engine.json`, and for standard TensorRT `timing.cache`."""
        progress(0, 3, "reading the model")
        load_graph(request.model)
        choice = chosen(request)
        refuse_precision(choice, request.precision)
        library = _loaded(choice)
        choice = _on_this_machine(choice)
        refuse_precision(choice, request.precision)
        words = str(request.options.get("profiles", "auto"))
        plans = plan_profiles(words, request.signature, request.target, request.axes)
        with tempfile.TemporaryDirectory(prefix="edgekit-tensorrt-") as work:
            typed = typed_graph(request, Path(work), progress)
            job = _Job(library=library, choice=choice, request=request, model=typed.path)
            built, plans = job.built(plans, widen=words == "auto", progress=progress)
        progress(2, 3, "writing")
        files = job.write(built, plans)
        progress(3, 3, "done")
        return Compiled(
            files=files,
            precision=request.precision,
            engine_versions={library.name: library.version, "onnx": onnx.__version__},
            notes=(*typed.notes, *job.notes(built, plans)),
            ranges=typed.ranges,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What is built, with what and for what. model: the typed graph."""

    library: Library
    choice: Choice
    request: CompileRequest
    model: Path

    def built(
        self, plans: tuple[Ranges, ...], *, widen: bool, progress: ProgressCallback
    ) -> tuple[Built, tuple[Ranges, ...]]:
        """The engine and the ranges that it takes: as asked; of a wide one as much as the model takes."""
        signature = self.request.signature
        for _ in range(_TRIES):
            try:
                return build(self.library, self.model, signature, self._settings(plans), progress), plans
            except OutOfRange as problem:
                smaller = narrowed(plans[-1], lower=problem.lower) if widen and plans else None
                if smaller is None:
                    raise CompileFailed(
                        f"the {'smallest' if problem.lower else 'largest'} sizes of a profile contradict "
                        f"{self.request.model}: {problem.reason}",
                        hint="give sizes that it takes: the target's [workload], or the option profiles",
                    ) from problem
                plans = (*plans[:-1], smaller)
            except CompileFailed as error:
                raise self._in_words(error) from error
        raise CompileFailed(f"{self.request.model}: no profile was found that fits it")

    def write(self, built: Built, plans: tuple[Ranges, ...]) -> tuple[str, ...]:
        """Put the files into the workdir; their names."""
        request = self.request
        header = read_header(bytes(built.plan[:_HEAD]))
        if header is not None and set(header.architectures) != set(self.choice.architectures):
            raise CompileFailed(
                f"{self.library.name} was asked for {', '.join(self.choice.architectures)} and built for "
                f"{', '.join(header.architectures)}"
            )
        (request.workdir / PLAN_FILE).write_bytes(built.plan)
        EngineDescription(
            library=self.library.name,
            version=self.library.version,
            architectures=self.choice.architectures,
            system=this_system(),
            precision=request.precision,
            signature=request.signature,
            profiles=tuple(of_inputs(ranges, request.signature) for ranges in plans),
        ).write(request.workdir)
        if not built.timing:
            return (PLAN_FILE, DESCRIPTION_FILE)
        (request.workdir / TIMING_FILE).write_bytes(built.timing)
        return (PLAN_FILE, DESCRIPTION_FILE, TIMING_FILE)

    def notes(self, built: Built, plans: tuple[Ranges, ...]) -> tuple[str, ...]:
        """What is worth saying of the engine."""
        request = self.request
        workspace = int(request.options.get("workspace_mib", 0))
        unsized = unsized_axes(request.signature, request.target)
        found = [
            f"built by {self.library.name} {self.library.version} for {', '.join(self.choice.architectures)} "
            f"on {this_system()}"
        ]
        found += [f"takes {shown(ranges)}" for ranges in plans]
        if unsized and request.options.get("profiles", "auto") in ("auto", "workload"):
            found.append(f"the workload has no size for {', '.join(unsized)}: the best size is made up")
        if built.activations or built.weights:
            activations, weights = (size / _MIB for size in (built.activations, built.weights))
            found.append(
                f"GPU memory by the library's own count: {weights:.0f} MiB for weights and {activations:.0f} "
                "MiB for activations of the largest sizes"
            )
        if workspace:
            found.append(f"workspace at most {workspace} MiB")
        return tuple(found)

    def _settings(self, plans: tuple[Ranges, ...]) -> BuildSettings:
        options = self.request.options
        return BuildSettings(
            architectures=self.choice.architectures,
            profiles=tuple(of_inputs(ranges, self.request.signature) for ranges in plans),
            workspace_mib=int(options.get("workspace_mib", 0)),
            optimization_level=int(options.get("optimization_level", 3)),
            timing=self._timing(str(options.get("timing_cache", ""))),
        )

    def _timing(self, named: str) -> bytes:
        if not named:
            return b""
        if self.library.name == RTX:
            raise CompileFailed(f"{RTX} has no timing cache", hint="leave timing_cache out")
        try:
            return Path(named).read_bytes()
        except OSError as error:
            raise CompileFailed(f"timing_cache {named} cannot be read: {error.strerror or error}") from error

    def _in_words(self, error: CompileFailed) -> CompileFailed | PrecisionNotGiven:
        """A precision that the architecture lacks for one operator is no fault of the model."""
        message = f"{self.request.model}: {error.message}"
        if "FP32 GEMM is not supported" not in error.message:
            return CompileFailed(message, hint=error.hint)
        offered = ", ".join(word for word in precisions_of(self.choice) if word != "fp32")
        return PrecisionNotGiven(
            f"{self.request.precision} cannot be given on sm_75: {message}",
            hint=f"Turing GPUs multiply in 16 or 8 bits here: choose one of {offered}, or leave out sm_75",
        )


def _loaded(choice: Choice) -> Library:
    refuse_missing(choice)
    try:
        return load_library(choice.library)
    except OpenFailed as error:
        raise BackendUnavailable(error.message, hint=error.hint) from error


def _on_this_machine(choice: Choice) -> Choice:
    """The choice with the architecture that is built for. Standard TensorRT builds on the GPU itself.

    Raises BackendUnavailable where there is none, or another one than is wanted.
    """
    if choice.library == RTX:
        return choice
    wanted = ", ".join(choice.architectures)
    gpu = _require_gpu()
    if wanted and gpu.architecture != wanted:
        raise BackendUnavailable(
            f"{STANDARD} builds for the GPU that is here, {gpu.name} ({gpu.architecture}), not for {wanted}",
            hint=_ELSEWHERE,
        )
    return replace(choice, architectures=(gpu.architecture,))


def _require_gpu() -> GpuInfo:
    try:
        return find_gpu()
    except HardwareMissing as error:
        raise BackendUnavailable(
            f"{STANDARD} builds on the GPU that the engine is for: {error.message}", hint=_ELSEWHERE
        ) from error


def _checked_from_afar(model: Path, source: onnx.ModelProto) -> Support:
    """What the sister library's parser says, where standard TensorRT has no GPU to start on.

    It is no answer of the library that will build, so it refuses nothing.
    """
    library = load_library(RTX)
    found = to_support(parser_report(library, model), source)
    rows = tuple(
        row if row.supported else replace(row, supported=True, reason=f"in doubt: {row.reason}")
        for row in found.operators
    )
    note = f"asked of {library.name} {library.version}: {STANDARD} answers on the target's own machine only"
    return Support(supported=True, operators=rows, notes=(note, *found.notes))
