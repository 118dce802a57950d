"""Lower precisions: which way is taken, by where the model's weights are and what was asked for."""

from __future__ import annotations

from edgekit.api import CompileRequest, LearntRanges, PrecisionNotGiven, ProgressCallback
from edgekit_onnxruntime import dynamic
from edgekit_onnxruntime.arithmetic import arithmetic
from edgekit_onnxruntime.graph import load_graph
from edgekit_onnxruntime.plan import Plan, plan
from edgekit_onnxruntime.session import MODEL_FILE
from edgekit_onnxruntime.settings import Settings

#: Precisions of weights alone, and a block of them where none is asked for.
_BLOCK_SIZE = {"int8-weights": 128, "int4-weights": 32}


def quantize(
    request: CompileRequest, progress: ProgressCallback
) -> tuple[tuple[str, ...], tuple[str, ...], LearntRanges | None]:
    """Write the model in `request.precision`; return its files, notes, and the ranges that it learnt.

    Raises `PrecisionNotGiven` where the precision has too little to gain or rows are lacking.
    """
    planned = plan(load_graph(request.model), request.keep_high)
    if request.precision in _BLOCK_SIZE:
        from edgekit_onnxruntime import weights  # the library's quantizer takes a second to import

        planned.check(request.precision, convolutions=False)
        return *weights.build(request, planned, _settings(request, signed=True)), None
    method = planned.method(
        str(request.options.get("method", "auto")), calibrated=request.calibration is not None
    )
    if method == "static" and request.calibration is None:
        raise _no_rows(planned)
    planned.check("int8", convolutions=method == "static")
    choice = arithmetic(request.target, str(request.options.get("weight_type", "auto")))
    settings = _settings(request, signed=choice.signed)
    ranges = None
    if method == "static":
        from edgekit_onnxruntime import static  # it imports the library's calibrators, which take a second

        files, notes, ranges = static.build(request, planned, settings, progress)
    else:
        files, notes = dynamic.build(request, planned, settings, progress)
    return files, (notes[0], *choice.why, *notes[1:]), ranges


def _settings(request: CompileRequest, *, signed: bool) -> Settings:
    options = request.options
    return Settings(
        output=request.workdir / MODEL_FILE,
        signed=signed,
        per_channel=bool(options.get("per_channel", True)),
        embeddings=bool(options.get("embeddings", True)),
        smooth=bool(options.get("smooth", True)),
        ranges=str(options.get("ranges", "auto")),
        block_size=int(options.get("block_size", 0)) or _BLOCK_SIZE.get(request.precision, 0),
        symmetric=bool(options.get("symmetric", True)),
        algorithm=str(options.get("algorithm", "rtn")),
        keep_high=request.keep_high,
    )


def _no_rows(planned: Plan) -> PrecisionNotGiven:
    return PrecisionNotGiven(
        f"static int8 learns the ranges of activations from calibration rows, and there are none; "
        f"dynamic int8, which needs none, would cover {planned.share():.0%} of the weights",
        hint="--calibration FILE, with some hundred rows like those the model will see",
    )
