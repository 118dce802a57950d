"""The compile half: ONNX to OpenVINO's own format, in the precision asked for."""

from __future__ import annotations

import contextlib
import re
from importlib import metadata
from pathlib import Path

import onnx

from edgekit.api import (
    Compiled,
    CompileFailed,
    CompileRequest,
    OpenFailed,
    OpenRequest,
    OperatorSupport,
    PrecisionNotGiven,
    Probe,
    ProgressCallback,
    Support,
    Target,
    all_nodes,
    operator_counts,
    operator_name,
    passed_through,
)
from edgekit_openvino.description import Description, signature_mismatch
from edgekit_openvino.engine import DEVICE, HINTS, WEIGHTS_ONLY, missing_capability, ov, version
from edgekit_openvino.lowering import LOWERED, lower
from edgekit_openvino.names import kept_nodes, load_graph
from edgekit_openvino.session import MODEL_FILE, WEIGHTS_FILE, open_session

#: How conversion reports name operators; the second wording is that of OpenVINO 2026.0.
_BLAMED = (
    (r"No conversion rule found for operations: (.+)", "OpenVINO has no conversion for it"),
    (r"does not support the following ONNX operations: (.+)", "OpenVINO has no conversion for it"),
    (r"Conversion is failed for: (.+)", "OpenVINO could not convert it as it stands in this graph"),
)


class Compiler:
    """Implements `edgekit.backend.Compiler`."""

    def probe(self) -> Probe:
        """Whether OpenVINO has its CPU plugin here."""
        there = DEVICE in ov.Core().available_devices
        reason = "" if there else f"OpenVINO {version()} has no CPU plugin on this machine"
        return Probe(available=there, reason=reason, versions=versions())

    def check(self, model: Path, target: Target) -> Support:
        """Let OpenVINO convert the model and ask its CPU plugin about every node."""
        source = load_graph(model)
        core = ov.Core()
        refused, note = _refused_operators(core, model, source)
        operators = tuple(
            OperatorSupport(
                op_type=name, count=count, supported=name not in refused, reason=refused.get(name, "")
            )
            for name, count in sorted(operator_counts(source.graph).items())
        )
        return Support(supported=not refused and not note, operators=operators, notes=(note,) if note else ())

    def compile(self, request: CompileRequest, progress: ProgressCallback) -> Compiled:
        """Write `model.xml` and `model.bin`; then open them once as a device would."""
        progress(0, 3, "reading the model")
        core = ov.Core()
        source = load_graph(request.model)
        _check_precision(core, request.precision)
        given = passed_through(source, request)
        model = _read(core, request.model)
        mismatch = signature_mismatch(model, request.signature)
        if mismatch:
            raise CompileFailed(f"{request.model} is not what its signature says: {mismatch}")
        kept = kept_nodes(model, source, request.keep_high)
        _check_whole(request)
        description, notes = _description(request)
        _check_capable(core, description.rest)
        ranges = None
        if given:
            notes = (given, *notes)
        elif request.precision in LOWERED:
            model, said, ranges = lower(core, model, request, kept, progress)
            notes = (*said, *notes)
        progress(1, 3, "writing")
        description.write(model)
        # fp16 is computed in 16 bits, so its weights lose nothing by being stored so.
        ov.save_model(model, request.workdir / MODEL_FILE, compress_to_fp16=request.precision == "fp16")
        progress(2, 3, "opening the result")
        _open_once(request)
        progress(3, 3, "done")
        return Compiled(
            files=(MODEL_FILE, WEIGHTS_FILE),
            precision=request.precision,
            engine_versions=versions(),
            notes=notes,
            ranges=ranges,
        )


def versions() -> dict[str, str]:
    """Versions of what makes the artifact."""
    found = {"openvino": version(), "onnx": onnx.__version__}
    with contextlib.suppress(metadata.PackageNotFoundError):
        found["nncf"] = metadata.version("nncf")
    return found


def _check_precision(core: ov.Core, precision: str) -> None:
    if precision not in HINTS:
        raise PrecisionNotGiven(f"OpenVINO has no precision {precision!r}", hint=f"one of {', '.join(HINTS)}")
    _check_capable(core, precision)


def _check_whole(request: CompileRequest) -> None:
    if request.keep_high and request.precision in ("bf16", "fp16"):
        raise PrecisionNotGiven(
            f"OpenVINO computes a whole graph in {request.precision}: no node can be kept high",
            hint="leave --keep-high out, or compile for int8",
        )


def _check_capable(core: ov.Core, precision: str) -> None:
    problem = missing_capability(core, precision)
    if problem:
        raise PrecisionNotGiven(
            problem, hint="compile on the target's own machine, or choose another precision"
        )


def _read(core: ov.Core, path: Path) -> ov.Model:
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise CompileFailed(
            f"OpenVINO {version()} cannot convert {path}: {_short(error)}",
            hint="the backend's check names refused operators; weights beside the file must be complete",
        ) from error


def _description(request: CompileRequest) -> tuple[Description, tuple[str, ...]]:
    """What the artifact says of itself, and what to note."""
    if request.precision not in WEIGHTS_ONLY:
        return Description(signature=request.signature, precision=request.precision), ()
    rest = str(request.options.get("rest", "fp32"))
    described = Description(signature=request.signature, precision=request.precision, rest=rest)
    return described, (f"what is not weights is computed in {rest}",)


def _open_once(request: CompileRequest) -> None:
    wish = OpenRequest(directory=request.workdir, precision=request.precision, threads=request.threads)
    try:
        open_session(wish).close()
    except OpenFailed as error:
        kind = CompileFailed if request.precision == "fp32" else PrecisionNotGiven
        raise kind(f"{request.model}: {error.message}", hint=error.hint) from error


def _refused_operators(core: ov.Core, path: Path, source: onnx.ModelProto) -> tuple[dict[str, str], str]:
    """ONNX operators that are not taken, with the reason; and a reason that names no operator."""
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        refused = _unconverted(str(error))
        return refused, "" if refused else _short(error)
    taken = core.query_model(model, DEVICE)
    left = {node.get_friendly_name() for node in model.get_ops()} - set(taken)
    refused = {
        operator_name(node): "OpenVINO's CPU plugin does not execute it"
        for node in all_nodes(source.graph)
        if node.name in left or any(output in left for output in node.output)
    }
    return refused, f"the CPU plugin refuses {', '.join(sorted(left))}" if left and not refused else ""


def _unconverted(report: str) -> dict[str, str]:
    """Operators that OpenVINO's conversion report names: those without a rule, else those that failed.

    Once an operator has no rule, later ones fail for want of its types: only the first is to blame.
    """
    for pattern, reason in _BLAMED:
        found = re.search(pattern, report)
        if found:
            names = (re.sub(r"-\d+$", "", name.strip()) for name in found[1].split(","))
            return dict.fromkeys(names, reason)
    return {}


def _short(error: RuntimeError) -> str:
    """The engine's words without the places in its source; of a long report only the summary."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Summary:" in lines:
        lines = lines[lines.index("Summary:") + 1 :]
    kept = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return " ".join(kept[:6]) or str(error)
