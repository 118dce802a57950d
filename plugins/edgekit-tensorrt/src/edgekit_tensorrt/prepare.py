"""The graph that TensorRT builds: a strongly typed ONNX file of the precision asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgekit.api import (
    CompileFailed,
    CompileRequest,
    LearntRanges,
    PrecisionNotGiven,
    ProgressCallback,
    check_keep_high,
    passed_through,
)
from edgekit_tensorrt.calibration import rows_of
from edgekit_tensorrt.danger import Danger, find_dangers
from edgekit_tensorrt.eights import EIGHTS
from edgekit_tensorrt.graph import (
    BLOCKS,
    HALF_SCALES,
    Source,
    key,
    open_source,
    read_model,
    with_opset,
)
from edgekit_tensorrt.narrowing import HALVES
from edgekit_tensorrt.numerics import check_numerics
from edgekit_tensorrt.qdq import Quantized, in_full, quantized, weights_only
from edgekit_tensorrt.writing import write_typed

#: Rows on which every node is measured alone, and on which the finished graph is compared.
_MEASURED = 32
_COMPARED = 128
_SHOWN = 8
#: Precisions of weights alone, and how many weights of 4 bits share a scale.
_WEIGHTS_ALONE = {"int8-weights": 0, "int4-weights": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A strongly typed graph. path: the ONNX file, its data beside it; notes: what was done and seen;
    ranges: of activations, as learnt from calibration rows, None where none were."""

    path: Path
    notes: tuple[str, ...] = ()
    ranges: LearntRanges | None = None


def typed_graph(request: CompileRequest, work: Path, progress: ProgressCallback) -> Typed:
    """Write the model in `request.precision` below `work`; its inputs and outputs keep their dtypes.

    fp16 and bf16: all nodes but those that were measured to be harmed. int8 and fp8: products with stored
    weights from calibration rows, the rest as in fp16; int8-weights and int4-weights: those weights alone.
    Nodes in `request.keep_high` stay in fp32. A model that has the precision by itself is taken as it is.
    The numbers of a graph that was written are compared with those of the model first: raises
    `PrecisionNotGiven` where they are far off or where rows are lacking, `UnknownName` for a name in
    keep_high, `CompileFailed` for a model or rows that do not work.
    """
    note = _checked(read_model(request.model), request)
    if note or request.precision == "fp32":
        return Typed(path=request.model, notes=(note,) if note else ())
    if request.precision in EIGHTS:
        _check_learning(request)
    source = open_source(request.model, work)
    half = HALVES.get(request.precision, HALVES["fp16"])
    covered, notes = _covered(source, request, progress)
    found = find_dangers(source, half, rows_of(request, most=_MEASURED), progress)
    kept = {key(node) for node in source.model.graph.node if node.name in request.keep_high}
    high = kept | found.high | set(in_full(source, covered))
    written = write_typed(_raised(source, covered), half, high, work / "typed.onnx", covered)
    compared = rows_of(request, most=_COMPARED)
    agreement = check_numerics(source, written, compared, request.precision, progress)
    (work / "weights.data").unlink(missing_ok=True)
    notes.append(f"{written.low} of {len(source.model.graph.node)} nodes compute in {half.word}")
    if found.dangers:
        notes.append(f"kept in fp32 because {half.word} would harm them: {_listed(found.dangers)}")
    notes.append(f"on {compared}, rounded as the graph says, outputs are {agreement}")
    return Typed(path=written.path, notes=tuple(notes), ranges=covered.ranges)


def _check_learning(request: CompileRequest) -> None:
    if request.calibration is None:
        raise PrecisionNotGiven(
            f"{request.precision} learns the ranges of activations from calibration rows, and there are none",
            hint="--calibration FILE, with some hundred rows like those the model will see",
        )
    if request.precision == "fp8" and request.options.get("ranges") == "entropy":
        raise CompileFailed(
            "option ranges = entropy weighs histograms of evenly spaced values, which those of fp8 are not",
            hint="--option ranges=minmax or ranges=percentile",
        )


def _covered(
    source: Source, request: CompileRequest, progress: ProgressCallback
) -> tuple[Quantized, list[str]]:
    """What is quantized, and what to note of it; nothing in 16 bits."""
    if request.precision in _WEIGHTS_ALONE:
        covered = weights_only(source, request.keep_high, _WEIGHTS_ALONE[request.precision])
        blocks = f", in blocks of {covered.block} that share a scale" if covered.block else ""
        return covered, [f"the weights of {len(covered.products)} products have lower precision{blocks}"]
    if request.precision not in EIGHTS:
        return Quantized(), []
    eight, rows = EIGHTS[request.precision], rows_of(request)
    covered = quantized(source, rows, eight, progress)
    kinds = Counter(node.op_type for node in source.model.graph.node if key(node) in covered.products)
    shown = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    notes = [f"{shown} with stored weights are {eight.word}, with ranges from {rows}"]
    if covered.factors:
        evened = f"{len(covered.factors)} of {len(covered.scales)} activations"
        notes.append(f"{evened} have channels evened out before rounding")
    return covered, notes


def _raised(source: Source, covered: Quantized) -> Source:
    """The model in an operator set that has the quantizers which are put in.

    TensorRT takes int8 with 16-bit scales in older sets too, so those stay where a model cannot be converted.
    """
    if not covered.products:
        return source
    needed = BLOCKS if covered.block else HALF_SCALES
    raised = with_opset(source, needed)
    if raised.opset < needed and (covered.block or not covered.eight.whole):
        word = "int4-weights" if covered.block else covered.eight.word
        raise PrecisionNotGiven(
            f"{word} needs ONNX operator set {needed}, and the model of set {source.opset} cannot be "
            "converted to it",
            hint=f"export the model with operator set {needed}",
        )
    return raised


def _checked(model: onnx.ModelProto, request: CompileRequest) -> str:
    """What to note of a model that was quantized to `request.precision` before; "" for one that was not.

    Refuses one of another precision, and one that holds 16-bit weights: nothing could be promised for it.
    """
    check_keep_high(model.graph, request.keep_high)
    given = passed_through(model, request)
    if not given and any(tensor.data_type in _CODES for tensor in model.graph.initializer):
        raise PrecisionNotGiven(
            f"{request.model} holds 16-bit weights, so {request.precision} cannot be promised",
            hint="export the model in float32",
        )
    return given


_CODES = tuple(half.code for half in HALVES.values())


def _listed(dangers: Iterable[Danger]) -> str:
    named = [str(danger) for danger in dangers]
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return ", ".join(named[:_SHOWN]) + more
